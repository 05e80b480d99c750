from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import orjson
import pytest
import trio
from quart.testing.connections import WebsocketResponseError

from tests.api.world import PAPER, World
from zlh.api import answers, server_events
from zlh.model.accounts import Role
from zlh.model.containers import Desired, Resources
from zlh.model.errors import ConflictError, DeadlineError, UnavailableError


async def test_one_sees_ones_own(world: World) -> None:
    ada, token = await world.account("ada")
    bob, _ = await world.account("bob")
    _, operator = await world.account("op", Role.OPERATOR)
    mine, theirs = world.fleet.add(ada, PAPER).vmid, world.fleet.add(bob, PAPER).vmid

    async def seen(token: str) -> list[str]:
        answer = await world.call("GET", "/api/servers", token)
        assert answer.headers["Content-Type"] == "application/json"
        return [server.id for server in answers.Servers.model_validate_json(answer.raw).servers]

    assert await seen(token) == [str(mine)]
    assert await seen(operator) == [str(mine), str(theirs)]


async def test_one_server(world: World) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    answer = await world.call("GET", f"/api/servers/{vmid}", token)
    server = answers.OneServer.model_validate_json(answer.raw)
    assert server.limits == answers.Limits(memory=2048, disk=10, cpu=2)
    assert answer.json["server"]["id"] == answer.json["id"] == str(vmid)


@pytest.mark.parametrize(
    "spelling", ["0{}", "00000{}", "%D9%A5%D9%A0%D9%A0%D9%A1", "{}.0", "+{}", "-{}", "0", "9999999999"]
)
async def test_a_container_has_one_address(world: World, spelling: str) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    assert (vmid, (await world.call("GET", f"/api/servers/{vmid}", token)).status) == (5001, 200)
    assert (await world.call("GET", f"/api/servers/{spelling.format(vmid)}", token)).status == 404


async def test_power(world: World) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    for verb in ("start", "stop", "restart", "kill"):
        answer = await world.call("POST", f"/api/servers/{vmid}/game/{verb}", token)
        assert (answer.status, answer.json) == (200, {"ok": True})
        assert world.fleet.calls.pop() == (f"{verb}_game", vmid)
    for verb in ("start", "stop", "restart"):
        answer = await world.call("POST", f"/api/servers/{vmid}/host/{verb}", token)
        assert answer.status == 202
        assert answers.HostPower.model_validate_json(answer.raw).operation.kind == f"{verb}_host"
        assert world.fleet.calls.pop() == (f"{verb}_host", vmid, ada.id)


async def test_upgrade_keeps_what_is_not_named(world: World) -> None:
    ada, _ = await world.account("ada")
    operator, token = await world.account("op", Role.OPERATOR)
    vmid = world.fleet.add(ada, PAPER).vmid
    answer = await world.call("PUT", f"/api/servers/{vmid}/upgrade", token, {"memory": 4096})
    assert (answer.status, answer.json["success"]) == (202, True)
    assert world.fleet.calls == [("upgrade", ada.id, vmid, Resources(4096, 2, 10), operator.id)]
    assert (await world.call("PUT", f"/api/servers/{vmid}/upgrade", token, {})).status == 400


@pytest.mark.parametrize(
    ("refusal", "status", "retry"),
    [
        (ConflictError("an operation is in flight"), 409, None),
        (UnavailableError("the mailbox is full", retry_after=1.2), 503, "2"),
        (DeadlineError("too slow", details={"mayTakeEffect": True}), 504, None),
    ],
)
async def test_refusals_reach_the_caller(world: World, refusal: Any, status: int, retry: str | None) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    world.fleet.refuse = refusal
    answer = await world.call("POST", f"/api/servers/{vmid}/game/stop", token)
    assert (answer.status, answer.json["error"], answer.json["details"]) == (status, refusal.message, refusal.details)
    assert answer.headers.get("Retry-After") == retry


def socket(world: World, token: str | None = None, query: str = "", **headers: str) -> Any:
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return world.app.test_client().websocket(f"/api/servers/events{query}", headers=headers)


async def test_events_snapshot_then_deltas(world: World) -> None:
    ada, token = await world.account("ada")
    bob, _ = await world.account("bob")
    vmid, theirs = world.fleet.add(ada, PAPER).vmid, world.fleet.add(bob, PAPER).vmid
    with trio.fail_after(10):
        async with socket(world, token) as ws:
            snapshot = orjson.loads(await ws.receive())
            assert (snapshot["event"], [server["id"] for server in snapshot["servers"]]) == ("snapshot", [str(vmid)])
            world.fleet.touch(theirs, name="not ours")
            world.fleet.touch(vmid, name="renamed")
            delta = orjson.loads(await ws.receive())
            assert (delta["event"], delta["removed"]) == ("delta", [])
            assert [(server["id"], server["name"]) for server in delta["servers"]] == [(str(vmid), "renamed")]
            answers.Servers.model_validate({"servers": delta["servers"]})
            world.fleet.remove(vmid)
            gone = orjson.loads(await ws.receive())
            assert (gone["servers"], gone["removed"]) == ([], [str(vmid)])
    assert world.access.open_grants() == 0


async def test_many_changes_become_one_delta(world: World) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    with trio.fail_after(10):
        async with socket(world, token) as ws:
            await ws.receive()
            began = time.monotonic()
            for number in range(20):
                world.fleet.touch(vmid, name=str(number))
                await trio.sleep(0.01)
            names = []
            while not names or names[-1] != "19":
                names.append(orjson.loads(await ws.receive())["servers"][0]["name"])
            assert len(names) <= 2 + (time.monotonic() - began) / server_events.GATHER_SECONDS


async def test_the_token_may_come_by_query_or_first_message(world: World) -> None:
    _, token = await world.account("ada")
    with trio.fail_after(10):
        async with socket(world, query=f"?access_token={token}") as ws:
            assert orjson.loads(await ws.receive())["event"] == "snapshot"
        async with socket(world) as ws:
            await ws.send(orjson.dumps({"auth": token}).decode())
            assert orjson.loads(await ws.receive())["event"] == "snapshot"


async def closing(ws: Any) -> int:
    """The code that the server closes with; the name of the test client's exception depends on Quart's version."""
    with trio.fail_after(10), pytest.raises(Exception, match=r"^\d{4}$") as caught:
        while True:
            await ws.receive()
    return int(caught.value.args[0])


async def test_a_bad_first_message_closes(world: World) -> None:
    for message in ("", "{", "[]", "5", '{"auth": 5}', '{"auth": "x.y.z"}', '{"token": "x"}', b"\xff"):
        async with socket(world) as ws:
            await ws.send(message)
            assert await closing(ws) == 4401


async def test_no_first_message_closes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_events, "FIRST_MESSAGE_SECONDS", 0.05)
    async with socket(world) as ws:
        assert await closing(ws) == 4401


async def test_a_bug_closes_with_1011(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _, token = await world.account("ada")
    monkeypatch.setattr(world.fleet, "servers_json", lambda owner: 1 / 0)
    async with socket(world, token) as ws:
        assert await closing(ws) == 1011


@pytest.mark.parametrize(("event", "code"), [("logout", 4401), ("suspension of an operator", 4403)])
async def test_events_end_with_the_right_to_see_them(world: World, event: str, code: int) -> None:
    ada, token = await world.account("ada", Role.OPERATOR)
    with trio.fail_after(10):
        async with socket(world, token) as ws:
            await ws.receive()
            if event == "logout":
                await world.call("POST", "/api/auth/logout", token)
            else:
                await world.suspend(ada)
            assert await closing(ws) == code
    assert world.access.open_grants() == 0


async def test_a_suspended_customer_watches_what_becomes_of_the_servers(world: World) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    with trio.fail_after(10):
        async with socket(world, token) as ws:
            await ws.receive()
            await world.suspend(ada)
            world.fleet.touch(vmid, desired=Desired(suspended=True))
            told = orjson.loads(await ws.receive())
            assert [(server["id"], server["suspended"]) for server in told["servers"]] == [(str(vmid), True)]
        async with socket(world, token) as ws:
            assert orjson.loads(await ws.receive())["event"] == "snapshot"


async def test_events_refuse_before_the_upgrade(world: World) -> None:
    ada, token = await world.account("ada")

    async def refusal(**options: Any) -> int:
        # The test client's own nursery wraps what happens inside of it.
        try:
            async with socket(world, **options) as ws:
                await ws.receive()
        except* WebsocketResponseError as group:
            (error,) = group.exceptions
        response = error.args[0]
        answers.Problem.model_validate_json(await response.get_data(as_text=False))
        return int(response.status_code)

    with trio.fail_after(10):
        assert await refusal(token="nonsense") == 401
        assert await refusal(query="?access_token=nonsense") == 401
        assert await refusal(token=token, Origin="https://evil.example") == 403
        assert await refusal(token=token, Origin="null") == 403
        world.access.account_changed(replace(ada, disabled_at=ada.created_at))
        assert await refusal(token=token) == 401
        world.access.account_changed(ada)
        async with socket(world, token, Origin="https://portal.example") as ws:
            assert orjson.loads(await ws.receive())["event"] == "snapshot"
