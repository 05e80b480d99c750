"""Room on a disk: what several uploads bring, together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from zlh.gateway.refusals import Refusal
from zlh.gateway.transfers.room import Room, Rooms
from zlh.model.agent_calls import AgentPlace

VMID = 5001
PLACE = AgentPlace("127.0.0.1", 18888, "token", disk_bytes=100, used_bytes=0)


def refused(room: Room, size: int) -> bool:
    try:
        room.take(size)
    except Refusal as refusal:
        return (refusal.status, refusal.code) == (413, "disk_full")
    return False


def test_those_of_unknown_length_share_the_disk() -> None:
    rooms = Rooms()
    one, two = rooms.enter(VMID, PLACE, None), rooms.enter(VMID, PLACE, None)
    assert not refused(one, 60)
    assert not refused(two, 40)
    assert refused(two, 1)
    assert refused(one, 1)


def test_what_was_promised_is_kept_free() -> None:
    rooms = Rooms()
    open_end, sure = rooms.enter(VMID, PLACE, None), rooms.enter(VMID, PLACE, 70)
    assert not refused(open_end, 30)
    assert refused(open_end, 1)
    assert not refused(sure, 70), "a promise is kept"
    with pytest.raises(Refusal):
        rooms.enter(VMID, PLACE, 1)


def test_what_came_before_counts_for_those_who_come_later() -> None:
    rooms = Rooms()
    assert not refused(rooms.enter(VMID, PLACE, None), 60)
    with pytest.raises(Refusal):
        rooms.enter(VMID, PLACE, 41)
    rooms.enter(VMID, PLACE, 40)


def test_what_the_agent_has_counted_is_not_counted_twice() -> None:
    rooms = Rooms()
    long = rooms.enter(VMID, replace(PLACE, used_bytes=10), None)
    assert not refused(long, 50)
    later = rooms.enter(VMID, replace(PLACE, used_bytes=60), None)
    assert not refused(later, 40)
    assert refused(later, 1)


def test_who_left_holds_nothing() -> None:
    rooms = Rooms()
    for _ in range(3):
        room = rooms.enter(VMID, PLACE, None)
        assert not refused(room, 100)
        room.leave()
        room.leave()
    with pytest.raises(Refusal):
        rooms.enter(VMID, PLACE, 101)
    assert rooms.taken(VMID) == 0


def test_another_containers_disk_is_another() -> None:
    rooms = Rooms()
    rooms.enter(VMID, PLACE, 100)
    assert not refused(rooms.enter(VMID + 1, PLACE, None), 100)
