"""The hosted IDE over the real path: from the Portal's token to an open websocket, and how each of them ends."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

import pytest
import trio

from tests.gateway.ide import Program
from tests.gateway.peer import Answer, Peer, Socket, connect, handshake
from tests.journeys.process import AT_ONCE, DemoProcess
from tests.journeys.test_friends import FRIEND
from zlh.demo.portal import Portal
from zlh.model.games import CODE_SERVER_PORT

HTML = "Accept: text/html"


class Browser:
    """Somebody's browser at one host: what it was given as a cookie it brings again."""

    def __init__(self, demo: DemoProcess, host: str) -> None:
        self._port = urlsplit(demo.ready["url"]).port or 80
        self._host = host
        self.cookie = ""

    async def ask(self, method: str, target: str, *lines: str) -> Answer:
        head = [f"{method} {target} HTTP/1.1", f"Host: {self._host}", "Content-Length: 0", *lines]
        async with connect(self._port) as peer:
            await peer.send("\r\n".join([*head, *self._cookies()]).encode() + b"\r\n\r\n")
            answer = await peer.answer(method)
        for name, value in answer.head.fields:
            if name == b"set-cookie":
                self.cookie = value.decode().partition(";")[0]
        return answer

    async def open(self, url: str) -> Answer:
        """As a click on a link does it: redirects are followed."""
        parts = urlsplit(url)
        answer = await self.ask("GET", f"{parts.path}?{parts.query}", HTML)
        while answer.status == 303:
            answer = await self.ask("GET", answer.field("location") or "", HTML)
        return answer

    @asynccontextmanager
    async def websocket(self, target: str = "/ws") -> AsyncIterator[Socket]:
        async with connect(self._port) as peer:
            raw = handshake(target, *self._cookies(), f"Origin: http://{self._host}")
            await peer.send(raw.replace(b"Host: test", f"Host: {self._host}".encode(), 1))
            assert (await peer.read_head()).status == 101, peer.buffer
            socket = Socket(Peer(peer.stream))
            await socket.send("hello")
            assert await socket.text() == "hello"
            yield socket

    def _cookies(self) -> list[str]:
        return [f"Cookie: {self.cookie}"] if self.cookie else []


async def way_in(portal: Portal, path: str) -> str:
    url: str = (await portal.post(f"{path}/token" if "/ports/" in path else f"{path}/ide-token"))["url"]
    return url


def browser(demo: DemoProcess, url: str) -> Browser:
    return Browser(demo, urlsplit(url).netloc)


@pytest.fixture
def dev(demo: DemoProcess) -> int:
    vmid: int = demo.ready["vmids"]["dev"]
    return vmid


@pytest.fixture
async def program(customer: Portal, dev: int) -> AsyncIterator[Program]:
    """A small server in place of the IDE, and another one at port 3000."""
    await customer.until(dev, "running")
    address = (await customer.server(dev))["ip"]
    program = Program(address)
    async with trio.open_nursery() as nursery:
        for port in (CODE_SERVER_PORT, 3000):
            await nursery.start(partial(trio.serve_tcp, program.serve, port, host=address))
        yield program
        nursery.cancel_scope.cancel()


async def ended(socket: Socket) -> int:
    with trio.fail_after(AT_ONCE):
        return (await socket.close()).code


async def test_from_the_portal_into_the_ide_until_the_sign_out(
    demo: DemoProcess, customer: Portal, dev: int, program: Program
) -> None:
    url = await way_in(customer, f"/api/dev/{dev}")
    assert re.fullmatch(rf"http://ide-{dev}\.zlh\.localhost:\d+/\?token=[\w.-]+", url)
    owner = browser(demo, url)
    assert (await owner.ask("GET", "/")).status == 401
    opened = await owner.open(url)
    assert (opened.status, opened.json["target"]) == (200, "/")
    assert "cookie" not in dict(opened.json["fields"])
    thief = browser(demo, url)
    assert (await thief.open(url)).status == 401, "a token is good once"
    assert (await owner.ask("POST", "/save", "Origin: https://evil.example")).status == 403
    async with owner.websocket() as socket:
        await customer.post("/api/auth/logout")
        assert await ended(socket) == 4401
    assert (await owner.ask("GET", "/")).status == 401


async def test_a_friends_ide_ends_with_the_share(
    demo: DemoProcess, customer: Portal, dev: int, program: Program
) -> None:
    async with Portal(demo.ready["url"], **demo.ready["users"]["friend"]) as friend:
        assert await friend.refused("POST", f"/api/dev/{dev}/ide-token") == 404
        path = f"/api/servers/{dev}/shares"
        share = (await customer.post(path, {"email": FRIEND, "permissions": ["ide"]}))["share"]["id"]
        url = await way_in(friend, f"/api/dev/{dev}")
        guest = browser(demo, url)
        assert (await guest.open(url)).status == 200
        async with guest.websocket() as socket:
            await customer.delete(f"{path}/{share}")
            assert await ended(socket) == 4404
        assert (await guest.ask("GET", "/")).status == 404


async def test_a_port_is_private_until_it_is_opened_to_others(
    demo: DemoProcess, customer: Portal, dev: int, program: Program
) -> None:
    ports = f"/api/dev/{dev}/ports"
    made = (await customer.post(ports, {"port": 3000, "label": "shop"}))["port"]
    try:
        passer_by = browser(demo, made["url"])
        assert (await passer_by.ask("GET", "/")).status == 401
        url = await way_in(customer, f"{ports}/3000")
        owner = browser(demo, url)
        assert (await owner.open(url)).status == 200
        async with owner.websocket() as socket:
            await customer.delete(f"{ports}/3000")
            assert await ended(socket) == 4403
        await customer.post(ports, {"port": 3000, "visibility": "public"})
        assert (await passer_by.ask("GET", "/x")).json["target"] == "/x"
    finally:
        await customer.delete(f"{ports}/3000")
    assert (await passer_by.ask("GET", "/")).status == 401


async def test_a_stopped_container_says_so_and_starts_on_request(
    demo: DemoProcess, customer: Portal, dev: int, program: Program
) -> None:
    url = await way_in(customer, f"/api/dev/{dev}")
    owner = browser(demo, url)
    await owner.open(url)
    async with owner.websocket() as socket:
        stopped = await customer.post(f"/api/servers/{dev}/host/stop")
        assert await ended(socket) == 1001
    await customer.follow(stopped["operation"])
    page = await owner.ask("GET", "/work", HTML)
    assert (page.status, "The container is off" in page.body.decode()) == (503, True)
    host = urlsplit(url).netloc
    assert (await owner.ask("POST", "/.zlh/start", HTML, "Origin: https://evil.example")).status == 403
    started = await owner.ask("POST", "/.zlh/start", HTML, f"Origin: http://{host}", f"Referer: http://{host}/work")
    assert (started.status, started.field("location")) == (303, "/work")
    with trio.fail_after(60):
        while (await owner.ask("GET", "/work", HTML)).status != 200:  # noqa: ASYNC110 - the container sets no event
            await trio.sleep(0.2)
    await customer.until(dev, "running")
