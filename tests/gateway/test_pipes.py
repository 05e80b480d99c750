"""Long bodies, which go through a pipe in the kernel: whole, held back, broken off, and nothing of it is left."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import trio

from tests.gateway.peer import connect, until
from tests.gateway.test_streaming import Handler, StreamingGateway, read_head, streaming_to
from zlh.gateway import relay
from zlh.gateway.connection import GoneError, Interrupted
from zlh.gateway.limits import Limits
from zlh.gateway.pipes import WORTH_IT
from zlh.gateway.relay import CutError

BODY = bytes(number * number % 251 for number in range(1 << 20)) * 5
GET = b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n"


def files() -> int:
    return len(os.listdir("/proc/self/fd"))


def source(body: bytes = BODY, *, said: int | None = None, piece: int = 300_000) -> Handler:
    """Answers every request with `body` in pieces, having `said` another length perhaps."""

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            while True:
                try:
                    await read_request(stream)
                except EOFError:
                    return
                length = len(body) if said is None else said
                await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length)
                for begin in range(0, len(body), piece):
                    await stream.send_all(body[begin : begin + piece])
                if said is not None:
                    return

    async def forgiving(stream: trio.SocketStream) -> None:
        try:
            await answer(stream)
        except trio.BrokenResourceError:
            pass

    return forgiving


async def read_request(stream: trio.SocketStream) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some(65536)
        if not more:
            raise EOFError
        data += more


@pytest.fixture(autouse=True)
async def nothing_is_left() -> AsyncIterator[None]:
    before = files()
    yield
    await until(lambda: files() <= before)


async def test_a_long_body_arrives_whole_and_both_connections_are_kept() -> None:
    async with streaming_to(source()) as gateway, connect(gateway.port) as peer:
        for _ in range(3):
            await peer.send(GET)
            assert (await peer.answer()).body == BODY
        assert gateway.pool.open_count == 1
        assert gateway.counters.bytes_out > 3 * len(BODY)


@pytest.mark.parametrize("size", [WORTH_IT - 1, WORTH_IT, WORTH_IT + 1])
async def test_bodies_at_the_edge(size: int) -> None:
    async with streaming_to(source(BODY[:size], piece=7001)) as gateway, connect(gateway.port) as peer:
        await peer.send(GET)
        assert (await peer.answer()).body == BODY[:size]


async def test_what_the_upstream_says_beyond_its_length_is_not_passed_on() -> None:
    async with streaming_to(source(BODY + b"HTTP/1.1 200 OK\r\n", said=len(BODY))) as gateway:
        async with connect(gateway.port) as peer:
            await peer.send(GET)
            assert (await peer.answer()).body == BODY
            # The next one gets a connection that has nothing left from before.
            await peer.send(GET)
            assert (await peer.answer()).body == BODY
        assert gateway.errors == []


async def test_a_body_that_breaks_off_closes_the_client() -> None:
    async with streaming_to(source(BODY[:1_000_000], said=len(BODY))) as gateway, connect(gateway.port) as peer:
        await peer.send(GET)
        await peer.read_head()
        assert await peer.closed()
        await until(lambda: gateway.pool.open_count == 0)
        assert [type(error) for error in gateway.errors] == [CutError]


async def test_a_client_that_leaves_ends_it_at_the_upstream() -> None:
    async with streaming_to(source(BODY * 10)) as gateway:
        async with connect(gateway.port) as peer:
            await peer.send(GET)
            await peer.read_head()
        await until(lambda: gateway.pool.open_count == 0)
        assert [type(error) for error in gateway.errors] == [GoneError]


async def test_a_client_that_does_not_read_is_not_waited_for_for_ever() -> None:
    async with streaming_to(source(BODY * 10), Limits(write_seconds=0.5)) as gateway, connect(gateway.port) as peer:
        await peer.send(GET)
        await until(lambda: gateway.pool.open_count == 0 and bool(gateway.errors))
        assert [type(error) for error in gateway.errors] == [Interrupted]


async def test_where_no_pipe_is_to_be_had_it_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> None:
        raise OSError(24, "too many open files")

    monkeypatch.setattr(relay, "Pipe", none_left)
    async with streaming_to(source()) as gateway, connect(gateway.port) as peer:
        await peer.send(GET)
        assert (await peer.answer()).body == BODY


async def test_many_at_once_do_not_mix() -> None:
    async def own(stream: trio.SocketStream) -> None:
        async with stream:
            head, _ = await read_head(stream)
            body = bytes([int(head.split(b" ")[1][1:])]) * 1_000_000
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + body)

    async def ask(gateway: StreamingGateway, number: int) -> None:
        async with connect(gateway.port) as peer:
            await peer.send(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number)
            assert (await peer.answer()).body == bytes([number]) * 1_000_000

    async with streaming_to(own) as gateway, trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(ask, gateway, number)
