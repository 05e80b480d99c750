"""The same relay for a data plane: a TCP destination, bodies streamed through instead of collected."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

from tests.gateway.peer import connect, until
from zlh.gateway.client import BodyBudget, Client, State
from zlh.gateway.connection import GoneError, Interrupted
from zlh.gateway.forwarded import TrustedProxies
from zlh.gateway.limits import Limits
from zlh.gateway.listener import Listener, open_listener
from zlh.gateway.refusals import Refusal
from zlh.gateway.relay import CutError, Exchange, Relay, Route
from zlh.gateway.stats import Counters
from zlh.gateway.upstream import Pool, TcpDestination
from zlh.gateway.watch import Watch
from zlh.wire.http import end_to_end, parse_request

Handler = Callable[[trio.SocketStream], Any]
_FRAMING = frozenset((b"content-length", b"expect"))


class StreamingGateway:
    """As small as a user of the parts can be: every request goes to one TCP destination."""

    def __init__(self, upstream_port: int, limits: Limits) -> None:
        self.watch, self.counters, self.errors = Watch(), Counters(), list[Exception]()
        self.pool = Pool(limits, self.watch)
        self._relay = Relay(self.pool, BodyBudget(limits.bodies))
        self._route = Route(TcpDestination("127.0.0.1", upstream_port), None, 5.0)
        sock = open_listener("127.0.0.1", 0, 16)
        self.port: int = sock.getsockname()[1]
        self.listener = Listener(
            sock,
            self._converse,
            limits=limits,
            proxies=TrustedProxies(),
            watch=self.watch,
            counters=self.counters,
        )

    async def _converse(self, client: Client) -> None:
        try:
            while raw := await client.next_head():
                self.listener.busy(client)
                client.state = State.BUSY
                head = parse_request(raw)
                fields = end_to_end(head.fields, head.connection, _FRAMING)
                if not await self._relay.handle(Exchange(client, head, fields, b"id-1"), self._route):
                    return
                client.state = State.IDLE
        except Refusal as refusal:
            self.errors.append(refusal)
            client.send_nowait(refusal.answer(b"id-1"))
        except (CutError, GoneError, Interrupted) as error:
            self.errors.append(error)


@asynccontextmanager
async def streaming_to(handler: Handler, limits: Limits | None = None) -> AsyncIterator[StreamingGateway]:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
        gateway = StreamingGateway(listeners[0].socket.getsockname()[1], limits or Limits())
        nursery.start_soon(gateway.watch.run)
        nursery.start_soon(gateway.listener.run)
        yield gateway
        nursery.cancel_scope.cancel()
    gateway.watch.close()


async def read_head(stream: trio.SocketStream) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += await stream.receive_some(65536)
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


class Sink:
    """Counts what it is sent, when it may, and answers at the end."""

    def __init__(self, end: bytes | int) -> None:
        self.end = end
        self.received = 0
        self.head = b""
        self.go = trio.Event()
        self.gone = trio.Event()

    async def __call__(self, stream: trio.SocketStream) -> None:
        self.head, tail = await read_head(stream)
        self.received = len(tail)
        await self.go.wait()
        while not (tail.endswith(self.end) if isinstance(self.end, bytes) else self.received >= self.end):
            data = await stream.receive_some(65536)
            if not data:
                self.gone.set()
                return
            self.received += len(data)
            tail = tail[-16:] + data
        await stream.send_all(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok")
        await stream.receive_some()


async def test_an_upload_streams_through_and_waits_for_the_upstream() -> None:
    size = 30_000_000
    sink = Sink(size)
    async with streaming_to(sink) as gateway, connect(gateway.port) as peer:
        sent = 0

        async def upload() -> None:
            nonlocal sent
            await peer.send(b"PUT /file HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(size // 100_000):
                await peer.send(b"x" * 100_000)
                sent += 100_000

        async with trio.open_nursery() as nursery:
            nursery.start_soon(upload)
            await until(lambda: sent > 0)
            await trio.sleep(0.5)
            # The upstream reads nothing yet, so what the kernels do not hold stays with the client.
            assert 0 < sent < size
            assert gateway.counters.bytes_in < size
            sink.go.set()
            answer = await peer.answer()
        assert (answer.status, answer.body, sink.received) == (201, b"ok", size)
        assert b"content-length: %d" % size in sink.head
        # The connection to the client goes on.
        await peer.send(b"PUT /file HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
        await until(lambda: gateway.counters.bytes_in > size)


async def test_a_chunked_upload_stays_chunked() -> None:
    sink = Sink(b"0\r\n\r\n")
    sink.go.set()
    async with streaming_to(sink) as gateway, connect(gateway.port) as peer:
        await peer.send(b"PUT /file HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(20):
            await peer.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        await peer.send(b"0\r\n\r\n")
        assert (await peer.answer()).status == 201
        assert b"transfer-encoding: chunked" in sink.head
        assert 20_000 < sink.received < 20_500


async def test_an_upstream_may_answer_before_the_body_is_complete() -> None:
    async def full(stream: trio.SocketStream) -> None:
        await read_head(stream)
        await stream.send_all(b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 4\r\n\r\nfull")
        await stream.receive_some()

    async with streaming_to(full) as gateway, connect(gateway.port) as peer:
        await peer.send(b"PUT /file HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nxxx")
        answer = await peer.answer()
        assert (answer.status, answer.body, answer.field("connection")) == (507, b"full", "close")


async def test_an_upload_that_breaks_off_breaks_off_at_the_upstream() -> None:
    sink = Sink(1000)
    sink.go.set()
    async with streaming_to(sink) as gateway:
        async with connect(gateway.port) as peer:
            await peer.send(b"PUT /file HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nxxx")
            await until(lambda: sink.received == 3)
        with trio.fail_after(5):
            await sink.gone.wait()
        await until(lambda: gateway.pool.open_count == 0)
        assert [type(error) for error in gateway.errors] == [GoneError]


async def test_a_malformed_or_slow_upload_is_refused_in_the_middle() -> None:
    sink = Sink(1000)
    sink.go.set()
    async with streaming_to(sink, Limits(body_progress_seconds=0.4)) as gateway:
        async with connect(gateway.port) as peer:
            await peer.send(b"PUT /file HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n")
            assert (await peer.answer()).status == 400
        async with connect(gateway.port) as peer:
            await peer.send(b"PUT /file HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nxxx")
            assert (await peer.answer()).status == 408


async def test_a_download_is_held_back_by_its_reader() -> None:
    sent = 0

    async def source(stream: trio.SocketStream) -> None:
        nonlocal sent
        await read_head(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        for _ in range(500):
            await stream.send_all(b"x" * 100_000)
            sent += 100_000

    async with streaming_to(source) as gateway, connect(gateway.port) as peer:
        await peer.send(b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n")
        await trio.sleep(0.5)
        assert sent < 40_000_000
        assert len((await peer.answer()).body) == 50_000_000


async def test_an_answer_that_ends_with_its_connection_reaches_both_versions() -> None:
    async def old(stream: trio.SocketStream) -> None:
        await read_head(stream)
        await stream.send_all(b"HTTP/1.0 200 OK\r\n\r\nuntil ")
        await stream.send_all(b"the end")

    async with streaming_to(old) as gateway:
        for version, chunked in ((b"1.1", True), (b"1.0", False)):
            async with connect(gateway.port) as peer:
                await peer.send(b"GET / HTTP/" + version + b"\r\nHost: x\r\n\r\n")
                answer = await peer.answer()
                assert (answer.body, answer.head.chunked) == (b"until the end", chunked)
