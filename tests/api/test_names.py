"""Names that owners choose, over HTTP; what becomes of them outside is tested in tests/edge."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.test_audit import written
from tests.api.world import PAPER, World
from zlh.api.names import Renamed
from zlh.model.accounts import Role
from zlh.model.errors import ConflictError, InvalidError


async def choose(world: World, token: str, vmid: int, name: Any) -> Any:
    return await world.call("PUT", f"/api/servers/{vmid}/name", token, {"name": name})


async def test_an_owner_chooses_a_name_and_gives_it_up(world: World) -> None:
    ada, token = await world.account("ada")
    row = world.fleet.add(ada, PAPER)
    chosen = await choose(world, token, row.vmid, "Castle")
    assert chosen.status == 200
    assert Renamed.model_validate_json(chosen.raw) == Renamed(ok=True, name="castle", hostname="castle")
    assert (await world.call("GET", f"/api/servers/{row.vmid}", token)).json["dnsName"] == "castle"
    given_up = await world.call("DELETE", f"/api/servers/{row.vmid}/name", token)
    assert given_up.json == {"ok": True, "name": None, "hostname": row.hostname}
    assert world.fleet.calls == [("rename", row.vmid, "castle"), ("rename", row.vmid, None)]
    entries = await written(world, action="container.rename")
    assert {entry.details.get("name") for entry in entries} == {"castle", None}


@pytest.mark.parametrize("name", ["", "ab", "castle-5001", "ide-castle", "a.b.c", "cästle", 5001, None, ["castle"]])
async def test_what_is_no_name_never_reaches_the_fleet(world: World, name: Any) -> None:
    ada, token = await world.account("ada")
    answer = await choose(world, token, world.fleet.add(ada, PAPER).vmid, name)
    assert answer.status == 400
    assert [problem["field"] for problem in answer.json["details"]] == ["name"]
    assert world.fleet.calls == []


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (ConflictError("another container has the name castle", code="name_taken"), 409),
        (InvalidError("castle is a reserved name", code="name_reserved"), 400),
        (ConflictError("the container is being deleted", code="deleting"), 409),
    ],
)
async def test_refusals(world: World, refusal: ConflictError | InvalidError, status: int) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    world.fleet.refuse = refusal
    answer = await choose(world, token, vmid, "castle")
    assert (answer.status, answer.json["code"]) == (status, refusal.code)


async def test_only_owners_and_operators_choose(world: World) -> None:
    ada, _ = await world.account("ada")
    _, bobs = await world.account("bob")
    _, operators = await world.account("op", Role.OPERATOR)
    vmid = world.fleet.add(ada, PAPER).vmid
    assert (await choose(world, bobs, vmid, "castle")).status == 404
    assert (await world.call("DELETE", f"/api/servers/{vmid}/name", bobs)).status == 404
    assert (await choose(world, operators, vmid, "castle")).status == 200
