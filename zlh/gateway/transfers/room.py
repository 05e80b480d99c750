"""Room on the disks of containers: what uploads may still bring, together."""

from __future__ import annotations

from zlh.gateway.refusals import Refusal
from zlh.model.agent_calls import AgentPlace


class Rooms:
    """What uploads under way have brought, and what is promised to them, counts as used, so that two do not get the
    same place. What those before them brought is in the use that the agent tells, or soon will be; should it be off,
    the disk itself says no."""

    def __init__(self) -> None:
        self._open: dict[int, list[Room]] = {}

    def enter(self, vmid: int, place: AgentPlace, wanted: int | None) -> Room:
        """Room for `wanted` bytes (None: nobody knows how many), to be left. Raises Refusal 413 "disk_full"."""
        room = Room(self, vmid, place, wanted or 0)
        self._open.setdefault(vmid, []).append(room)
        try:
            room.check(room.promised)
        except Refusal:
            room.leave()
            raise
        return room

    def taken(self, vmid: int) -> int:
        """Bytes of the container's disk: as the agent told last, or more where that does not have yet what arrived,
        and what is promised beyond that."""
        rooms = self._open.get(vmid, ())
        arrived = min((room.used for room in rooms), default=0) + sum(room.arrived for room in rooms)
        told = rooms[-1].used if rooms else 0
        return max(told, arrived) + sum(max(0, room.promised - room.arrived) for room in rooms)

    def discard(self, vmid: int, room: Room) -> None:
        """No-op for one that is gone."""
        rooms = self._open.get(vmid, [])
        if room in rooms:
            rooms.remove(room)
        if not rooms:
            self._open.pop(vmid, None)


class Room:
    """One upload's. All in bytes: `used` of the disk when it began, `promised` to it, and `arrived` of it."""

    def __init__(self, rooms: Rooms, vmid: int, place: AgentPlace, promised: int) -> None:
        self.used = place.used_bytes or 0
        self.promised = promised
        self.arrived = 0
        self._rooms = rooms
        self._vmid = vmid
        self._place = place

    def take(self, size: int) -> None:
        """So many bytes more are on their way to the disk. Raises Refusal 413."""
        self.arrived += size
        if self.arrived > self.promised:
            self.check(self.arrived)

    def leave(self) -> None:
        """May be called more than once."""
        self._rooms.discard(self._vmid, self)

    def check(self, wanted: int) -> None:
        """Raises Refusal 413 where the disk does not hold all that counts; `wanted` is what the refusal says."""
        if self._rooms.taken(self._vmid) > self._place.disk_bytes:
            raise Refusal(
                413,
                "there is not so much room on the container's disk",
                code="disk_full",
                details={"limit": self._place.disk_bytes, "used": self._place.used_bytes, "wanted": wanted},
            )
