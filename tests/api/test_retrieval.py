"""A suspended server is on for a while, so that its data can be fetched."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.world import PAPER, World
from zlh.model.access import Permission
from zlh.model.accounts import Role
from zlh.model.errors import ConflictError


def address(vmid: int) -> str:
    return f"/api/servers/{vmid}/retrieval"


async def test_it_begins_with_an_operation_and_goes_on_without(world: World) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    await world.suspend(ada)
    begun = await world.call("POST", address(vmid), token)
    assert (begun.status, begun.json["operation"]["kind"]) == (202, "start_host")
    shown = (await world.call("GET", f"/api/servers/{vmid}", token)).json
    assert shown["retrievalUntil"] == begun.json["retrievalUntil"] is not None
    longer = await world.call("POST", address(vmid), token, {"minutes": 30})
    assert (longer.status, longer.json["operation"]) == (200, None)
    assert world.fleet.calls == [("retrieve", vmid, 3600.0, ada.id), ("retrieve", vmid, 1800.0, ada.id)]
    audit = (await world.call("GET", "/api/audit?action=host.retrieval", token)).json["audit"]
    assert [row["details"]["minutes"] for row in audit] == [30, 60]


@pytest.mark.parametrize("minutes", [4, 241, 0, -5, "60", 7.5, None])
async def test_a_time_that_is_none(world: World, minutes: Any) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    answer = await world.call("POST", address(vmid), token, {"minutes": minutes})
    assert (answer.status, answer.json["details"][0]["field"]) == (400, "minutes")
    assert world.fleet.calls == []


async def test_the_fleets_refusal_is_told(world: World) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    world.fleet.refuse = ConflictError("the account is not suspended", code="not_suspended")
    answer = await world.call("POST", address(vmid), token)
    assert (answer.status, answer.json["code"]) == (409, "not_suspended")


async def test_the_owner_and_operators_may_and_nobody_else(world: World) -> None:
    ada, _ = await world.account("ada")
    bob, bobs = await world.account("bob")
    _, operators = await world.account("op", Role.OPERATOR)
    vmid = world.fleet.add(ada, PAPER).vmid
    assert (await world.call("POST", address(vmid), bobs)).status == 404
    world.access.shares_changed(vmid, {bob.id: [Permission.FILES, Permission.POWER]})
    assert (await world.call("POST", address(vmid), bobs)).json["code"] == "not_permitted"
    await world.suspend(ada)
    assert (await world.call("POST", address(vmid), operators)).status == 202
