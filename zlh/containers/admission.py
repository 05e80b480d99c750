"""Who may run an operation now: a number of places, handed out in turn among the owners who wait."""

from __future__ import annotations

from collections import OrderedDict, deque


class Admission:
    """A fixed number of places. Waiting owners take turns, each owner's own operations are served in order, so one
    customer with fifty operations delays another's single one by at most one place.

    Synchronous and without a clock; the caller nudges whoever `leave` returns.
    """

    def __init__(self, places: int) -> None:
        if places < 1:
            raise ValueError("there must be at least one place")
        self.places = places
        self._inside: set[int] = set()
        self._waiting: OrderedDict[int, deque[int]] = OrderedDict()

    @property
    def inside(self) -> frozenset[int]:
        return frozenset(self._inside)

    @property
    def waiting(self) -> int:
        return sum(len(queue) for queue in self._waiting.values())

    def enter(self, vmid: int, owner_id: int) -> bool:
        """True when `vmid` has a place (also when it had one already); otherwise it waits in line, once."""
        if vmid in self._inside:
            return True
        self._join(vmid, owner_id)
        return vmid in self._grant()

    def leave(self, vmid: int) -> list[int]:
        """Gives up the place, or the place in line; returns the vmids that were given a place by it."""
        self._inside.discard(vmid)
        for owner_id, queue in list(self._waiting.items()):
            if vmid in queue:
                queue.remove(vmid)
                if not queue:
                    del self._waiting[owner_id]
        return self._grant()

    def _join(self, vmid: int, owner_id: int) -> None:
        queue = self._waiting.setdefault(owner_id, deque())
        if vmid not in queue:
            queue.append(vmid)

    def _grant(self) -> list[int]:
        granted: list[int] = []
        while self._waiting and len(self._inside) < self.places:
            owner_id, queue = next(iter(self._waiting.items()))
            vmid = queue.popleft()
            self._inside.add(vmid)
            granted.append(vmid)
            if queue:
                self._waiting.move_to_end(owner_id)
            else:
                del self._waiting[owner_id]
        return granted
