"""Websockets of the control plane: passed on without extensions, measured, and closed with the right code."""

from __future__ import annotations

import pytest
import trio

from tests.gateway.peer import Socket, connect, handshake, open_socket, until
from tests.gateway.server import gateway_to, running, upstream_of
from zlh.gateway import Limits
from zlh.wire.frames import CloseCode, Opcode, Pong, client_frame, close_payload, server_frame
from zlh.wire.walker import FrameLimits


async def test_messages_go_both_ways_and_both_sides_may_close() -> None:
    async with running() as server:
        async with open_socket(server.port, "/ws/echo") as socket:
            for text in ("hello", "x" * 60_000, "ä"):
                await socket.send(text)
                assert await socket.text() == text
            await socket.peer.send(client_frame(Opcode.PING, b"p"))
            assert await socket.event() == Pong(b"p")
            assert server.gateway.stats().websockets == 1
            await socket.peer.send(client_frame(Opcode.CLOSE, close_payload(1000)))
            assert (await socket.close()).code == 1000
            assert await socket.event() is None
        async with open_socket(server.port, "/ws/bye") as socket:
            assert (await socket.close()).code == 4404
        await until(lambda: server.gateway.stats().connections == 0)


async def test_an_error_after_accept_closes_with_1011() -> None:
    async with running() as server, open_socket(server.port, "/ws/error") as socket:
        assert (await socket.close()).code == CloseCode.INTERNAL


async def test_an_upstream_that_vanishes_closes_with_1011() -> None:
    async def vanish(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        await stream.send_all(switch + server_frame(Opcode.TEXT, b"hello"))

    async with upstream_of(vanish) as path, gateway_to(path) as port, connect(port) as peer:
        await peer.send(handshake("/ws"))
        assert (await peer.read_head()).status == 101
        socket = Socket(peer)
        assert await socket.text() == "hello"
        assert (await socket.close()).code == CloseCode.INTERNAL


async def test_a_refused_upgrade_is_an_ordinary_answer() -> None:
    async with running() as server, connect(server.port) as peer:
        await peer.send(handshake("/ws/no"))
        answer = await peer.answer()
        assert (answer.status, answer.body) == (403, b"not for you")
        await peer.send(handshake("/ws/absent"))
        assert (await peer.answer()).status == 404


async def test_extensions_are_never_negotiated() -> None:
    """So a compressed bomb cannot be sent: a frame with the bit for it is a violation."""
    async with running() as server, connect(server.port) as peer:
        await peer.send(handshake("/ws/echo", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"))
        head = await peer.read_head()
        assert head.status == 101
        assert all(name != b"sec-websocket-extensions" for name, _ in head.fields)
        bomb = bytearray(client_frame(Opcode.BINARY, b"\0" * 1000))
        bomb[0] |= 0x40
        await peer.send(bytes(bomb))
        assert (await Socket(peer).close()).code == CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Origin: https://evil.example"], 403),
        (["Origin: null"], 403),
        (["Origin: https://portal.example"], 101),
        ([], 101),
    ],
)
async def test_a_page_of_another_origin_opens_nothing(lines: list[str], status: int) -> None:
    async with running() as server, connect(server.port) as peer:
        await peer.send(handshake("/ws/echo", *lines))
        assert (await peer.read_head()).status == status


async def test_malformed_handshakes_are_refused() -> None:
    async with running() as server:
        good = handshake("/ws/echo")
        for bad, status in [
            (good.replace(b"GET", b"POST"), 400),
            (good.replace(b"Version: 13", b"Version: 8"), 426),
            (good.replace(b"==\r\n", b"!!\r\n"), 400),
            (good.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n"), 400),
        ]:
            async with connect(server.port) as peer:
                await peer.send(bad)
                assert (await peer.answer()).status == status
                assert await peer.closed()


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (client_frame(Opcode.TEXT, b"x" * 70_000), CloseCode.TOO_BIG),
        (client_frame(Opcode.TEXT, b"x" * 40_000, fin=False) + client_frame(0, b"x" * 40_000), CloseCode.TOO_BIG),
        (client_frame(Opcode.TEXT, b"x") * 300, CloseCode.POLICY),
        (client_frame(Opcode.BINARY, b"x" * 60_000) * 3, CloseCode.POLICY),
        (server_frame(Opcode.TEXT, b"unmasked"), CloseCode.PROTOCOL_ERROR),
        (client_frame(Opcode.CONTINUATION, b"x"), CloseCode.PROTOCOL_ERROR),
    ],
    ids=["large", "large in pieces", "many", "much", "unmasked", "stray continuation"],
)
async def test_what_goes_beyond_the_limits_is_closed(frames: bytes, code: CloseCode) -> None:
    async with running() as server, open_socket(server.port, "/ws/deaf") as socket:
        await socket.peer.send(frames)
        assert (await socket.close()).code == code
        await until(lambda: server.gateway.stats().connections == 0)


async def test_a_steady_talker_within_the_limits_is_left_alone() -> None:
    limits = Limits(websocket=FrameLimits(frames_per_second=200, frames_burst=5))
    async with running(limits) as server, open_socket(server.port, "/ws/echo") as socket:
        for number in range(30):
            await socket.send(str(number))
            assert await socket.text() == str(number)
            await trio.sleep(0.01)


async def test_a_client_that_leaves_ends_the_handler() -> None:
    async with running() as server:
        async with open_socket(server.port, "/ws/echo"):
            pass
        with trio.fail_after(5):
            await server.seen.left.wait()
        await until(lambda: server.gateway.stats().upstream_connections == 0)
