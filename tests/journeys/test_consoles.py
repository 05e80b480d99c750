"""Live consoles over the real path: browser's websocket, gateway, container's relay, agent, game process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from tests.journeys.process import DemoProcess
from tests.plain import PLAIN
from tests.stopwatch import Stopwatch
from zlh.demo.portal import Portal


class Viewer:
    """A console in JSON: numbered lines and events."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self.connection = connection
        self.lines: list[dict[str, Any]] = []

    async def until(self, text: str, seconds: float = 15.0) -> dict[str, Any]:
        """Reads until a line ends with `text`; that line."""
        with trio.fail_after(seconds):
            while True:
                for message in str(await self.connection.get_message()).splitlines():
                    frame: dict[str, Any] = orjson.loads(message)
                    if "seq" in frame:
                        self.lines.append(frame)
                        if frame["line"].endswith(text):
                            return frame


@asynccontextmanager
async def viewing(portal: Portal, demo: DemoProcess, vmid: int, more: str = "") -> AsyncIterator[Viewer]:
    address = demo.ready["url"].replace("http", "ws", 1)
    path = f"/api/servers/{vmid}/console/stream?format=json&access_token={portal.token}{more}"
    async with open_websocket_url(address + path) as connection:
        yield Viewer(connection)


@pytest.fixture
async def running(customer: Portal, game: int) -> int:
    await customer.until(game, "running")
    return game


async def test_two_viewers_see_the_same_and_one_resumes(customer: Portal, demo: DemoProcess, running: int) -> None:
    async with viewing(customer, demo, running) as first, viewing(customer, demo, running) as second:
        await first.until('For help, type "help"')
        await first.connection.send_message("say one")
        one = await first.until("[Server] one")
        assert (await second.until("[Server] one"))["seq"] == one["seq"]
        await second.connection.send_message("say two")
        two = await first.until("[Server] two")
    async with viewing(customer, demo, running) as other:
        await other.until("[Server] two")
        await other.connection.send_message("say three")
        await other.until("[Server] three")
    # Who was away sees what was written meanwhile, and nothing twice.
    async with viewing(customer, demo, running, f"&after={one['seq']}") as back:
        three = await back.until("[Server] three")
    numbers = [line["seq"] for line in back.lines]
    assert numbers == list(range(one["seq"] + 1, three["seq"] + 1))
    assert two["seq"] in numbers


async def test_plain_text_as_the_portal_reads_it(customer: Portal, running: int) -> None:
    async with customer.console(running) as console:
        with trio.fail_after(15):
            await console.get_message()
            await console.send_message("list")
            while "players online" not in str(await console.get_message()):
                pass


async def test_signing_out_closes_an_open_console_at_once(customer: Portal, demo: DemoProcess, running: int) -> None:
    async with viewing(customer, demo, running) as viewer:
        await viewer.until('For help, type "help"')
        async with httpx.AsyncClient(base_url=demo.ready["url"], trust_env=False, verify=PLAIN) as client:
            headers = {"Authorization": f"Bearer {customer.token}"}
            assert (await client.post("/api/auth/logout", headers=headers)).status_code == 200
        watch = Stopwatch()
        with trio.fail_after(20), pytest.raises(ConnectionClosed) as closed:
            while True:
                await viewer.connection.get_message()
        assert watch.seconds < 2
        assert closed.value.reason is not None
        assert 4400 <= closed.value.reason.code < 4500
