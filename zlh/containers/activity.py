"""The uses of all containers, counted in memory: nothing of it outlives the process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from zlh.model.activity import Usage, Use


class Uses:
    """Implements `zlh.model.activity.Activity`. `now` gives Unix seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._open: dict[int, Counter[Use]] = {}
        self._at: dict[int, dict[Use, float]] = {}

    def touched(self, vmid: int, use: Use) -> None:
        self._at.setdefault(vmid, {})[use] = self._now()

    def opened(self, vmid: int, use: Use) -> None:
        self._open.setdefault(vmid, Counter())[use] += 1
        self.touched(vmid, use)

    def closed(self, vmid: int, use: Use) -> None:
        self.touched(vmid, use)
        counts = self._open.get(vmid, Counter())
        counts[use] -= 1
        if counts[use] <= 0:
            del counts[use]
        if not counts:
            self._open.pop(vmid, None)

    def of(self, vmid: int) -> Usage:
        return Usage(dict(self._open.get(vmid, {})), dict(self._at.get(vmid, {})))

    def forget(self, vmid: int) -> None:
        """The container is gone. What is still open there is closed later, and counts for nobody."""
        self._at.pop(vmid, None)
        self._open.pop(vmid, None)
