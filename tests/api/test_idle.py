"""After how long without use an IDE is stopped, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.api.world import NODE, PAPER, World, open_world
from zlh.model.access import Permission
from zlh.model.activity import Idle, Usage, Use
from zlh.store import containers


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    async with open_world(postgres_url) as world:
        yield world


async def test_it_is_off_until_the_owner_wishes_it(world: World) -> None:
    ada, token = await world.account("ada")
    bob, others = await world.account("bob")
    row, game = world.fleet.add(ada, NODE), world.fleet.add(ada, PAPER)
    await world.services.database.run(containers.insert, [row, game])
    address = f"/api/dev/{row.vmid}/code-server/settings"
    assert (await world.call("GET", address, token)).json == {"idleStopMinutes": None}
    for minutes in (30, 10, None, 10080):
        answer = await world.call("PATCH", address, token, {"idleStopMinutes": minutes})
        assert answer.json == (await world.call("GET", address, token)).json == {"idleStopMinutes": minutes}
    for wrong in ({}, {"idleStopMinutes": 9}, {"idleStopMinutes": 10081}, {"idleStopMinutes": "30"}):
        assert (await world.call("PATCH", address, token, wrong)).status == 400
    assert (await world.call("GET", address, others)).status == 404
    # Who may use the IDE sees why it stops, but it is the owner's to decide.
    world.access.shares_changed(row.vmid, {bob.id: [Permission.IDE]})
    assert (await world.call("GET", address, others)).json == {"idleStopMinutes": 10080}
    assert (await world.call("PATCH", address, others, {"idleStopMinutes": None})).status == 403
    for method, body in (("GET", None), ("PATCH", {"idleStopMinutes": 30})):
        elsewhere = f"/api/dev/{game.vmid}/code-server/settings"
        assert (await world.call(method, elsewhere, token, body)).status == 404


async def test_the_warning_is_part_of_the_server(world: World) -> None:
    ada, token = await world.account("ada")
    row = world.fleet.add(ada, NODE)
    address = f"/api/servers/{row.vmid}"
    assert (await world.call("GET", address, token)).json["idle"] is None
    usage = Usage({}, {Use.IDE: 1_700_000_000.0})
    world.fleet.projection.cell(row.vmid).set_idle(Idle(1_700_000_000.0, 1_700_003_600.0, usage))
    assert (await world.call("GET", address, token)).json["idle"] == {
        "since": "2023-11-14T22:13:20.000Z",
        "stopsAt": "2023-11-14T23:13:20.000Z",
        "evidence": {
            "ideConnections": 0,
            "consoleViewers": 0,
            "lastIde": "2023-11-14T22:13:20.000Z",
            "lastConsole": None,
            "lastCall": None,
        },
    }
