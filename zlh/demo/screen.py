"""What the demo shows: on a terminal a checklist that moves, elsewhere one plain line for everything that ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from types import TracebackType

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

FRAMES_PER_SECOND = 10


class Mark(Enum):
    WAITING = "waiting"
    ACTIVE = "active"
    DONE = "done"
    FAILED = "failed"


SYMBOLS = {Mark.WAITING: ("·", "dim"), Mark.DONE: ("✓", "green"), Mark.FAILED: ("✗", "bold red")}


class Screen:
    """`live` says whether lines may be drawn over. Everything goes to standard output."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.live = self.console.is_terminal

    def say(self, text: RenderableType = "") -> None:
        """Lines of text are broken by the terminal, not by us: they can be copied and searched for."""
        self.console.print(text, soft_wrap=isinstance(text, str | Text))

    def verbatim(self, text: str, style: str = "") -> None:
        """Text for copying: nothing in it is markup, and no line of it is broken."""
        self.console.print(text, style=style or None, markup=False, soft_wrap=True)

    def complain(self, text: str) -> None:
        self.say(Text("✗ ", style="bold red").append(text, style="default"))

    @contextmanager
    def drawing(self, picture: RenderableType) -> Iterator[None]:
        """Draws `picture` anew all the time on a terminal, and leaves its last state there."""
        if not self.live:
            yield
            return
        spent = Live(picture, console=self.console, refresh_per_second=FRAMES_PER_SECOND, redirect_stdout=False)
        with spent:
            yield

    def checklist(self, title: str = "") -> Checklist:
        return Checklist(self, title)


class Row:
    """One line of a checklist. As a context manager it is active in the block, then done or failed."""

    def __init__(self, label: str, ended: Callable[[Row], None], now: Callable[[], float] = time.monotonic) -> None:
        self.label = label
        self.note = ""
        self.mark = Mark.WAITING
        self.spinner = Spinner("dots", style="cyan")
        self._ended = ended
        self._now = now
        self._begun = self._end = 0.0

    @property
    def seconds(self) -> float:
        """How long it took, or has taken so far."""
        if self.mark is Mark.WAITING:
            return 0.0
        return (self._end or self._now()) - self._begun

    def __enter__(self) -> Row:
        self.mark, self._begun = Mark.ACTIVE, self._now()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end = self._now()
        self.mark = Mark.DONE if error is None else Mark.FAILED
        if isinstance(error, Exception) and not isinstance(error, ExceptionGroup):
            self.note = str(error) or type(error).__name__
        self._ended(self)


class Checklist:
    """Rows in the order in which they were made. A context manager: it is drawn in the block."""

    def __init__(self, screen: Screen, title: str) -> None:
        self._screen = screen
        self._title = title
        self._drawing = screen.drawing(self)
        self.rows: list[Row] = []

    def row(self, label: str) -> Row:
        made = Row(label, self._row_ended)
        self.rows.append(made)
        return made

    def __enter__(self) -> Checklist:
        if self._title:
            self._screen.say(Text(self._title, style="bold"))
        self._drawing.__enter__()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._drawing.__exit__(exc_type, error, traceback)

    def _row_ended(self, row: Row) -> None:
        if not self._screen.live:
            words = "ok    " if row.mark is Mark.DONE else "FAILED"
            note = f"  ({row.note})" if row.note else ""
            self._screen.verbatim(f"  {words}  {row.seconds:5.1f} s  {row.label}{note}")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table.grid(padding=(0, 1), expand=False)
        table.add_column(width=1)
        table.add_column(no_wrap=True, min_width=34)
        table.add_column(justify="right", no_wrap=True, min_width=7)
        table.add_column(style="dim", no_wrap=True, overflow="ellipsis")
        for row in self.rows:
            table.add_row(symbol(row.mark, row.spinner), label(row), seconds(row.seconds), row.note)
        yield Padding(Group(table), (0, 0, 0, 2))


def symbol(mark: Mark, spinner: Spinner) -> RenderableType:
    if mark is Mark.ACTIVE:
        return spinner
    character, style = SYMBOLS[mark]
    return Text(character, style=style)


def label(row: Row) -> Text:
    return Text(row.label, style="dim" if row.mark is Mark.WAITING else "")


def seconds(value: float) -> Text:
    return Text(f"{value:.1f} s" if value >= 0.05 else "", style="cyan")
