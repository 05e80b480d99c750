"""Attacks on the real listening socket. Each of them kills, fills or hangs a bare Hypercorn or a careless proxy."""

from __future__ import annotations

import resource
import socket as sockets

import pytest
import trio

from tests.gateway.peer import PATIENCE, connect, handshake, open_socket, until
from tests.gateway.process import server_process
from tests.gateway.server import running
from tests.stopwatch import Stopwatch
from zlh.gateway import Limits
from zlh.wire.frames import CloseCode, Opcode, client_frame
from zlh.wire.http import parse_response

H = b"Host: x\r\n"
TE = b"Transfer-Encoding: chunked\r\n"


@pytest.fixture
def many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        # HTTP/2 by prior knowledge, with a SETTINGS frame behind its preface
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS
        (b"GET / HTTP/1.1\n\n", 400),
        (b"GET / HTTP/3.0\r\n" + H + b"\r\n", 505),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"A: " + b"b" * 40_000, 431),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + H + b"\r\n", 414),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + H + b"X: \0\r\n\r\n", 400),
        # both lengths, in both orders
        (b"POST /echo HTTP/1.1\r\n" + H + TE + b"Content-Length: 4\r\n\r\n0\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\n" + H + b"Content-Length: 4\r\n" + TE + b"\r\n0\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\n" + H + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", 400),
        (b"POST /echo HTTP/1.1\r\n" + H + b"Content-Length: +4\r\n\r\nabcd", 400),
        (b"POST /echo HTTP/1.1\r\n" + H + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\n" + H + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\n" + H + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\n" + H + TE + TE + b"\r\n0\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\n" + H + TE + b"\r\nzz\r\n", 400),
        (b"POST /echo HTTP/1.1\r\n" + H + TE + b"\r\n-1\r\n", 400),
        (b"POST /echo HTTP/1.1\r\n" + H + TE + b"\r\n3\r\nabcd\r\n0\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\n" + H + TE + b"\r\n3\nabc\n0\n\n", 400),
        (b"POST /echo HTTP/1.1\r\n" + H + b"Content-Length: 1048577\r\n\r\n", 413),
        (b"POST /echo HTTP/1.1\r\n" + H + b"Content-Length: 1048577\r\nExpect: 100-continue\r\n\r\n", 413),
        (b"POST /echo HTTP/1.1\r\n" + H + TE + b"\r\n100001\r\n", 413),
        (b"POST /echo HTTP/1.1\r\n" + H + TE + b"\r\n" + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 17, 413),
        (b"POST /echo HTTP/1.1\r\n" + H + TE + b"\r\n" + (b"1;" + b"x" * 500 + b"\r\nx\r\n") * 200, 413),
    ],
)
async def test_ambiguous_malformed_and_oversized_requests_are_refused_and_closed(
    request_bytes: bytes, status: int
) -> None:
    async with running() as server, connect(server.port) as peer:
        await peer.send(request_bytes)
        answer = await peer.answer()
        assert answer.status == status
        assert answer.field("connection") == "close"
        assert set(answer.json) == {"error", "code", "details", "requestId"}
        # Nothing behind the refused request is taken for another one.
        try:
            await peer.send(b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
        except trio.BrokenResourceError:
            pass
        await peer.closed()
        assert peer.buffer == b""
        assert server.seen.requests == 0


async def test_an_h2c_upgrade_is_ignored() -> None:
    async with running() as server, connect(server.port) as peer:
        lines = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"]
        answer = await peer.ask("GET", "/echo", *lines)
        assert answer.status == 200
        assert not {"upgrade", "http2-settings"} & set(answer.json["fields"])


@pytest.mark.parametrize(
    "start",
    [
        b"G",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: ",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n",
    ],
)
async def test_slow_requests_get_408_however_they_drip(start: bytes) -> None:
    limits = Limits(head_seconds=0.6, body_progress_seconds=0.3, body_seconds=0.6)
    async with running(limits) as server, connect(server.port) as peer:
        await peer.send(start)

        async def drip() -> None:
            try:
                while True:
                    await trio.sleep(0.1)
                    await peer.send(b"x")
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            answer = await peer.answer()
            assert (answer.status, answer.json["code"]) == (408, "request_timeout")
            await peer.closed()
            nursery.cancel_scope.cancel()
        assert server.seen.requests == 0


async def test_a_silent_connection_is_closed_without_a_word() -> None:
    async with running(Limits(head_seconds=0.3, idle_seconds=0.3)) as server:
        async with connect(server.port) as peer:
            assert await peer.closed()
            assert peer.buffer == b""
        async with connect(server.port) as peer:
            assert (await peer.ask("GET", "/echo")).status == 200
            assert await peer.closed()
            assert peer.buffer == b""


async def test_a_client_that_reads_nothing_is_closed_alone() -> None:
    async with running(Limits(write_seconds=0.5)) as server, connect(server.port) as other:
        async with connect(server.port) as peer:
            await peer.send(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: server.gateway.stats().bytes_out > 100_000)
            await until(lambda: server.gateway.stats().connections == 1)
        assert (await other.ask("GET", "/echo")).status == 200
        await until(lambda: server.gateway.stats().upstream_connections == 1)


async def test_clients_that_read_nothing_cannot_delay_a_drain() -> None:
    async with running() as server, connect(server.port) as http, connect(server.port) as kept:
        assert (await kept.ask("GET", "/echo")).status == 200
        await http.send(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        async with open_socket(server.port, "/ws/echo"), open_socket(server.port, "/ws/deaf"):
            await until(lambda: server.gateway.stats().websockets == 2)
            began, watch = trio.current_time(), Stopwatch()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.gateway.drain, 3.0)
                await trio.sleep(0.2)
                refused = await kept.ask("GET", "/echo")
                assert (refused.status, refused.json["code"]) == (503, "draining")
                assert refused.field("connection") == "close"
                with pytest.raises(OSError):
                    await trio.open_tcp_stream("127.0.0.1", server.port)
            assert trio.current_time() - began > 2.5
            assert watch.seconds < 4.0


async def test_a_drain_closes_websockets_and_waits_for_what_is_in_flight() -> None:
    async with running() as server, connect(server.port) as slow, connect(server.port) as events:
        await slow.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await server.seen.started.wait()
        await events.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: server.gateway.stats().upstream_connections == 2)
        while b"data: 2" not in events.buffer:
            await events.more()
        async with open_socket(server.port, "/ws/echo") as first, open_socket(server.port, "/ws/deaf") as second:
            watch = Stopwatch()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.gateway.drain)
                for socket in (first, second):
                    closed = await socket.close()
                    assert (closed.code, closed.reason) == (CloseCode.RESTART, "restarting")
                await events.closed()
                server.seen.release.set()
                answer = await slow.answer()
                assert (answer.body, answer.field("connection")) == (b"done", "close")
            assert watch.seconds < 4.0


async def test_a_300_mb_upload_leaves_memory_flat() -> None:
    block = b"x" * (1 << 20)
    async with server_process() as server:
        for framing in (b"Content-Length: 314572800\r\n\r\n", TE + b"\r\n"):
            before = server.memory()
            async with connect(server.port) as peer:
                await peer.send(b"POST /slow HTTP/1.1\r\n" + H + framing)
                sent = 0
                try:
                    for _ in range(300):
                        await peer.send(block if framing.startswith(b"Content") else b"100000\r\n" + block + b"\r\n")
                        sent += len(block)
                except trio.BrokenResourceError:
                    pass
                with trio.move_on_after(1):
                    while b"\r\n\r\n" not in peer.buffer:
                        try:
                            if not await peer.more():
                                break
                        except trio.BrokenResourceError:
                            break
            if b"\r\n\r\n" in peer.buffer:
                assert parse_response(peer.buffer.partition(b"\r\n\r\n")[0]).status == 413
            assert server.memory() - before < 30
        assert (await server.stats())["refusals"]["too_large"] == 2
        async with connect(server.port) as peer:
            assert (await peer.ask("GET", "/echo")).status == 200


@pytest.mark.parametrize("target", ["/ws/deaf", "/ws/echo", "/api/servers/1/console/stream?access_token=good"])
async def test_a_300_mb_websocket_flood_leaves_memory_flat(target: str) -> None:
    frame = client_frame(Opcode.BINARY, b"x" * 60_000)
    async with server_process() as server:
        before = server.memory()
        async with connect(server.port) as peer:
            await peer.send(handshake(target))
            assert (await peer.read_head()).status == 101
            try:
                for _ in range(5000):
                    await peer.send(frame)
            except trio.BrokenResourceError:
                pass
        assert server.memory() - before < 30
        stats = await server.stats()
        assert stats["bytes_in"] < 310 << 20


async def test_many_small_uploads_at_once_share_one_budget() -> None:
    async with running(Limits(bodies=3_000_000)) as server, trio.open_nursery() as nursery:
        statuses: list[int] = []

        async def upload() -> None:
            async with connect(server.port) as peer:
                await peer.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 900_000)
                await trio.sleep(0.5)
                try:
                    await peer.send(b"x" * 100_000)
                except trio.BrokenResourceError:
                    pass
                statuses.append((await peer.answer()).status)

        for _ in range(6):
            nursery.start_soon(upload)
        await until(lambda: len(statuses) == 6)
        assert sorted(statuses) == [200, 200, 200, 503, 503, 503]


async def open_many(port: int, count: int, start: bytes) -> list[trio.socket.SocketType]:
    opened = []
    for _ in range(count):
        sock = trio.socket.socket(sockets.AF_INET, sockets.SOCK_STREAM)
        await sock.connect(("127.0.0.1", port))
        if start:
            await sock.send(start)
        opened.append(sock)
    return opened


@pytest.mark.usefixtures("many_files")
async def test_a_thousand_half_open_and_a_thousand_idle_connections_cost_little() -> None:
    async with server_process(connections_per_address=5000, head_seconds=120, idle_seconds=120) as server:
        before = server.memory()
        half_open = await open_many(server.port, 1000, b"GET / HT")
        idle = await open_many(server.port, 1000, b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
        for sock in idle:
            assert (await sock.recv(4096)).startswith(b"HTTP/1.1 200")
        with trio.fail_after(PATIENCE):
            # What was answered last may not be idle yet.
            while (stats := await server.stats())["half_open"] != 1000 or stats["idle"] != 1000:  # noqa: ASYNC110
                await trio.sleep(0.05)
        assert server.memory() - before < 60
        began = server.cpu()
        await trio.sleep(2)
        assert server.cpu() - began < 0.2
        async with connect(server.port) as peer:
            assert (await peer.ask("GET", "/echo")).status == 200
        for sock in half_open + idle:
            sock.close()


async def test_the_longest_idle_is_shed_first_and_the_busy_never() -> None:
    async with running(Limits(connections=20)) as server:
        busy = await open_many(server.port, 1, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await server.seen.started.wait()
        waiting = []
        for start in (b"", b"GET / HT", b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n") * 6:
            waiting += await open_many(server.port, 1, start)
            if b"nothing" in start:
                await waiting[-1].recv(4096)
        await until(lambda: server.gateway.stats().connections == 19)
        late = await open_many(server.port, 4, b"")
        await until(lambda: server.gateway.stats().shed == 3)
        for sock in waiting[:3]:
            with trio.fail_after(5):
                assert await sock.recv(10) == b""
        with trio.move_on_after(0.3) as still_open:
            await waiting[3].recv(10)
        assert still_open.cancelled_caught
        server.seen.release.set()
        with trio.fail_after(5):
            assert (await busy[0].recv(4096)).startswith(b"HTTP/1.1 200")
        for sock in busy + waiting + late:
            sock.close()


async def test_when_all_are_busy_a_new_connection_is_told_so() -> None:
    async with running(Limits(connections=16)) as server:
        busy = await open_many(server.port, 16, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: server.gateway.stats().upstream_connections == 16)
        async with connect(server.port) as peer:
            answer = await peer.answer()
            assert (answer.status, answer.json["code"]) == (503, "too_many_connections")
        server.seen.release.set()
        for sock in busy:
            sock.close()


async def test_one_address_cannot_take_all_places() -> None:
    async with running(Limits(connections_per_address=5)) as server:
        opened = await open_many(server.port, 8, b"")
        await until(lambda: server.gateway.stats().shed == 3)
        assert server.gateway.stats().connections == 5
        for sock in opened:
            sock.close()


async def test_a_reset_at_any_moment_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    starts = [
        b"",
        b"GET / HT",
        b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx",
        handshake("/ws/echo"),
        handshake("/ws/echo") + client_frame(Opcode.TEXT, b"x")[:4],
        handshake("/api/servers/1/console/stream?access_token=good"),
    ]
    async with running() as server:
        for start in starts * 5:
            (sock,) = await open_many(server.port, 1, start)
            await trio.sleep(0.01)
            sock.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
        await until(lambda: server.gateway.stats().connections == 0)
        await until(lambda: not server.consoles.viewers)
        assert server.gateway.stats().crashes == 0
    noise = [record for record in caplog.records if record.levelname in ("WARNING", "ERROR", "CRITICAL")]
    assert noise == []
