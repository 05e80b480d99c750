from __future__ import annotations

from typing import Any

import orjson
import pytest
import trio

from tests.api.world import PAPER, World
from zlh.api import answers, operation_events
from zlh.model.operations import OperationState


async def begin(world: World, token: str, vmid: int) -> str:
    answer = await world.call("POST", f"/api/servers/{vmid}/host/stop", token)
    return str(answer.json["operation"]["id"])


async def test_pages(world: World) -> None:
    ada, token = await world.account("ada")
    vmids = [world.fleet.add(ada, PAPER).vmid for _ in range(3)]
    ids = [await begin(world, token, vmid) for vmid in vmids]
    first = await world.call("GET", "/api/operations?limit=2", token)
    page = answers.OperationPage.model_validate_json(first.raw)
    assert [operation.id for operation in page.operations] == [ids[2], ids[1]]
    second = await world.call("GET", f"/api/operations?limit=2&before={page.next}", token)
    assert [operation["id"] for operation in second.json["operations"]] == [ids[0]]
    assert second.json["next"] is None
    one = await world.call("GET", f"/api/operations?vmid={vmids[0]}", token)
    assert [operation["id"] for operation in one.json["operations"]] == [ids[0]]
    single = await world.call("GET", f"/api/operations/{ids[0]}", token)
    assert answers.OneOperation.model_validate_json(single.raw).operation.steps[0].name == "clone"
    assert b"UPID" not in single.raw


async def test_bad_queries(world: World) -> None:
    _, token = await world.account("ada")
    for query in ("limit=0", "limit=201", "limit=x", "vmid=x", "vmid=-1", "before=a%00b", "before=%27"):
        answer = await world.call("GET", f"/api/operations?{query}", token)
        assert (answer.status, answer.json["details"][0]["field"]) == (400, query.split("=")[0])


def parse(raw: bytes) -> list[dict[str, Any]]:
    events = []
    for block in raw.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if fields:
            events.append({"seq": int(fields["id"]), **orjson.loads(fields["data"])})
            assert fields["event"] == "operation"
    return events


async def test_follow_to_the_end(world: World) -> None:
    ada, token = await world.account("ada")
    operation_id = await begin(world, token, world.fleet.add(ada, PAPER).vmid)
    got: list[Any] = []
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:

            async def follow() -> None:
                got.append(await world.call("GET", f"/api/operations/{operation_id}/events", token))

            nursery.start_soon(follow)
            for state in (OperationState.RUNNING, OperationState.SUCCEEDED):
                await trio.sleep(0.05)
                world.fleet.advance(operation_id, state)
    assert got[0].headers["Content-Type"] == "text/event-stream"
    events = parse(got[0].raw)
    assert [(event["seq"], event["state"]) for event in events] == [(0, "running"), (1, "running"), (2, "succeeded")]
    answers.Operation.model_validate({name: value for name, value in events[0].items() if name != "seq"})
    assert world.access.open_grants() == 0


async def test_resume(world: World) -> None:
    ada, token = await world.account("ada")
    operation_id = await begin(world, token, world.fleet.add(ada, PAPER).vmid)
    world.fleet.advance(operation_id)
    world.fleet.advance(operation_id, OperationState.FAILED)
    path = f"/api/operations/{operation_id}/events"
    assert [event["seq"] for event in parse((await world.call("GET", path, token, Last_Event_ID="1")).raw)] == [2]
    assert (await world.call("GET", path, token, Last_Event_ID="2")).status == 204
    for odd in ("x", "-1", "9" * 30, "\u0662"):
        answer = await world.call("GET", path, token, Last_Event_ID=odd)
        assert [event["seq"] for event in parse(answer.raw)] == [2], odd


async def test_the_stream_ends_with_the_sign_in_and_beats_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operation_events, "HEARTBEAT_SECONDS", 0.1)
    ada, token = await world.account("ada")
    operation_id = await begin(world, token, world.fleet.add(ada, PAPER).vmid)
    got: list[Any] = []
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:

            async def follow() -> None:
                got.append(await world.call("GET", f"/api/operations/{operation_id}/events", token))

            nursery.start_soon(follow)
            await trio.sleep(0.3)
            await world.call("POST", "/api/auth/logout", token)
    assert b": still here" in got[0].raw
    assert len(parse(got[0].raw)) == 1
