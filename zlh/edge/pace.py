"""No more changes in a second than a target wants."""

from __future__ import annotations

from math import inf

import trio


class Pace:
    """`per_second` on average; `most` at once after a rest."""

    def __init__(self, per_second: float, most: int) -> None:
        self._per_second = per_second
        self._most = float(most)
        self._left = float(most)
        self._at = -inf

    async def take(self, count: int) -> None:
        """Waits until `count` more may be made."""
        now = trio.current_time()
        self._left = min(self._most, self._left + (now - self._at) * self._per_second)
        self._at = now
        self._left -= count
        if self._left < 0:
            await trio.sleep(-self._left / self._per_second)
