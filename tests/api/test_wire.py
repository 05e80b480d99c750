"""Over Hypercorn on its unix socket, as the gateway speaks to it: what a test client cannot show."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import trio
import trio_websocket

from tests.api.world import PAPER, World
from zlh.gateway.hypercorn import serve_app
from zlh.model.operations import OperationState

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@asynccontextmanager
async def served(world: World, path: Path) -> AsyncIterator[httpx.AsyncClient]:
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_app, world.app, str(path), stop.wait)
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://api", timeout=5) as client:
            yield client
        stop.set()


async def nobody_is_left(world: World) -> None:
    with trio.fail_after(5):
        while world.access.open_grants():  # noqa: ASYNC110 - the table has no event for tests
            await trio.sleep(0.01)


async def test_events_arrive_as_they_happen_and_a_disconnect_ends_them(world: World, tmp_path: Path) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    headers = {"Authorization": f"Bearer {token}"}
    with trio.fail_after(20):
        async with served(world, tmp_path / "s") as client:
            begun = (await client.post(f"/api/servers/{vmid}/host/stop", headers=headers)).json()["operation"]
            async with client.stream("GET", begun["href"] + "/events", headers=headers) as stream:
                lines = stream.aiter_lines()
                assert await anext(lines) == "id: 0"
                world.fleet.advance(begun["id"], OperationState.RUNNING)
                while await anext(lines) != "id: 1":
                    pass
                assert world.access.open_grants() == 1
            await nobody_is_left(world)


async def test_the_websocket_of_servers(world: World, tmp_path: Path) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    path = tmp_path / "s"

    async def connect(nursery: trio.Nursery, **headers: str) -> Any:
        stream = await trio.open_unix_socket(str(path))
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        return await trio_websocket.wrap_client_stream(
            nursery, stream, "api", "/api/servers/events", extra_headers=sent
        )

    with trio.fail_after(20):
        async with served(world, path) as client, trio.open_nursery() as nursery:
            ws = await connect(nursery, Authorization=f"Bearer {token}")
            assert orjson.loads(await ws.get_message())["event"] == "snapshot"
            world.fleet.touch(vmid, name="renamed")
            assert orjson.loads(await ws.get_message())["servers"][0]["name"] == "renamed"
            await ws.aclose()
            await nobody_is_left(world)
            ws = await connect(nursery, Authorization=f"Bearer {token}")
            await ws.get_message()
            world.access.session_revoked(world.access.principal(token).session_id)
            with pytest.raises(trio_websocket.ConnectionClosed) as closed:
                await ws.get_message()
            assert (closed.value.reason.code, closed.value.reason.reason) == (4401, "signed out")
            refused = await client.get("/api/servers/events", headers=UPGRADE | {"Authorization": "Bearer x"})
            assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
            nursery.cancel_scope.cancel()
