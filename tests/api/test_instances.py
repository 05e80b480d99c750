from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.api.world import GOOD_INSTANCE, PAPER, World
from zlh.api import answers
from zlh.model.accounts import Role
from zlh.model.containers import Resources
from zlh.model.errors import PlanLimitError, UnavailableError
from zlh.store import StoreUnavailable


async def test_create_list_and_read(world: World) -> None:
    ada, token = await world.account("ada")
    answer = await world.call("POST", "/api/instances", token, GOOD_INSTANCE | {"customerId": "77", "unknown": 1})
    assert answer.status == 202
    created = answers.Created.model_validate_json(answer.raw)
    assert created.operation.kind == "provision"
    call = world.fleet.calls[0]
    assert call[0:2] == ("create", ada.id)
    assert call[2].resources == Resources(1024, 2, 10)
    assert (call[2].ports, call[2].software.world, call[2].name) == ((25565,), "world", "minecraft")
    listed = await world.call("GET", "/api/instances", token)
    rows = answers.Instances.model_validate_json(listed.raw).rows
    assert [row.vmid for row in rows] == [created.vmid]
    one = await world.call("GET", f"/api/instances/{created.vmid}", token)
    assert one.json["row"] == listed.json["rows"][0]
    assert b"agent-secret-token" not in listed.raw + answer.raw
    assert b"UPID" not in answer.raw
    _, other = await world.account("bob")
    assert (await world.call("GET", "/api/instances", other)).json["rows"] == []


@pytest.mark.parametrize("name", ["ctype", "containerType", "container_type"])
async def test_the_three_names_of_the_type(world: World, name: str) -> None:
    _, token = await world.account("ada")
    body = {name: "dev", "runtime": "node", "version": "22", "game": "", "variant": None}
    assert (await world.call("POST", "/api/instances", token, body)).status == 202
    assert world.fleet.calls[0][2].ports == ()


BAD_WISHES: list[tuple[dict[str, Any], str]] = [
    ({"ctype": "vm"}, "invalid"),
    ({"game": None}, "invalid"),
    ({"version": ""}, "invalid"),
    ({"memoryMiB": "1024"}, "invalid"),
    ({"memoryMiB": 1}, "invalid"),
    ({"memoryMiB": 2**80}, "invalid"),
    ({"memoryMiB": 1024.5}, "invalid"),
    ({"cpuCores": 0}, "invalid"),
    ({"ports": [80, 80]}, "invalid"),
    ({"ports": [70000]}, "invalid"),
    ({"ports": list(range(1, 20))}, "invalid"),
    ({"world": "../../etc"}, "invalid"),
    ({"game": "../etc"}, "invalid"),
    ({"name": "x" * 65}, "invalid"),
    ({"name": "a\nb"}, "invalid"),
    ({"version": "9.9.9"}, "not_in_catalog"),
    ({"variant": "forge"}, "not_in_catalog"),
]


async def test_bad_wishes(world: World) -> None:
    _, token = await world.account("ada")
    for changes, code in BAD_WISHES:
        answer = await world.call("POST", "/api/instances", token, GOOD_INSTANCE | changes)
        assert (answer.status, answer.json["code"]) == (400, code), answer.raw
    assert world.fleet.calls == []


async def test_all_problems_at_once(world: World) -> None:
    _, token = await world.account("ada")
    answer = await world.call("POST", "/api/instances", token, {"ctype": "game", "memoryMiB": "x", "ports": [0, "y"]})
    assert {problem["field"] for problem in answer.json["details"]} == {"memoryMiB", "ports.0", "ports.1"}


async def test_no_plan_and_too_small_a_plan(world: World) -> None:
    _, planless = await world.account("bob", plan=None)
    answer = await world.call("POST", "/api/instances", planless, GOOD_INSTANCE)
    assert (answer.status, answer.json["code"]) == (402, "no_active_plan")
    _, token = await world.account("ada")
    world.fleet.refuse = PlanLimitError("too much", details={"plan": "starter", "exceeded": []})
    answer = await world.call("POST", "/api/instances", token, GOOD_INSTANCE)
    assert (answer.status, answer.json["code"]) == (403, "plan_limit")
    assert answer.json["details"]["plan"] == "starter"


async def test_an_operator_may_create_for_a_customer(world: World) -> None:
    ada, _ = await world.account("ada")
    operator, token = await world.account("op", Role.OPERATOR, plan=None)
    answer = await world.call("POST", "/api/instances", token, GOOD_INSTANCE | {"customerId": ada.id})
    assert answer.status == 202
    assert (world.fleet.calls[0][1], world.fleet.calls[0][3]) == (ada.id, operator.id)
    for wrong in ("1", 10**6, 2**70, -1, True, [ada.id]):
        answer = await world.call("POST", "/api/instances", token, GOOD_INSTANCE | {"customerId": wrong})
        assert answer.status == 400


async def test_the_same_key_gives_the_same_answer(world: World) -> None:
    _, token = await world.account("ada")
    _, bob = await world.account("bob")

    async def create(key: str, token: str = token, **changes: Any) -> Any:
        return await world.call("POST", "/api/instances", token, GOOD_INSTANCE | changes, Idempotency_Key=key)

    first, second = await create("k1"), await create("k1")
    assert first.raw == second.raw
    assert (first.status, second.status) == (202, 202)
    assert (first.headers.get("Idempotency-Replayed"), second.headers["Idempotency-Replayed"]) == (None, "true")
    assert len(world.fleet.calls) == 1
    other_body = await create("k1", memoryMiB=2048)
    assert (other_body.status, other_body.json["code"]) == (422, "idempotency_mismatch")
    assert (await create("k2")).json["vmid"] != first.json["vmid"]
    assert (await create("k1", token=bob)).json["vmid"] != first.json["vmid"]
    for odd in ("", " ", "x" * 201, "a b"):
        assert (await create(odd)).status == 400, odd


async def test_a_refusal_frees_the_key_and_a_doubt_keeps_it(world: World) -> None:
    _, token = await world.account("ada")

    async def create(key: str) -> Any:
        return await world.call("POST", "/api/instances", token, GOOD_INSTANCE, Idempotency_Key=key)

    world.fleet.refuse = UnavailableError("no address is free", retry_after=2)
    refused = await create("k1")
    assert (refused.status, refused.headers["Retry-After"]) == (503, "2")
    assert (await create("k1")).status == 202
    world.fleet.refuse = StoreUnavailable("lost while committing", may_have_committed=True)
    assert (await create("k2")).status == 503
    doubtful = await create("k2")
    assert (doubtful.status, doubtful.json["code"]) == (409, "in_progress")


async def test_the_same_key_at_once_creates_one(world: World) -> None:
    _, token = await world.account("ada")
    world.fleet.pause = 0.2
    statuses: list[int] = []

    async def create() -> None:
        answer = await world.call("POST", "/api/instances", token, GOOD_INSTANCE, Idempotency_Key="k")
        statuses.append(answer.status)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(create)
    assert sorted(statuses) == [202, 409, 409, 409]
    assert len(world.fleet.calls) == 1


async def test_a_client_that_goes_away_leaves_its_answer(world: World) -> None:
    _, token = await world.account("ada")
    world.fleet.pause = 0.1

    async def create() -> Any:
        return await world.call("POST", "/api/instances", token, GOOD_INSTANCE, Idempotency_Key="k")

    with trio.move_on_after(0.05):
        await create()
    world.fleet.pause = 0.0
    with trio.fail_after(5):
        answer = await create()
        for _ in range(1000):
            if answer.status != 409:
                break
            answer = await create()
    assert answer.headers["Idempotency-Replayed"] == "true"
    assert len(world.fleet.calls) == 1


async def test_teardown(world: World) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    answer = await world.call("DELETE", f"/api/containers/{vmid}?force=true", token)
    assert answer.status == 202
    operation = answers.TornDown.model_validate_json(answer.raw).operation
    assert world.fleet.calls == [("teardown", vmid, True, ada.id)]
    async with trio.open_nursery() as nursery:

        async def finish() -> None:
            await trio.sleep(0.05)
            world.fleet.advance(
                world.fleet.calls and f"op{len(world.fleet.calls):04}", answers.OperationState("succeeded")
            )

        nursery.start_soon(finish)
        waited = await world.call("DELETE", f"/api/containers/{vmid}?wait=5", token)
    assert (waited.status, waited.json["operation"]["state"]) == (200, "succeeded")
    assert world.fleet.calls[-1][2] is False
    world.fleet.remove(vmid)
    again = await world.call("DELETE", f"/api/containers/{vmid}", token)
    assert (again.status, again.json["operation"]["state"]) == (200, "succeeded")
    assert len(world.fleet.calls) == 2
    assert operation.vmid == vmid


async def test_a_provisioning_that_was_turned_around_is_a_teardown_to_who_asks_again(world: World) -> None:
    _, token = await world.account("ada")
    created = await world.call("POST", "/api/instances", token, json=GOOD_INSTANCE)
    world.fleet.remove(created.json["vmid"])
    address = f"/api/containers/{created.json['vmid']}"
    assert (await world.call("DELETE", address, token)).status == 404
    world.fleet.advance(created.json["operation"]["id"], answers.OperationState("compensated"))
    again = await world.call("DELETE", address, token)
    assert (again.status, again.json["operation"]["state"]) == (200, "compensated")
    _, stranger = await world.account("bob")
    assert (await world.call("DELETE", address, stranger)).status == 404


async def test_bad_teardown_queries(world: World) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    for query in ("force=maybe", "wait=x", "wait=-1", "wait=61", "wait=nan", "wait=inf"):
        assert (await world.call("DELETE", f"/api/containers/{vmid}?{query}", token)).status == 400
    assert world.fleet.calls == []


async def test_orphans(world: World) -> None:
    operator, token = await world.account("op", Role.OPERATOR)
    assert (await world.call("GET", "/api/containers/orphans", token)).json["orphans"][0]["vmid"] == 5999
    assert (await world.call("POST", "/api/containers/orphans/sweep", token)).json["dryRun"] is True
    await world.call("POST", "/api/containers/orphans/sweep", token, {"dryRun": False})
    assert world.fleet.calls == [("sweep", True, operator.id), ("sweep", False, operator.id)]
