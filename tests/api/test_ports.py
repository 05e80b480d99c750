"""Forwarded ports over HTTP: who opens and closes them, and who gets the way to one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.api.world import NODE, PAPER, World, open_world
from zlh.accounts import IDE_TOKEN_SECONDS
from zlh.model.access import Permission
from zlh.model.accounts import Account
from zlh.model.containers import Container
from zlh.store import containers


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    async with open_world(postgres_url, zone="ide.example") as world:
        yield world


async def workshop(world: World, owner: Account) -> Container:
    row = world.fleet.add(owner, NODE)
    await world.services.database.run(containers.insert, [row])
    return row


async def test_a_port_is_opened_changed_and_closed(world: World) -> None:
    ada, token = await world.account("ada")
    vmid = (await workshop(world, ada)).vmid
    ports = f"/api/dev/{vmid}/ports"
    assert (await world.call("GET", ports, token)).json == {"ports": []}
    opened = await world.call("POST", ports, token, {"port": 3000, "label": "  shop "})
    assert opened.status == 201
    made = opened.json["port"]
    created = made.pop("createdAt")
    assert made == {
        "port": 3000,
        "visibility": "private",
        "label": "shop",
        "url": f"https://p3000-{vmid}.ide.example/",
    }
    changed = await world.call("PATCH", f"{ports}/3000", token, {"visibility": "public"})
    assert changed.json["port"] == {**made, "visibility": "public", "createdAt": created}
    assert (await world.call("PATCH", f"{ports}/3000", token, {})).status == 400
    assert (await world.call("GET", ports, token)).json == {"ports": [changed.json["port"]]}
    assert (await world.call("DELETE", f"{ports}/3000", token)).json == {"ok": True}
    assert (await world.call("DELETE", f"{ports}/3000", token)).status == 404
    assert (await world.call("PATCH", f"{ports}/3000", token, {"label": "x"})).status == 404
    assert (await world.call("GET", ports, token)).json == {"ports": []}


async def test_what_cannot_be_opened(world: World) -> None:
    ada, token = await world.account("ada")
    vmid = (await workshop(world, ada)).vmid
    ports = f"/api/dev/{vmid}/ports"
    for port in (8443, 18888):
        answer = await world.call("POST", ports, token, {"port": port})
        assert (answer.status, answer.json["code"]) == (400, "reserved_port")
    for port in (0, -1, 65536, "80", 80.5, True, None):
        assert (await world.call("POST", ports, token, {"port": port})).status == 400
    for visibility in ("everybody", "", 1, None):
        body = {"port": 80, "visibility": visibility}
        assert (await world.call("POST", ports, token, body)).status == 400
    assert (await world.call("POST", ports, token, {"port": 80, "label": "x" * 65})).status == 400
    for odd in ("0", "080", "65536", "99999", "8o"):
        assert (await world.call("DELETE", f"{ports}/{odd}", token)).status == 404
    assert (await world.call("GET", ports, token)).json == {"ports": []}
    game = world.fleet.add(ada, PAPER).vmid
    calls = (("GET", "", None), ("POST", "", {"port": 80}), ("PATCH", "/80", {"label": "x"}), ("DELETE", "/80", None))
    for method, below, body in calls:
        answer = await world.call(method, f"/api/dev/{game}/ports{below}", token, body)
        assert (answer.status, answer.json["error"]) == (404, "there is no such server")


async def test_the_record_says_which_port_was_refused(world: World) -> None:
    ada, token = await world.account("ada")
    vmid = (await workshop(world, ada)).vmid
    assert (await world.call("POST", f"/api/dev/{vmid}/ports", token, {"port": 18888})).status == 400
    act = (await world.call("GET", "/api/audit", token)).json["audit"][0]
    assert (act["action"], act["outcome"], act["details"]) == ("port.open", "refused", {"port": 18888})


async def test_there_are_twenty_at_most_and_each_once(world: World) -> None:
    ada, token = await world.account("ada")
    vmid = (await workshop(world, ada)).vmid
    ports = f"/api/dev/{vmid}/ports"
    for port in range(1, 21):
        assert (await world.call("POST", ports, token, {"port": port})).status == 201
    again = await world.call("POST", ports, token, {"port": 20})
    assert (again.status, again.json["code"]) == (409, "already_forwarded")
    more = await world.call("POST", ports, token, {"port": 21})
    assert (more.status, more.json["code"], more.json["details"]) == (409, "too_many_ports", {"limit": 20})
    await world.call("DELETE", f"{ports}/1", token)
    assert (await world.call("POST", ports, token, {"port": 21})).status == 201


async def test_who_gets_the_way_to_a_port(world: World) -> None:
    ada, owner = await world.account("ada")
    bob, other = await world.account("bob")
    vmid = (await workshop(world, ada)).vmid
    ports = f"/api/dev/{vmid}/ports"
    way = f"{ports}/3000/token"
    assert (await world.call("POST", way, owner)).status == 404
    await world.call("POST", ports, owner, {"port": 3000})
    given = (await world.call("POST", way, owner)).json
    assert given == {
        "token": given["token"],
        "url": f"https://p3000-{vmid}.ide.example/?token={given['token']}",
        "expiresIn": IDE_TOKEN_SECONDS,
    }
    assert (await world.call("POST", way, other)).status == 404
    world.access.shares_changed(vmid, {bob.id: [Permission.FILES]})
    assert (await world.call("POST", way, other)).status == 403
    world.access.shares_changed(vmid, {bob.id: [Permission.IDE]})
    assert (await world.call("POST", way, other)).status == 200
    world.access.shares_changed(vmid, {})
    await world.call("PATCH", f"{ports}/3000", owner, {"visibility": "signed_in"})
    assert (await world.call("POST", way, other)).status == 200
    # What is open to every account is not therefore theirs to see or to change.
    assert (await world.call("GET", ports, other)).status == 404
    assert (await world.call("DELETE", f"{ports}/3000", other)).status == 404
    assert (await world.call("POST", way)).status == 401


async def test_without_host_names_a_port_has_no_address(postgres_url: str) -> None:
    async with open_world(postgres_url) as world:
        ada, token = await world.account("ada")
        vmid = (await workshop(world, ada)).vmid
        opened = await world.call("POST", f"/api/dev/{vmid}/ports", token, {"port": 3000})
        assert opened.json["port"]["url"] is None
        answer = await world.call("POST", f"/api/dev/{vmid}/ports/3000/token", token)
        assert (answer.status, answer.json["code"]) == (409, "no_host_names")


async def test_the_ide_has_a_host_of_its_own(world: World) -> None:
    ada, token = await world.account("ada")
    vmid = (await workshop(world, ada)).vmid
    issued = (await world.call("POST", f"/api/dev/{vmid}/ide-token", token)).json
    assert issued["url"] == f"https://ide-{vmid}.ide.example/?token={issued['token']}"
