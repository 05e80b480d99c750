"""Sharing over the real path: a friend's console, event stream and power end with the share, not with a sign-in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from tests.journeys.process import AT_ONCE, DemoProcess
from tests.journeys.test_consoles import viewing
from zlh.demo.portal import Portal
from zlh.demo.wishes import GAME

FRIEND = "friend@zlh.example"


@pytest.fixture
async def friend(demo: DemoProcess) -> AsyncIterator[Portal]:
    ready = demo.ready
    async with Portal(ready["url"], **ready["users"]["friend"]) as portal:
        yield portal


async def give(owner: Portal, vmid: int, *permissions: str) -> str:
    """The path of the new share; those of before are taken back."""
    path = f"/api/servers/{vmid}/shares"
    for share in (await owner.get(path))["shares"]:
        await owner.delete(f"{path}/{share['id']}")
    made = await owner.post(path, {"email": FRIEND, "permissions": list(permissions)})
    return f"{path}/{made['share']['id']}"


async def ended(connection: WebSocketConnection) -> int | None:
    """The code that it is closed with, at once."""
    with trio.fail_after(AT_ONCE), pytest.raises(ConnectionClosed) as closed:
        while True:
            await connection.get_message()
    assert closed.value.reason is not None
    return closed.value.reason.code


async def test_a_console_is_shared_and_ends_with_the_share(
    customer: Portal, friend: Portal, demo: DemoProcess, game: int
) -> None:
    await customer.until(game, "running")
    share = await give(customer, game, "console")
    async with viewing(friend, demo, game) as viewer:
        await viewer.connection.send_message("say shared")
        await viewer.until("[Server] shared")
        await customer.delete(share)
        assert await ended(viewer.connection) == 4404
    assert await friend.refused("GET", f"/api/servers/{game}") == 404


async def test_a_narrowed_share_ends_the_console_and_keeps_the_rest(
    customer: Portal, friend: Portal, demo: DemoProcess, game: int, raw: httpx.AsyncClient
) -> None:
    await customer.until(game, "running")
    share = await give(customer, game, "console", "power")
    async with viewing(friend, demo, game) as viewer:
        await viewer.until('For help, type "help"')
        assert (await raw.patch(share, json={"permissions": ["power"]})).status_code == 200
        assert await ended(viewer.connection) == 4403
    assert await friend.refused("POST", f"/api/servers/{game}/shares") == 403
    assert (await friend.get(f"/api/servers/{game}"))["permissions"] == ["power"]
    await customer.delete(share)


async def test_an_open_event_stream_shows_and_loses_it(
    customer: Portal, friend: Portal, demo: DemoProcess, game: int
) -> None:
    async def until(wanted: Any) -> None:
        with trio.fail_after(AT_ONCE):
            while not wanted(orjson.loads(await events.get_message())):
                pass

    address = demo.ready["url"].replace("http", "ws", 1)
    share = await give(customer, game, "power")
    await customer.delete(share)
    async with open_websocket_url(f"{address}/api/servers/events?access_token={friend.token}") as events:
        await until(lambda event: event["event"] == "snapshot" and str(game) not in _ids(event))
        share = await give(customer, game, "power")
        await until(lambda event: str(game) in _ids(event) and event["shared"] == {str(game): ["power"]})
        await customer.delete(share)
        await until(lambda event: event["removed"] == [str(game)])


def _ids(event: Any) -> set[str]:
    return {server["id"] for server in event["servers"]}


async def test_a_torn_down_container_takes_its_shares_with_it(
    stranger: Portal, friend: Portal, demo: DemoProcess
) -> None:
    ordered = await stranger.order(GAME)
    vmid: int = ordered["vmid"]
    await give(stranger, vmid, "power")
    await friend.follow(ordered["operation"])
    assert vmid in {share["vmid"] for share in (await friend.get("/api/shares"))["shares"]}
    assert await friend.refused("DELETE", f"/api/containers/{vmid}?force=true") == 403
    torn = await stranger.delete(f"/api/containers/{vmid}?force=true")
    await stranger.follow(torn["operation"])
    assert await friend.refused("GET", f"/api/servers/{vmid}") == 404
    assert vmid not in {share["vmid"] for share in (await friend.get("/api/shares"))["shares"]}
