"""A client that says exactly the bytes that a test wants, and reads answers strictly."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from zlh.wire.chunked import ChunkedDecoder
from zlh.wire.frames import Close, Event, FrameDecoder, Opcode, Text, accept_key, client_frame, new_key
from zlh.wire.http import ResponseHead, parse_response

PATIENCE = 10.0


@dataclass
class Answer:
    head: ResponseHead
    body: bytes

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def field(self, name: str) -> str | None:
        values = [value.decode() for key, value in self.head.fields if key == name.encode()]
        assert len(values) < 2, values
        return values[0] if values else None


class Peer:
    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.buffer = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def more(self) -> bool:
        with trio.fail_after(PATIENCE):
            data = await self.stream.receive_some(65536)
        self.buffer += data
        return bool(data)

    async def read_head(self) -> ResponseHead:
        while b"\r\n\r\n" not in self.buffer:
            assert await self.more(), f"closed after {self.buffer!r}"
        raw, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return parse_response(raw)

    async def answer(self, method: str = "GET") -> Answer:
        head = await self.read_head()
        if not head.has_body(method.encode()):
            return Answer(head, b"")
        if head.chunked:
            decoder = ChunkedDecoder()
            body = decoder.feed(self.buffer)
            while not decoder.done:
                self.buffer = b""
                assert await self.more()
                body += decoder.feed(self.buffer)
            self.buffer = decoder.rest
            return Answer(head, body)
        if head.length is None:
            while await self.more():
                pass
            body, self.buffer = self.buffer, b""
            return Answer(head, body)
        parts = bytearray(self.buffer)
        while len(parts) < head.length:
            self.buffer = b""
            assert await self.more(), "closed in the middle of a body"
            parts += self.buffer
        self.buffer = bytes(parts[head.length :])
        return Answer(head, bytes(parts[: head.length]))

    async def ask(self, method: str, target: str, *lines: str, body: bytes = b"") -> Answer:
        head = [f"{method} {target} HTTP/1.1", "Host: test", *lines]
        if body:
            head.append(f"Content-Length: {len(body)}")
        await self.send("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        return await self.answer(method)

    async def closed(self) -> bool:
        """Waits for the end of the stream; what still came is in `buffer`."""
        try:
            while await self.more():
                pass
        except trio.BrokenResourceError:
            pass
        return True


class Socket:
    """A websocket client, after its handshake."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.decoder = FrameDecoder(masked=False, max_message=1 << 26)
        self.events: list[Event] = self.decoder.feed(peer.buffer)
        peer.buffer = b""

    async def send(self, text: str) -> None:
        await self.peer.send(client_frame(Opcode.TEXT, text.encode()))

    async def event(self) -> Event | None:
        """The next one; None at the end of the stream."""
        while not self.events:
            with trio.fail_after(PATIENCE):
                try:
                    data = await self.peer.stream.receive_some(1 << 20)
                except trio.BrokenResourceError:
                    return None
            if not data:
                return None
            self.events += self.decoder.feed(data)
        return self.events.pop(0)

    async def text(self) -> str:
        event = await self.event()
        assert isinstance(event, Text), event
        return event.text

    async def json(self) -> Any:
        return json.loads(await self.text())

    async def close(self) -> Close:
        """The server's close frame; what comes before it is passed over."""
        while True:
            event = await self.event()
            assert event is not None, "closed without a close frame"
            if isinstance(event, Close):
                return event


@asynccontextmanager
async def connect(port: int) -> AsyncIterator[Peer]:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        yield Peer(stream)


def handshake(target: str, *lines: str, key: bytes | None = None) -> bytes:
    key = key or new_key()
    fields = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    fields += [f"Sec-WebSocket-Key: {key.decode()}", *lines]
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: test", *fields]).encode() + b"\r\n\r\n"


@asynccontextmanager
async def open_socket(port: int, target: str, *lines: str) -> AsyncIterator[Socket]:
    async with connect(port) as peer:
        key = new_key()
        await peer.send(handshake(target, *lines, key=key))
        head = await peer.read_head()
        assert head.status == 101, (head, peer.buffer)
        assert (b"sec-websocket-accept", accept_key(key)) in head.fields
        yield Socket(peer)


async def until(condition: Any, within: float = PATIENCE) -> None:
    """Waits until `condition()` is true."""
    with trio.fail_after(within):
        while not condition():  # noqa: ASYNC110 - the condition is another side's, it sets no event
            await trio.sleep(0.01)
