"""The figures of one benchmark, for people."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rich.table import Table

from tests.bench.figures import Figure

VERDICTS = {None: "", True: "[green]met[/]", False: "[bold red]MISSED[/]"}


def table(name: str, figures: Iterable[Figure], seconds: float) -> Table:
    """What stands before a colon in their names is told once for all that share it."""
    rows = Table(title=f"{name} ({seconds:.0f} s)", title_justify="left", show_edge=False)
    rows.add_column("figure")
    rows.add_column("value", justify="right")
    rows.add_column("aim", justify="right")
    rows.add_column("")
    rows.add_column("note", style="dim")
    subject = ""
    for figure in figures:
        about, colon, what = figure.name.rpartition(": ")
        if about != subject:
            subject = about
            rows.add_section()
            if about:
                rows.add_row(f"[bold]{about}[/]")
        value = f"{number(figure.value)} {figure.unit}"
        rows.add_row(f"  {what}" if colon else what, value, aim(figure), VERDICTS[figure.met], figure.note)
    return rows


def aim(figure: Figure) -> str:
    if figure.aim is None:
        return ""
    return f"{'≥' if figure.aim.at_least else '≤'} {number(figure.aim.value)}"


def number(value: float) -> str:
    """Three digits that count, at least all before the point."""
    if math.isnan(value):
        return "none"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"
