"""What the gateway answers from memory: like any answer, and only where it may."""

from __future__ import annotations

import pytest
import trio

from tests.gateway.peer import connect
from tests.gateway.server import running
from zlh.wire.http import Fields

SIGNED_IN = "Authorization: Bearer good"


def reads(target: bytes, authorization: bytes, origin: bytes | None, address: str) -> tuple[Fields, bytes] | None:
    if target != b"/echo" or authorization != b"Bearer good":
        return None
    fields = [(b"content-type", b"text/plain"), (b"x-origin", origin or b"none"), (b"x-asks", address.encode())]
    return fields, b"from memory"


async def test_it_answers_and_keeps_the_connection() -> None:
    async with running(reads=reads) as server, connect(server.port) as peer:
        answer = await peer.ask("GET", "/echo", SIGNED_IN, "Origin: https://a.example", "X-Request-Id: abc-1")
        assert (answer.status, answer.body) == (200, b"from memory")
        assert (answer.field("x-origin"), answer.field("x-request-id")) == ("https://a.example", "abc-1")
        assert answer.field("connection") is None
        assert answer.field("x-asks") == "127.0.0.1"
        assert answer.field("date")
        assert (await peer.ask("GET", "/echo", SIGNED_IN)).body == b"from memory"
        assert server.gateway.stats().requests == 2
        assert server.gateway.stats().upstream_connections == 0


async def test_who_asks_is_told_by_a_trusted_proxy_alone() -> None:
    said = "X-Forwarded-For: 192.0.2.7"
    for proxies, address in (((), "127.0.0.1"), (("127.0.0.0/8",), "192.0.2.7")):
        async with running(reads=reads, trusted_proxies=proxies) as server, connect(server.port) as peer:
            assert (await peer.ask("GET", "/echo", SIGNED_IN, said)).field("x-asks") == address


@pytest.mark.parametrize(
    ("method", "target", "fields", "body"),
    [
        ("GET", "/echo", [], b""),
        ("GET", "/echo", ["Authorization: Bearer bad"], b""),
        ("GET", "/echo?a=1", [SIGNED_IN], b""),
        ("POST", "/echo", [SIGNED_IN], b""),
        ("GET", "/echo", [SIGNED_IN], b"a body"),
    ],
)
async def test_everything_else_is_relayed(method: str, target: str, fields: list[str], body: bytes) -> None:
    async with running(reads=reads) as server, connect(server.port) as peer:
        answer = await peer.ask(method, target, *fields, body=body)
        assert answer.status == 200
        assert answer.body != b"from memory"


async def test_the_client_decides_about_the_connection() -> None:
    async with running(reads=reads) as server:
        async with connect(server.port) as peer:
            assert (await peer.ask("GET", "/echo", SIGNED_IN, "Connection: close")).field("connection") == "close"
            assert await peer.closed()
        async with connect(server.port) as peer:
            await peer.send(b"GET /echo HTTP/1.0\r\nAuthorization: Bearer good\r\nConnection: keep-alive\r\n\r\n")
            assert (await peer.answer()).field("connection") == "keep-alive"


async def test_a_client_that_asks_without_a_pause_does_not_stop_the_others() -> None:
    request = b"GET /echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n\r\n"
    async with running(reads=reads) as server, connect(server.port) as greedy:
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count_turns)
            await greedy.send(request * 200)
            for _ in range(200):
                assert (await greedy.answer()).body == b"from memory"
            nursery.cancel_scope.cancel()
        # A turn between each two of them; of the first and the last the counter may see none.
        assert turns >= 190
