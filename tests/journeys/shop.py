"""A customer's own program in a dev container: a page that fetches, opens a websocket and sets a cookie.

The page's elements `fetched` and `socket` say how that went.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from tests.gateway.ide import Program
from zlh.wire.http import RequestHead

if TYPE_CHECKING:
    from playwright.sync_api import Page

PAGE = """\
<!doctype html>
<title>Shop</title>
<p id="fetched"></p>
<p id="socket"></p>
<script>
const say = (id, text) => { document.getElementById(id).textContent = text; };
fetch("data", {method: "POST", body: "order"}).then(answer => answer.text()).then(text => say("fetched", text));
const socket = new WebSocket(new URL("ws", location.href.replace(/^http/, "ws")));
socket.onopen = () => socket.send("open");
socket.onmessage = event => say("socket", event.data);
socket.onclose = event => say("socket", `closed ${event.code}`);
</script>
"""


def answer(address: str, port: int, head: RequestHead, body: bytes) -> bytes:
    """`/moved` leads to `/there` at the address by which the program knows itself; `/data` tells what came."""
    path = head.path.rpartition(b"/")[2]
    if path == b"moved":
        return f"HTTP/1.1 302 Found\r\nLocation: http://{address}:{port}/there\r\nContent-Length: 0\r\n\r\n".encode()
    if path == b"data":
        cookies = (head.get(b"cookie") or b"").decode()
        told = {"method": head.method.decode(), "bytes": len(body), "cookies": cookies}
        return _ok("application/json", json.dumps(told))
    return _ok("text/html", PAGE, "Set-Cookie: basket=3; Path=/; Domain=localhost")


def _ok(content_type: str, text: str, *lines: str) -> bytes:
    body = text.encode()
    fields = ["HTTP/1.1 200 OK", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join(fields).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def open_shops(address: str, *ports: int) -> AsyncIterator[dict[int, Program]]:
    """One at each port of the address."""
    shops = {port: Program(address, answer=partial(answer, address, port)) for port in ports}
    async with trio.open_nursery() as nursery:
        for port, shop in shops.items():
            await nursery.start(partial(trio.serve_tcp, shop.serve, port, host=address))
        yield shops
        nursery.cancel_scope.cancel()


def is_served(page: Page) -> None:
    """The page is there, and what it does by itself works."""
    page.locator("#fetched", has_text='"bytes": 5').wait_for()
    page.locator("#socket", has_text="open").wait_for()
