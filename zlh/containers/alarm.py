"""One task that nudges containers when their time has come, so that ten thousand waits cost one timer."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import trio

from actors import Context


class Alarm:
    """At most one pending time per container: the earliest asked for. Outlives a crash of its task."""

    def __init__(self, nudge: Callable[[int], None]) -> None:
        self._nudge = nudge
        self._due: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []
        self._wake = trio.Event()

    def set(self, vmid: int, seconds: float) -> None:
        """Nudges `vmid` in `seconds` from now, unless an earlier time is already set."""
        at = trio.current_time() + max(0.0, seconds)
        if self._due.get(vmid, at + 1.0) <= at:
            return
        self._due[vmid] = at
        heapq.heappush(self._heap, (at, vmid))
        if self._heap[0] == (at, vmid):
            self._wake.set()

    def clear(self, vmid: int) -> None:
        self._due.pop(vmid, None)

    async def run(self, ctx: Context) -> None:
        """The supervised task: sleeps until the earliest time."""
        ctx.started()
        while True:
            self._ring()
            at = self._heap[0][0] if self._heap else trio.current_time() + 3600.0
            with trio.move_on_at(at):
                await self._wake.wait()
            self._wake = trio.Event()

    def _ring(self) -> None:
        now = trio.current_time()
        while self._heap and self._heap[0][0] <= now:
            at, vmid = heapq.heappop(self._heap)
            if self._due.get(vmid) == at:
                del self._due[vmid]
                self._nudge(vmid)
