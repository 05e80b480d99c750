from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import trio

from tests.api.test_servers import closing, socket
from tests.api.world import PASSWORD, World
from zlh.api.sessions import Sessions
from zlh.store import sessions

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


async def sign_in(world: World, address: str, agent: str = FIREFOX) -> dict[str, Any]:
    body = {"identifier": "ada", "password": PASSWORD}
    answer = await world.call("POST", "/api/auth/login", json=body, X_Forwarded_For=address, User_Agent=agent)
    assert answer.status == 200
    tokens: dict[str, Any] = answer.json
    return tokens


async def listed(world: World, token: str) -> list[dict[str, Any]]:
    answer = await world.call("GET", "/api/auth/sessions", token)
    assert answer.status == 200
    Sessions.model_validate_json(answer.raw)
    found: list[dict[str, Any]] = answer.json["sessions"]
    return found


async def test_the_list_and_the_end_of_one(world: World) -> None:
    _, first = await world.account("ada")
    _, bobs = await world.account("bob")
    phone = await sign_in(world, "192.0.2.1", "phone/1.0\x7f")
    desk = await sign_in(world, "192.0.2.2")
    there = await listed(world, desk["token"])
    assert [(one["address"], one["agent"]) for one in there] == [
        ("192.0.2.2", FIREFOX),
        ("192.0.2.1", "phone/1.0\x7f"),
        (None, None),
    ]
    assert [one["current"] for one in there] == [True, False, False]
    assert not any(one["operator"] or one["reason"] for one in there)
    assert all(one["createdAt"].endswith("Z") for one in there)
    path = f"/api/auth/sessions/{there[1]['id']}"
    theirs = await world.call("DELETE", path, bobs)
    nobodys = await world.call("DELETE", f"/api/auth/sessions/{'0' * 32}", bobs)
    odd = await world.call("DELETE", "/api/auth/sessions/a%00b", bobs)
    assert theirs.status == nobodys.status == odd.status == 404
    assert theirs.json["error"] == nobodys.json["error"] == odd.json["error"]
    assert (await world.call("DELETE", path, desk["token"])).json == {"ok": True}
    assert (await world.call("GET", "/api/auth/me", phone["token"])).json["code"] == "signed_out"
    refused = await world.call("POST", "/api/auth/refresh", json={"refreshToken": phone["refreshToken"]})
    assert refused.json["code"] == "signed_out"
    assert (await world.call("DELETE", path, desk["token"])).status == 404
    assert len(await listed(world, first)) == 2


async def test_everywhere_else_and_everywhere(world: World) -> None:
    _, first = await world.account("ada")
    _, bobs = await world.account("bob")
    here = await sign_in(world, "192.0.2.1")
    assert (await world.call("DELETE", "/api/auth/sessions?current=perhaps", here["token"])).status == 400
    assert (await world.call("DELETE", "/api/auth/sessions", here["token"])).json == {"ok": True}
    assert (await world.call("GET", "/api/auth/me", first)).status == 401
    assert [one["current"] for one in await listed(world, here["token"])] == [True]
    assert (await world.call("DELETE", "/api/auth/sessions?current=true", here["token"])).json == {"ok": True}
    assert (await world.call("GET", "/api/auth/me", here["token"])).status == 401
    assert (await world.call("GET", "/api/auth/me", bobs)).status == 200


async def test_one_may_end_the_session_that_asks(world: World) -> None:
    _, token = await world.account("ada")
    (only,) = await listed(world, token)
    assert (await world.call("DELETE", f"/api/auth/sessions/{only['id']}", token)).status == 200
    assert (await world.call("GET", "/api/auth/sessions", token)).status == 401


async def test_an_operator_in_ones_place_is_seen_and_sent_away(world: World) -> None:
    ada, token = await world.account("ada")
    operator, _ = await world.account("op")
    now = ada.created_at
    acting = await world.services.database.run(
        sessions.open_acting,
        ada.id,
        operator_id=operator.id,
        reason="the server does not start",
        read_only=True,
        now=now,
        expires_at=now + timedelta(days=1),
    )
    seen = next(one for one in await listed(world, token) if one["id"] == acting.id)
    assert (seen["operator"], seen["reason"]) == (True, "the server does not start")
    assert (seen["address"], seen["agent"]) == (None, None)
    assert (await world.call("DELETE", f"/api/auth/sessions/{acting.id}", token)).status == 200
    assert len(await listed(world, token)) == 1


async def test_a_suspended_account_still_sees_and_ends_its_sessions(world: World) -> None:
    ada, token = await world.account("ada")
    other = await sign_in(world, "192.0.2.1")
    await world.suspend(ada)
    assert len(await listed(world, token)) == 2
    assert (await world.call("DELETE", "/api/auth/sessions", token)).status == 200
    assert (await world.call("GET", "/api/auth/me", other["token"])).status == 401


@pytest.mark.parametrize("by", ["id", "all"])
async def test_an_open_websocket_ends_with_its_session(world: World, by: str) -> None:
    _, here = await world.account("ada")
    there = (await sign_in(world, "192.0.2.1"))["token"]
    other = next(one for one in await listed(world, here) if not one["current"])
    with trio.fail_after(10):
        async with socket(world, here) as staying, socket(world, there) as ending:
            for ws in (staying, ending):
                await ws.receive()
            path = f"/api/auth/sessions/{other['id']}" if by == "id" else "/api/auth/sessions"
            assert (await world.call("DELETE", path, here)).status == 200
            assert await closing(ending) == 4401
            assert world.access.open_grants() == 1
