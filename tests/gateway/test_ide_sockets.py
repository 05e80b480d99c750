"""Websockets through the door to IDEs: compressed or not, and ended with the right to them."""

from __future__ import annotations

import os
from dataclasses import replace
from ipaddress import IPv4Address
from math import inf
from pathlib import Path

import pytest
import trio

from tests.gateway.ide import HOST, VMID, ZONE, Scene, echo_messages, guest, open_scene, opening, websocket
from tests.gateway.peer import PATIENCE, Socket, connect, until
from zlh.gateway import splice
from zlh.gateway.upstream import Destination, Pool, Upstream
from zlh.model.containers import Power
from zlh.model.errors import UnauthenticatedError
from zlh.model.games import CODE_SERVER_PORT
from zlh.model.operations import OperationKind
from zlh.store import StoreUnavailable
from zlh.wire.chunked import ChunkedDecoder
from zlh.wire.frames import CloseCode, Opcode, client_frame, new_key, server_frame
from zlh.wire.http import RequestHead, ResponseHead, parse_request

DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"


async def test_messages_go_both_ways_with_a_subprotocol() -> None:
    async with open_scene() as scene:
        async with websocket(scene, "/ws?x=1", f"Origin: http://{HOST}", "Sec-WebSocket-Protocol: v1.ide") as socket:
            for text in ("hello", "x" * 1_000_000, "ä"):
                await socket.send(text)
                assert await socket.text() == text
            assert scene.uses.open == scene.gateway.stats().ide_visits == 1
            head = scene.program.heads[0]
            assert (head.target, head.get(b"sec-websocket-protocol")) == (b"/ws?x=1", b"v1.ide")
            assert (head.get(b"host"), head.get(b"cookie")) == (HOST.encode(), None)
        await until(
            lambda: scene.uses.open == 0 and scene.keeper.grants[0].released and not scene.gateway.stats().ide_visits
        )


@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"http://p80-{VMID}.{ZONE}", f"https://{HOST}"])
async def test_a_page_of_another_origin_opens_none(origin: str) -> None:
    async with open_scene() as scene, connect(scene.port) as peer:
        await peer.send(opening("/ws", f"Origin: {origin}"))
        assert (await peer.answer()).status == 403
        assert scene.program.heads == []


async def test_compression_is_between_browser_and_program() -> None:
    async with open_scene() as scene, connect(scene.port) as peer:
        scene.program.handler = mirror
        await peer.send(opening("/ws", DEFLATE))
        head = await peer.read_head()
        assert (b"sec-websocket-extensions", b"permessage-deflate") in head.fields
        # The bit of compression goes through as it is, in both directions.
        frame = bytearray(client_frame(Opcode.BINARY, b"squeezed", mask=b"\0\0\0\0"))
        frame[0] |= 0x40
        await peer.send(bytes(frame))
        expected = bytearray(server_frame(Opcode.BINARY, b"squeezed"))
        expected[0] |= 0x40
        while len(peer.buffer) < len(expected):
            assert await peer.more()
        assert peer.buffer == bytes(expected)
        # Other reserved bits are a violation still.
        frame[0] |= 0x20
        peer.buffer = b""
        await peer.send(bytes(frame))
        assert (await Socket(peer).close()).code == CloseCode.PROTOCOL_ERROR


async def mirror(stream: trio.SocketStream) -> None:
    """Agrees to compression, and sends back every small frame unmasked, bits and all."""
    await read_request(stream)
    switch = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    switch.append("Sec-WebSocket-Extensions: permessage-deflate")
    await stream.send_all("\r\n".join(switch).encode() + b"\r\n\r\n")
    while data := await stream.receive_some(65536):
        size = data[1] & 0x7F
        await stream.send_all(bytes((data[0], size)) + data[6 : 6 + size])


async def read_request(stream: trio.SocketStream) -> RequestHead:
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += await stream.receive_some(65536)
    return parse_request(raw.partition(b"\r\n\r\n")[0])


@pytest.mark.parametrize("agreed", ["permessage-deflate", "x-webkit-deflate-frame"])
async def test_an_extension_that_was_not_offered_is_refused(agreed: str) -> None:
    async def eager(stream: trio.SocketStream) -> None:
        await echo_messages(stream, await read_request(stream), f"Sec-WebSocket-Extensions: {agreed}")

    async with open_scene() as scene, connect(scene.port) as peer:
        scene.program.handler = eager
        await peer.send(opening("/ws"))
        assert (await peer.answer()).status == 502


async def ended(socket: Socket) -> int:
    with trio.fail_after(PATIENCE):
        return (await socket.close()).code


async def test_the_end_of_a_right_closes_the_socket() -> None:
    async with open_scene() as scene, websocket(scene) as socket:
        await socket.send("in")
        assert await socket.text() == "in"
        scene.keeper.grants[0].end(4403, "the account is suspended")
        assert await ended(socket) == 4403
        await until(lambda: scene.program.open == 0)


async def test_the_end_of_a_right_ends_a_handshake_too() -> None:
    asked = trio.Event()
    closed = trio.Event()

    async def hesitant(stream: trio.SocketStream) -> None:
        await read_request(stream)
        asked.set()
        assert not await stream.receive_some(1)
        closed.set()

    async with open_scene() as scene, connect(scene.port) as peer:
        scene.program.handler = hesitant
        await peer.send(opening("/ws"))
        with trio.fail_after(PATIENCE):
            await asked.wait()
            scene.keeper.grants[0].end(4403, "the account is suspended")
            assert await peer.closed()
            await closed.wait()
        await until(lambda: scene.uses.open == 0 and scene.keeper.grants[0].released)


async def test_a_right_that_ends_while_the_program_is_connected_to_never_gets_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_scene() as scene, connect(scene.port) as peer:
        take = Pool.take

        async def take_and_end(pool: Pool, destination: Destination, *, fresh: bool) -> Upstream:
            upstream = await take(pool, destination, fresh=fresh)
            scene.keeper.grants[0].end(4401, "signed out")
            return upstream

        monkeypatch.setattr(Pool, "take", take_and_end)
        await peer.send(opening("/ws"))
        assert await peer.closed()
        assert scene.program.heads == []


async def test_a_right_that_ends_as_the_program_agrees_is_not_told_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_scene() as scene, connect(scene.port) as peer:
        read_answer = splice.read_answer

        async def read_and_end(upstream: Upstream, seconds: float, *, upgrading: bool) -> ResponseHead:
            answer = await read_answer(upstream, seconds, upgrading=upgrading)
            scene.keeper.grants[0].end(4401, "signed out")
            return answer

        monkeypatch.setattr(splice, "read_answer", read_and_end)
        await peer.send(opening("/ws"))
        assert await peer.closed()
        assert peer.buffer == b""


async def test_a_close_comes_after_the_frame_that_is_under_way() -> None:
    started, go_on = trio.Event(), trio.Event()

    async def slow(stream: trio.SocketStream) -> None:
        await echo_head(stream)
        frame = server_frame(Opcode.TEXT, b"x" * 200)
        await stream.send_all(frame[:50])
        started.set()
        await go_on.wait()
        await stream.send_all(frame[50:] + server_frame(Opcode.TEXT, b"not any more"))
        await trio.sleep_forever()

    async with open_scene() as scene:
        scene.program.handler = slow
        async with websocket(scene) as socket:
            await started.wait()
            while len(socket.peer.buffer) < 50 and not socket.decoder._buffer:
                socket.events += socket.decoder.feed(await socket.peer.stream.receive_some(65536))
            scene.keeper.grants[0].end(4401, "signed out")
            go_on.set()
            assert await socket.text() == "x" * 200
            assert await ended(socket) == 4401


async def echo_head(stream: trio.SocketStream) -> None:
    await read_request(stream)
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    await stream.send_all(switch)


@pytest.mark.parametrize(
    ("power", "doing", "code"),
    [
        (Power.OFF, None, 1001),
        (Power.ON, OperationKind.STOP_HOST, 1001),
        (Power.ON, OperationKind.RESTART_HOST, 1001),
        (Power.ON, OperationKind.TEARDOWN, 4404),
    ],
)
async def test_a_container_that_stops_closes_them(power: Power, doing: OperationKind | None, code: int) -> None:
    async with open_scene() as scene, websocket(scene) as socket:
        scene.workshops.power(power, doing)
        assert await ended(socket) == code


async def test_a_suspended_owner_closes_them() -> None:
    async with open_scene() as scene, websocket(scene) as socket:
        found = scene.workshops.found
        desired = replace(found.row.desired, suspended=True)
        scene.workshops.found = replace(found, row=replace(found.row, desired=desired))
        assert await ended(socket) == 1001


async def test_a_port_that_is_closed_closes_them() -> None:
    async with open_scene(port=3000) as scene, connect(scene.port) as peer:
        scene.keeper.public = True
        await peer.send(opening("/ws", host=f"p3000-{VMID}.{ZONE}", cookie="none=1"))
        assert (await peer.read_head()).status == 101
        scene.keeper.public = False
        scene.house.presence.ports_changed(VMID)
        assert await ended(Socket(peer)) == 4403


async def test_a_session_that_ended_unheard_closes_it_at_the_next_look() -> None:
    async with open_scene() as scene, websocket(scene) as socket:
        scene.keeper.vouching += [None, StoreUnavailable("away"), UnauthenticatedError("the sign-in has ended")]
        assert await ended(socket) == CloseCode.UNAUTHENTICATED


async def test_a_request_under_way_ends_with_its_right_too() -> None:
    async def endless(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await trio.sleep_forever()

    async with open_scene() as scene, guest(scene) as peer:
        scene.program.handler = endless
        await peer.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nCookie: zlh-pass=good\r\n\r\n".encode())
        head = await peer.read_head()
        assert head.chunked
        decoder = ChunkedDecoder()
        while decoder.decoded < 3:
            decoder.feed(peer.buffer)
            peer.buffer = b""
            if decoder.decoded < 3:
                assert await peer.more()
        scene.keeper.grants[0].end(4403, "suspended")
        assert await peer.closed()
        assert not decoder.done


async def test_of_a_thousand_connections_none_is_left() -> None:
    """Dropped at every moment: before, in and after a handshake, in a message, in a body."""

    async def visit(scene: Scene, number: int, limit: trio.CapacityLimiter) -> None:
        async with limit, connect(scene.port) as peer:
            match number % 5:
                case 0:
                    await peer.send(b"GET / HTTP/1.1\r\nHo")
                case 1:
                    await peer.send(opening("/ws"))
                case 2:
                    await peer.send(opening("/ws", key=new_key()))
                    await peer.read_head()
                    await peer.send(client_frame(Opcode.TEXT, b"x" * 500)[:100])
                case 3:
                    await peer.send(b"POST / HTTP/1.1\r\nHost: %b\r\nCookie: zlh-pass=good\r\n" % HOST.encode())
                    await peer.send(b"Content-Length: 100000\r\n\r\n" + b"x" * 1000)
                case _:
                    await peer.send(b"GET / HTTP/1.1\r\nHost: %b\r\nCookie: zlh-pass=good\r\n\r\n" % HOST.encode())
                    assert (await peer.answer()).status == 200

    async with open_scene() as scene:
        limit = trio.CapacityLimiter(50)
        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(visit, scene, number, limit)
        await until(lambda: scene.gateway.stats().connections == 0, within=3 * PATIENCE)
        await until(lambda: not scene.gateway.stats().ide_visits and scene.uses.open == 0)
        # What is kept for the next request is bounded, and nothing else is open.
        await until(lambda: scene.gateway.stats().upstream_connections <= 64)
        assert all(grant.released for grant in scene.keeper.grants)
        assert scene.gateway.stats().crashes == 0
        assert scene.program.connections > 300


async def test_who_vanishes_without_a_word_is_given_up_after_a_minute() -> None:
    """Both sides of a websocket on which nothing is said, as the kernel tells of their timers."""
    async with open_scene() as scene, websocket(scene):
        seconds = [
            asked_within(timer)
            for timer, local, remote in connections()
            if local == scene.port or remote == (scene.program.address, CODE_SERVER_PORT)
        ]
        assert len(seconds) == 2
        assert all(0 < each <= 30 for each in seconds), seconds


def connections() -> list[tuple[str, int, tuple[str, int]]]:
    """The timer, the local port and the remote address of every connection over IPv4 that is open."""
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, _, timer, *_ = line.split()
        if state == "01":
            host, _, port = remote.partition(":")
            address = str(IPv4Address(int.from_bytes(bytes.fromhex(host), "little")))
            found.append((timer, int(local.partition(":")[2], 16), (address, int(port, 16))))
    return found


def asked_within(timer: str) -> float:
    """Seconds until the kernel asks whether the other side is there; inf where it does not."""
    kind, ticks = timer.split(":")
    return int(ticks, 16) / os.sysconf("SC_CLK_TCK") if kind == "02" else inf
