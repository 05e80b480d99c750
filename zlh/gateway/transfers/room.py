"""Room on the disks of containers: what uploads may still bring, together."""

from __future__ import annotations

from collections import Counter

from zlh.gateway.refusals import Refusal
from zlh.model.agent_calls import AgentPlace


class Rooms:
    """What is promised to uploads under way counts as used, so that two do not get the same place. What has arrived
    of them is in the use that the agent tells, or soon will be; should both be off, the disk itself says no."""

    def __init__(self) -> None:
        self._promised: Counter[int] = Counter()

    def enter(self, vmid: int, place: AgentPlace, wanted: int | None) -> Room:
        """Room for `wanted` bytes (None: nobody knows how many), to be left. Raises Refusal 413 "disk_full"."""
        room = Room(self, vmid, place, place.disk_bytes - (place.used_bytes or 0) - self._promised[vmid])
        room.promise(wanted or 0)
        return room

    def promised(self, vmid: int) -> int:
        """Bytes."""
        return self._promised[vmid]

    def change(self, vmid: int, size: int) -> None:
        self._promised[vmid] += size
        if not self._promised[vmid]:
            del self._promised[vmid]


class Room:
    def __init__(self, rooms: Rooms, vmid: int, place: AgentPlace, free: int) -> None:
        self._rooms = rooms
        self._vmid = vmid
        self._place = place
        self._free = free
        self._promised = 0
        self._taken = 0

    def promise(self, size: int) -> None:
        self._check(size)
        self._promised += size
        self._rooms.change(self._vmid, size)

    def take(self, size: int) -> None:
        """So many bytes more are on their way to the disk. Raises Refusal 413."""
        self._taken += size
        kept = min(size, self._promised)
        if kept < size:
            self._check(self._taken)
        self._promised -= kept
        self._rooms.change(self._vmid, -kept)

    def leave(self) -> None:
        """May be called more than once."""
        self._rooms.change(self._vmid, -self._promised)
        self._promised = 0

    def _check(self, wanted: int) -> None:
        if wanted > self._free:
            raise Refusal(
                413,
                "there is not so much room on the container's disk",
                code="disk_full",
                details={"limit": self._place.disk_bytes, "used": self._place.used_bytes, "wanted": wanted},
            )
