"""Wishes for idle IDEs: at most one for each container, which they go with."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from tests.store.samples import NOW, VMIDS, add_account, reserve
from zlh.model.errors import AbsentError
from zlh.store import containers, idle_stops


def test_a_wish_lives_and_goes_with_its_container(connection: sa.Connection) -> None:
    ada = add_account(connection, "ada")
    row, _ = reserve(connection, ada.id)
    vmid = row.vmid
    assert idle_stops.get(connection, vmid) is None
    for minutes in (30, 60):
        idle_stops.put(connection, vmid, minutes)
        assert idle_stops.get(connection, vmid) == minutes
    assert idle_stops.all_minutes(connection) == {vmid: 60}
    moved = containers.renumber(connection, vmid, vmids=VMIDS, now=NOW)[0]
    assert idle_stops.all_minutes(connection) == {moved.vmid: 60}
    idle_stops.put(connection, moved.vmid, None)
    idle_stops.put(connection, moved.vmid, None)
    assert idle_stops.all_minutes(connection) == {}
    idle_stops.put(connection, moved.vmid, 10)
    containers.delete(connection, moved.vmid)
    assert idle_stops.all_minutes(connection) == {}
    with pytest.raises(AbsentError):
        idle_stops.put(connection, moved.vmid, 10)
