"""Forged tokens, over HTTP: each one is refused in the same words, changes nothing and stays out of the log."""

from __future__ import annotations

import json
import logging
from typing import Any
from urllib.parse import quote

import pytest
import trio
import trio.testing
from werkzeug.datastructures import Headers

from tests.api.forger import Forger, forgeries
from tests.api.gateway import gateway_before
from tests.api.world import PAPER, World
from tests.gateway.peer import connect, open_socket, until
from zlh.api.answers import Problem
from zlh.store import accounts


async def forger(world: World) -> tuple[Forger, int]:
    """One who forges ada's tokens, and ada's server."""
    ada, token = await world.account("ada")
    return Forger(world, ada, token), world.fleet.add(ada, PAPER).vmid


def check(status: int, raw: bytes, challenge: str | None, name: str) -> None:
    assert status == 401, (name, status, raw)
    Problem.model_validate_json(raw)
    assert challenge == "Bearer", name


async def test_the_forger_can_make_a_good_one(world: World) -> None:
    forge, _ = await forger(world)
    assert (await world.call("GET", "/api/auth/me", forge.token())).status == 200
    assert (await world.call("GET", "/api/auth/me", forge.good)).status == 200


async def test_every_forgery_is_refused(world: World, caplog: pytest.LogCaptureFixture) -> None:
    forge, vmid = await forger(world)
    before = await world.services.database.run(accounts.all_accounts)
    with caplog.at_level(logging.DEBUG):
        for name, token in forgeries(forge).items():
            for method, path in (("GET", "/api/auth/me"), ("POST", f"/api/servers/{vmid}/host/stop")):
                answer = await world.call(method, path, Authorization=f"Bearer {token}")
                check(answer.status, answer.raw, answer.headers["WWW-Authenticate"], name)
                assert len(token) < 8 or token.encode() not in answer.raw, name
            assert len(token) < 8 or token not in caplog.text, name
    assert "Traceback" not in caplog.text
    assert world.fleet.calls == []
    assert await world.services.database.run(accounts.all_accounts) == before
    assert (await world.call("GET", "/api/auth/me", forge.good)).status == 200


async def test_a_token_of_100_kb(world: World) -> None:
    forge, _ = await forger(world)
    for token in ("x" * 100_000, forge.token(note="x" * 70_000), forge.good + "A" * 100_000):
        answer = await world.call("GET", "/api/auth/me", token)
        check(answer.status, answer.raw, answer.headers["WWW-Authenticate"], "100 KB")


WEBSOCKET = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
WEBSOCKET += [f"Sec-WebSocket-Key: {'A' * 22}=="]


def doors(vmid: int) -> list[tuple[str, list[str]]]:
    """Addresses with what else to send: relayed, answered by the gateway from memory, and both websockets."""
    return [
        ("/api/auth/me", []),
        ("/api/servers", []),
        ("/api/servers/events", WEBSOCKET),
        (f"/api/servers/{vmid}/console/stream", WEBSOCKET),
    ]


async def test_every_forgery_through_the_gateway(world: World, caplog: pytest.LogCaptureFixture) -> None:
    forge, vmid = await forger(world)
    with caplog.at_level(logging.DEBUG):
        async with gateway_before(world) as port:
            async with connect(port) as peer:
                for path, _ in doors(vmid)[:2]:
                    assert (await peer.ask("GET", path, f"Authorization: Bearer {forge.good}")).status == 200
            for name, token in forgeries(forge).items():
                for path, lines in doors(vmid):
                    async with connect(port) as peer:
                        answer = await peer.ask("GET", path, f"Authorization: Bearer {token}", *lines)
                        check(answer.status, answer.body, answer.field("www-authenticate"), f"{name}: {path}")
                assert len(token) < 8 or token not in caplog.text, name
    assert "Traceback" not in caplog.text
    assert world.fleet.calls == []


async def test_every_forgery_in_an_address_and_in_a_first_message(world: World) -> None:
    forge, vmid = await forger(world)
    async with gateway_before(world) as port:
        for path in ("/api/servers/events", f"/api/servers/{vmid}/console/stream"):
            for name, token in forgeries(forge).items():
                async with connect(port) as peer:
                    answer = await peer.ask("GET", f"{path}?access_token={quote(token, safe='')}", *WEBSOCKET)
                    # Text that is longer than any address.
                    if answer.status != 414:
                        check(answer.status, answer.body, answer.field("www-authenticate"), f"{name}: {path}")
                async with open_socket(port, path) as socket:
                    await socket.send(json.dumps({"auth": token}))
                    assert (await socket.close()).code == 4401, f"{name}: {path}"
            async with open_socket(port, path) as socket:
                assert world.access.open_grants() == 0
                await socket.send(json.dumps({"auth": forge.good}))
                await until(lambda: world.access.open_grants() == 1)
            await until(lambda: world.access.open_grants() == 0)


async def test_heads_that_are_too_large_are_refused_by_the_gateway(world: World) -> None:
    forge, _ = await forger(world)
    async with gateway_before(world) as port:
        for token in ("x" * 100_000, forge.token(note="x" * 70_000)):
            async with connect(port) as peer:
                answer = await peer.ask("GET", "/api/auth/me", f"Authorization: Bearer {token}")
                assert (answer.status, answer.json["code"]) == (431, "head_too_large")
                Problem.model_validate_json(answer.body)
        async with connect(port) as peer:
            answer = await peer.ask("GET", "/api/auth/me", f"Authorization: Bearer {'x' * 30_000}")
            check(answer.status, answer.body, answer.field("www-authenticate"), "30 KB")


async def test_two_authorization_headers_are_none(world: World) -> None:
    """The gateway takes no such request at all; the API itself takes none of the two."""
    forge, vmid = await forger(world)
    good, bad = f"Bearer {forge.good}", "Bearer nonsense"
    async with gateway_before(world) as port:
        for first, second in ((good, bad), (bad, good), (good, good)):
            for path, lines in doors(vmid):
                async with connect(port) as peer:
                    pair = (f"Authorization: {first}", f"authorization: {second}")
                    answer = await peer.ask("GET", path, *pair, *lines)
                    assert (answer.status, answer.json["code"]) == (400, "bad_request"), path
                    Problem.model_validate_json(answer.body)
            headers = Headers([("Authorization", first), ("authorization", second)])
            response = await world.app.test_client().get("/api/auth/me", headers=headers)
            raw = await response.get_data(as_text=False)
            check(response.status_code, raw, response.headers["WWW-Authenticate"], f"{first} {second}")


async def test_an_account_that_is_gone_and_a_session_that_has_ended(world: World) -> None:
    forge, _ = await forger(world)
    signed_in = await world.call("POST", "/api/auth/logout", forge.good)
    assert signed_in.status == 200
    for token in (forge.good, forge.token()):
        answer = await world.call("GET", "/api/auth/me", token)
        assert (answer.status, answer.json["code"]) == (401, "signed_out")


async def refresh_twice(port: int, refresh_token: str) -> list[tuple[int, Any]]:
    """The same refresh token from two clients at the same moment, over two connections."""
    answers: list[tuple[int, Any]] = []
    body = b'{"refreshToken":"%b"}' % refresh_token.encode()

    async def client(ready: trio.Event) -> None:
        async with connect(port) as peer:
            await ready.wait()
            answer = await peer.ask("POST", "/api/auth/refresh", "Content-Type: application/json", body=body)
            answers.append((answer.status, answer.json))

    async with trio.open_nursery() as nursery:
        ready = trio.Event()
        for _ in range(2):
            nursery.start_soon(client, ready)
        await trio.testing.wait_all_tasks_blocked(0.05)
        ready.set()
    return answers


async def test_a_refresh_token_twice_in_parallel_from_two_clients(world: World) -> None:
    """Two tabs of one browser: both go on, in one session. A third time, later, ends it for everybody."""
    await world.account("ada")
    first = await world.call("POST", "/api/auth/login", json={"identifier": "ada", "password": "correct horse"})
    async with gateway_before(world) as port:
        answers = await refresh_twice(port, first.json["refreshToken"])
        assert [status for status, _ in answers] == [200, 200]
        sessions = {world.access.principal(body["token"]).session_id for _, body in answers}
        assert sessions == {world.access.principal(first.json["token"]).session_id}
        assert len({body["refreshToken"] for _, body in answers}) == 2
        # Each of the two goes on once; by then the first token is two generations old, and a stolen one.
        again = await world.call("POST", "/api/auth/refresh", json={"refreshToken": answers[0][1]["refreshToken"]})
        assert again.status == 200
        reused = await refresh_twice(port, first.json["refreshToken"])
    assert [status for status, _ in reused] == [401, 401]
    for token in (first.json["token"], again.json["token"], *(body["token"] for _, body in answers)):
        assert (await world.call("GET", "/api/auth/me", token)).status == 401
    last = await world.call("POST", "/api/auth/refresh", json={"refreshToken": again.json["refreshToken"]})
    assert last.status == 401
