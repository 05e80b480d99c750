"""Operations as they move: side by side on a terminal, elsewhere one line for every step that ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from zlh.demo.screen import Mark, Screen, seconds, symbol

MARKS = {
    "pending": Mark.WAITING,
    "started": Mark.ACTIVE,
    "done": Mark.DONE,
    "failed": Mark.FAILED,
    "undoing": Mark.ACTIVE,
    "undone": Mark.FAILED,
}
STEPS = {
    "clone": "clone the template",
    "configure": "configure",
    "resize": "grow the disk",
    "start": "start the container",
    "address": "learn its address",
    "agent": "reach the agent",
    "config": "send the configuration",
    "running": "install and run",
    "shutdown": "shut down",
    "destroy": "destroy",
}
SIDE_BY_SIDE = 88


class Timeline:
    """The operations by title, in the order of `titles`, as the API last told them."""

    def __init__(self, screen: Screen, titles: Iterable[str]) -> None:
        self._screen = screen
        self._titles = tuple(titles)
        self._operations: dict[str, Mapping[str, Any]] = {}
        self._told: set[tuple[str, str]] = set()
        self._spinner = Spinner("dots", style="cyan")

    def update(self, title: str, operation: Mapping[str, Any]) -> None:
        self._operations[title] = operation
        if not self._screen.live:
            self._tell(title, operation)

    def _tell(self, title: str, operation: Mapping[str, Any]) -> None:
        for step in operation["steps"]:
            if step["endedAt"] and (title, step["name"]) not in self._told:
                self._told.add((title, step["name"]))
                note = step["error"] or step["note"]
                words = "ok    " if step["state"] == "done" else "FAILED"
                more = f"  ({note})" if note else ""
                name = STEPS.get(step["name"], step["name"])
                self._screen.verbatim(f"  {words}  {duration(step):5.1f} s  {title}: {name}{more}")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        begun = [title for title in self._titles if title in self._operations]
        pictures = [self._picture(title, self._operations[title]) for title in begun]
        if len(pictures) == 2 and options.max_width >= SIDE_BY_SIDE:
            pair = Table.grid(padding=(0, 3), expand=True)
            pair.add_column(ratio=1)
            pair.add_column(ratio=1)
            pair.add_row(*pictures)
            yield Padding(pair, (0, 0, 0, 2))
        else:
            yield Padding(Group(*pictures), (0, 0, 0, 2))

    def _picture(self, title: str, operation: Mapping[str, Any]) -> RenderableType:
        head = Text(title, style="bold").append(f"  vmid {operation['vmid']}", style="dim")
        if operation["queued"]:
            head.append("  waits for its turn", style="yellow")
        elif operation["state"] not in ("running", "succeeded"):
            head.append(f"  {operation['state']}", style="bold red")
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(width=1)
        table.add_column(no_wrap=True, width=22)
        table.add_column(justify="right", no_wrap=True, width=6)
        table.add_column(style="dim", no_wrap=True, overflow="ellipsis", ratio=1)
        for step in operation["steps"]:
            mark = MARKS[step["state"]]
            name = Text(STEPS.get(step["name"], step["name"]), style="dim" if mark is Mark.WAITING else "")
            note = step["error"] or step["note"] or ""
            table.add_row(symbol(mark, self._spinner), name, seconds(duration(step)), note)
        return Group(head, table)


def duration(step: Mapping[str, Any]) -> float:
    """Seconds from the step's beginning to its end, or to now."""
    if not step["startedAt"]:
        return 0.0
    end = datetime.fromisoformat(step["endedAt"]) if step["endedAt"] else datetime.now(UTC)
    return max(0.0, (end - datetime.fromisoformat(step["startedAt"])).total_seconds())
