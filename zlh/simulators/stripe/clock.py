"""Time: that of the account, and that of each test clock, which stands still until it is advanced.

A **line** is whose time it is: a test clock's id, or None for the account's own, which is the wall clock plus what
was advanced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from zlh.simulators.stripe.errors import Document

Line = str | None


class Clock:
    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self.offset = 0.0
        self.frozen: dict[str, int] = {}
        self._held: dict[Line, int] = {}

    def now(self, line: Line = None) -> int:
        if line in self._held:
            return self._held[line]
        if line is not None and line in self.frozen:
            return self.frozen[line]
        return int(self._wall() + self.offset)

    @contextmanager
    def held(self, line: Line, moment: int) -> Iterator[None]:
        """While something happens that was due at that moment."""
        self._held[line] = moment
        try:
            yield
        finally:
            del self._held[line]


def line_of(document: Document) -> Line:
    line = document.get("test_clock")
    return line if isinstance(line, str) else None
