"""The control plane through the gateway: real sockets, real Hypercorn, a small Quart application."""

from __future__ import annotations

import pytest
import trio

from tests.gateway.peer import connect, until
from tests.gateway.server import Running, gateway_to, running, upstream_of
from zlh.gateway import Limits


async def test_requests_and_bodies_arrive_and_connections_are_kept() -> None:
    async with running() as server, connect(server.port) as peer:
        answer = await peer.ask("GET", "/echo?a=1", "X-Request-Id: abc-1")
        assert (answer.status, answer.json["query"], answer.field("x-request-id")) == (200, "a=1", "abc-1")
        assert answer.field("connection") is None
        answer = await peer.ask("POST", "/echo", body=b"x" * 70_000)
        assert answer.json["body"] == 70_000
        assert len(answer.field("x-request-id") or "") == 16
        await peer.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        answer = await peer.answer()
        assert (answer.json["body"], answer.json["fields"]["content-length"]) == (3, "3")
        assert "transfer-encoding" not in answer.json["fields"]
        assert (await peer.ask("GET", "/bytes/1000000")).body == b"x" * 1_000_000
        assert server.gateway.stats().requests == 4
        assert server.gateway.stats().upstream_connections == 1


async def test_answers_without_a_body() -> None:
    async with running() as server, connect(server.port) as peer:
        head = await peer.ask("HEAD", "/echo")
        assert head.status == 200
        assert int(head.field("content-length") or 0) > 10
        assert (await peer.ask("GET", "/nothing")).status == 204
        assert (await peer.ask("OPTIONS", "/echo")).status == 200
        assert (await peer.ask("GET", "/absent")).status == 404


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with running() as server, connect(server.port) as peer:
        await peer.send(b"".join(b"GET /echo?%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(5)))
        assert [(await peer.answer()).json["query"] for _ in range(5)] == ["0", "1", "2", "3", "4"]


async def test_the_client_decides_about_the_connection() -> None:
    async with running() as server:
        async with connect(server.port) as peer:
            answer = await peer.ask("GET", "/echo", "Connection: close")
            assert answer.field("connection") == "close"
            assert await peer.closed()
        async with connect(server.port) as peer:
            await peer.send(b"GET /echo HTTP/1.0\r\n\r\n")
            assert (await peer.answer()).status == 200
            assert await peer.closed()
        async with connect(server.port) as peer:
            for _ in range(2):
                await peer.send(b"GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                assert (await peer.answer()).field("connection") == "keep-alive"
        async with connect(server.port) as peer:
            server.seen.release.set()
            await peer.send(b"GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            answer = await peer.answer()
            assert not answer.head.chunked
            assert answer.body.endswith(b"data: end\n\n")


async def test_an_expectation_is_met_before_the_body_comes() -> None:
    async with running() as server, connect(server.port) as peer:
        await peer.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert (await peer.read_head()).status == 100
        await peer.send(b"abc")
        assert (await peer.answer()).json["body"] == 3


async def test_hop_by_hop_fields_and_lies_about_the_client_are_dropped() -> None:
    lies = ["X-Forwarded-For: 1.2.3.4", "X-Real-IP: 1.2.3.4", "Forwarded: for=1.2.3.4", "X-Forwarded-Proto: https"]
    hops = ["Connection: x-hop", "X-Hop: 1", "Keep-Alive: 5", "TE: trailers", "Proxy-Connection: x", "Upgrade: h2c"]
    async with running() as server, connect(server.port) as peer:
        fields = (await peer.ask("GET", "/echo", *lies, *hops, "X-Stays: 1")).json["fields"]
        assert fields["x-forwarded-for"] == "127.0.0.1"
        assert (fields["x-forwarded-proto"], fields["x-forwarded-host"], fields["x-stays"]) == ("http", "test", "1")
        gone = {"x-real-ip", "forwarded", "connection", "x-hop", "keep-alive", "te", "proxy-connection", "upgrade"}
        assert not gone & set(fields)


async def test_a_trusted_proxy_is_believed_about_the_client() -> None:
    async with running(trusted_proxies=["127.0.0.0/8"]) as server, connect(server.port) as peer:
        lines = [
            "X-Forwarded-For: 6.6.6.6, 9.9.9.9, 127.0.0.5",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: api.x",
        ]
        fields = (await peer.ask("GET", "/echo", *lines)).json["fields"]
        assert fields["x-forwarded-for"] == "9.9.9.9"
        assert (fields["x-forwarded-proto"], fields["x-forwarded-host"]) == ("https", "api.x")


async def test_event_streams_are_passed_on_as_they_come() -> None:
    async with running() as server, connect(server.port) as peer:
        await peer.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        while b"data: 2\n\n" not in peer.buffer:
            assert await peer.more()
        assert not server.seen.release.is_set()
        server.seen.release.set()
        assert (await peer.answer()).body.endswith(b"data: end\n\n")


async def leave_while(server: Running, request: bytes) -> None:
    async with connect(server.port) as peer:
        await peer.send(request)
        with trio.fail_after(5):
            await server.seen.started.wait()
    with trio.fail_after(5):
        await server.seen.cancelled.wait()
    await until(lambda: server.gateway.stats().connections == 0)


@pytest.mark.parametrize("request_line", [b"GET /slow", b"GET /stream"])
async def test_a_client_that_leaves_cancels_the_handler_quietly(
    request_line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as server:
        await leave_while(server, request_line + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert server.gateway.stats().disconnects == 1
        assert server.gateway.stats().crashes == 0
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


async def test_an_upstream_that_fails_is_told_in_the_envelope() -> None:
    async def silent(stream: trio.SocketStream) -> None:
        await stream.receive_some()

    async def nonsense(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"SSH-2.0-OpenSSH\r\n\r\n")

    async def both(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1")

    async def hangs(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    limits = Limits(answer_seconds=0.3)
    for handler, status, code in [
        (silent, 502, "bad_gateway"),
        (nonsense, 502, "bad_gateway"),
        (both, 502, "bad_gateway"),
        (hangs, 504, "deadline_exceeded"),
    ]:
        async with upstream_of(handler) as path, gateway_to(path, limits) as port, connect(port) as peer:
            answer = await peer.ask("GET", "/")
            assert (answer.status, answer.json["code"]) == (status, code)
            assert answer.json["requestId"] == answer.field("x-request-id")
            assert await peer.closed()
    async with gateway_to("/nowhere/at.all", limits) as port, connect(port) as peer:
        assert (await peer.ask("GET", "/")).status == 502


async def test_an_answer_that_breaks_off_closes_the_client() -> None:
    async def cut(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")

    async with upstream_of(cut) as path, gateway_to(path) as port, connect(port) as peer:
        await peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await peer.closed()
        assert peer.buffer.endswith(b"\r\n\r\n12345")


async def test_a_connection_is_not_used_again_after_an_odd_answer() -> None:
    connections = 0

    async def odd(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        while await stream.receive_some():
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n")

    async with upstream_of(odd) as path, gateway_to(path) as port, connect(port) as peer:
        for _ in range(3):
            assert (await peer.ask("GET", "/")).body == b"ok"
        assert connections == 3


async def test_a_stream_that_is_asked_for_by_head_holds_up_nobody_else() -> None:
    async with running() as server, connect(server.port) as peer:
        assert (await peer.ask("HEAD", "/stream")).status == 200
        with trio.fail_after(5):
            assert (await peer.ask("GET", "/echo")).status == 200


async def test_a_client_cannot_have_its_host_dropped() -> None:
    async with running() as server, connect(server.port) as peer:
        answer = await peer.ask("GET", "/echo", "Connection: keep-alive, host")
        assert (answer.status, answer.json["fields"]["host"]) == (200, "test")


async def test_a_pooled_connection_that_closes_under_a_request_is_replaced_for_a_get_only() -> None:
    served: list[bytes] = []

    async def once(stream: trio.SocketStream) -> None:
        served.append(await stream.receive_some())
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        # Takes the second request, and closes without an answer.
        served.append(await stream.receive_some())

    async with upstream_of(once) as path, gateway_to(path) as port, connect(port) as peer:
        assert (await peer.ask("GET", "/1")).status == 200
        assert (await peer.ask("GET", "/2")).status == 200
        assert [line.split()[1] for line in served] == [b"/1", b"/2", b"/2"]
        answer = await peer.ask("POST", "/3", body=b"x")
        assert answer.status == 502
        assert [line.split()[1] for line in served].count(b"/3") == 1


@pytest.mark.parametrize("origin", ["https://portal.example", "https://evil.example"])
async def test_a_refusal_can_be_read_by_the_portal_alone(origin: str) -> None:
    async with gateway_to("/nowhere/at.all") as port, connect(port) as peer:
        answer = await peer.ask("GET", "/", f"Origin: {origin}")
        allowed = answer.field("access-control-allow-origin")
        assert allowed == (origin if "portal" in origin else None)
