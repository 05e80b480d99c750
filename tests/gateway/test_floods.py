"""Websockets whose sides do not take at once what they are sent: all of it arrives, in order."""

from __future__ import annotations

import random
from functools import partial

import trio

from tests.gateway.peer import connect, handshake, until
from tests.gateway.test_streaming import StreamingGateway, read_head
from zlh.gateway.client import Client
from zlh.gateway.connection import GoneError, Interrupted
from zlh.gateway.limits import Limits
from zlh.gateway.relay import Exchange
from zlh.gateway.splice import SpliceRoute, relay_websocket
from zlh.gateway.upstream import TcpDestination
from zlh.wire.frames import Opcode, client_frame, server_frame
from zlh.wire.http import end_to_end, parse_request
from zlh.wire.walker import UNLIMITED

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


class SocketGateway(StreamingGateway):
    """Every request opens a websocket at one TCP destination."""

    def __init__(self, upstream_port: int, limits: Limits) -> None:
        super().__init__(upstream_port, limits)
        self._splice = SpliceRoute(TcpDestination("127.0.0.1", upstream_port), UNLIMITED, 5.0, 1.0)

    async def _converse(self, client: Client) -> None:
        raw = await client.next_head()
        assert raw is not None
        self.listener.busy(client)
        head = parse_request(raw)
        exchange = Exchange(client, head, end_to_end(head.fields, head.connection), b"id-1")
        try:
            await relay_websocket(self._relay, exchange, self._splice)
        except (GoneError, Interrupted) as error:
            self.errors.append(error)


def frames(frame: object, seed: int) -> bytes:
    """Some 12 MB in frames of all sizes."""
    sizes = random.Random(seed)
    assert callable(frame)
    return b"".join(
        frame(Opcode.BINARY, sizes.randbytes(sizes.choice((0, 1, 125, 126, 4000, 65_535, 65_536, 300_000))))
        for _ in range(200)
    )


async def talk(stream: trio.SocketStream, data: bytes) -> None:
    for begin in range(0, len(data), 77_777):
        await stream.send_all(data[begin : begin + 77_777])
        if begin % 5 == 0:
            await trio.lowlevel.checkpoint()


async def listen(stream: trio.SocketStream, heard: bytearray, size: int) -> None:
    """Slowly at first, so that everything between is full."""
    await trio.sleep(0.3)
    while len(heard) < size:
        heard += await stream.receive_some(65536 if len(heard) > 1_000_000 else 999)


async def test_floods_both_ways_arrive_whole_and_in_order() -> None:
    inbound, outbound = frames(partial(client_frame, mask=b"mask"), 1), frames(server_frame, 2)
    heard_in, heard_out = bytearray(), bytearray()

    async def behind(stream: trio.SocketStream) -> None:
        _, rest = await read_head(stream)
        heard_in.extend(rest)
        await stream.send_all(SWITCH)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk, stream, outbound)
            nursery.start_soon(listen, stream, heard_in, len(inbound))

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, behind, 0, host="127.0.0.1"))
        gateway = SocketGateway(listeners[0].socket.getsockname()[1], Limits())
        nursery.start_soon(gateway.watch.run)
        nursery.start_soon(gateway.listener.run)
        async with connect(gateway.port) as peer:
            await peer.send(handshake("/"))
            assert (await peer.read_head()).status == 101
            heard_out.extend(peer.buffer)
            with trio.fail_after(60):
                async with trio.open_nursery() as ends:
                    ends.start_soon(talk, peer.stream, inbound)
                    ends.start_soon(listen, peer.stream, heard_out, len(outbound))
            await until(lambda: len(heard_in) >= len(inbound), within=60)
        assert heard_in == inbound
        assert heard_out == outbound
        nursery.cancel_scope.cancel()
    gateway.watch.close()
