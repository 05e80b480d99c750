"""Wakes whoever waits for "something changed", who then looks for itself."""

from __future__ import annotations

import trio


class Bell:
    """Ring it after a change. Check the condition, then wait, with no checkpoint in between: no ring gets lost."""

    __slots__ = ("_rung",)

    def __init__(self) -> None:
        self._rung: trio.Event | None = None

    def ring(self) -> None:
        rung, self._rung = self._rung, None
        if rung is not None:
            rung.set()

    async def wait(self) -> None:
        if self._rung is None:
            self._rung = trio.Event()
        await self._rung.wait()
