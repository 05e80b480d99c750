"""A client's connection: who it is, what it is doing, and how its request bodies are read."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from enum import StrEnum
from math import inf
from typing import TypeVar

import trio

from zlh.gateway.connection import READ_SIZE, Connection, GoneError, Interrupted, Reason
from zlh.gateway.limits import Limits
from zlh.gateway.pace import Pace
from zlh.gateway.pipes import WORTH_IT, Pipe, SourceError
from zlh.gateway.refusals import Refusal
from zlh.gateway.stats import Counters
from zlh.wire.chunked import ChunkedDecoder, TooLargeError
from zlh.wire.http import HEAD_END, MAX_HEAD, HeadError, RequestHead

T = TypeVar("T")


class State(StrEnum):
    HALF_OPEN = "half open"  # no whole head came yet
    IDLE = "idle"  # between two requests
    BUSY = "busy"
    WEBSOCKET = "websocket"
    LINGERING = "lingering"  # refused, and given a moment to read why


class Client(Connection):
    """`on_drain` is called when the gateway drains, by whoever must be told: websockets and event streams.

    `last`: the request being answered is the last one of this connection. `at_program`: it was let through to a
    program in a container, and will hardly go elsewhere.
    """

    __slots__ = ("address", "at_program", "last", "limits", "on_drain", "state", "trusted")

    def __init__(self, sock: socket.socket, address: str, trusted: bool, limits: Limits, counters: Counters) -> None:
        super().__init__(sock, write_seconds=limits.write_seconds, counters=counters)
        self.address = address
        self.trusted = trusted
        self.limits = limits
        self.state = State.HALF_OPEN
        self.on_drain: Callable[[], None] | None = None
        self.last = False
        self.at_program = False

    async def next_head(self) -> bytes | None:
        """The next request's head, None where the client closed or was idle for too long.

        Raises HeadError, GoneError, Interrupted (shed or drained), Refusal 408.
        """
        first = self.state is State.HALF_OPEN
        began = first
        self.expires_in(self.limits.head_seconds if first else self.limits.idle_seconds)
        while True:
            if self.buffer:
                if not began:
                    began = True
                    self.expires_in(self.limits.head_seconds)
                end = self._find_head()
                if end >= 0:
                    head = self.buffer[:end]
                    self.buffer = self.buffer[end + 4 :]
                    self.deadline = inf
                    return head
            try:
                data = await self.recv()
            except Interrupted as interruption:
                if interruption.reason is not Reason.DEADLINE:
                    raise
                if not self.buffer:
                    return None
                raise Refusal(408, "the request head did not arrive in time") from None
            if not data:
                return None
            self.buffer += data

    def _find_head(self) -> int:
        # A server should ignore one empty line before a request (RFC 9112, 2.2).
        if self.buffer.startswith(b"\r\n"):
            self.buffer = self.buffer[2:]
        end = self.buffer.find(HEAD_END)
        if (end if end >= 0 else len(self.buffer)) > MAX_HEAD:
            raise HeadError(f"a head of more than {MAX_HEAD} bytes", 431)
        if end < 0 and not self._could_be_head():
            raise HeadError("not an HTTP/1.1 request")
        return end

    def _could_be_head(self) -> bool:
        """Tells TLS, HTTP/2 and bare line feeds apart from a head that is only slow, without waiting for its end."""
        start = self.buffer[:1]
        return (not start or start.isalpha() or start == b"\r") and self.buffer.count(b"\n") == self.buffer.count(
            b"\r\n"
        )


class BodyBudget:
    """How many bytes of bodies may be in the gateway at once, over all connections."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0

    def spend(self, size: int) -> None:
        if self._used + size > self._limit:
            raise Refusal(503, "too many uploads at once", retry_after=5)
        self._used += size

    def release(self, size: int) -> None:
        self._used -= size


class BodyReader:
    """Reads one request's body. `limit` in bytes, or None for a body that is streamed on.

    Raises Refusal 400, 408 or 413 (after which the connection is of no more use), GoneError, Interrupted.
    """

    def __init__(self, client: Client, head: RequestHead, limit: int | None) -> None:
        if limit is not None and head.length is not None and head.length > limit:
            raise too_large(limit)
        self._client = client
        self._head = head
        self._limit = limit
        self._left = head.length or 0
        self._decoder = ChunkedDecoder(limit, max_overhead=1) if head.length is None else None
        self._pace = Pace(READ_SIZE)
        self._ends_at = inf if limit is None else trio.current_time() + client.limits.body_seconds
        self._waits_for_continue = head.expects_continue and head.length != 0

    @property
    def length(self) -> int | None:
        """In bytes, as announced; None for a chunked body."""
        return self._head.length

    @property
    def done(self) -> bool:
        return self._decoder.done if self._decoder is not None else not self._left

    async def read(self) -> bytes:
        """Some bytes, or none at the body's end. Waits at most `body_progress_seconds`."""
        while not self.done:
            size = READ_SIZE if self._decoder is None else self._pace.size
            data = self._client.take(size) or await self._receive(size)
            if self._decoder is None:
                self._left -= len(data)
                if self._left < 0:
                    self._client.buffer = data[self._left :] + self._client.buffer
                    data = data[: self._left]
                    self._left = 0
            else:
                data = self._decode(self._decoder, data)
                await self._pace.rest(self._decoder.lines)
            if data:
                return data
        return b""

    @property
    def pipes(self) -> bool:
        """Whether what is left can be taken by `fill`, and is worth it."""
        waiting = self._client.buffer or self._waits_for_continue
        return self._decoder is None and self._left >= WORTH_IT and not waiting

    async def fill(self, pipe: Pipe) -> int:
        """As `read`, but the bytes go into an empty pipe; how many they are."""
        while self._left:
            await self._arrival(self._client.readable())
            try:
                taken = pipe.fill(self._client, self._left)
            except SourceError as error:
                raise GoneError(str(error)) from None
            self._left -= taken
            if taken:
                return taken
        return 0

    async def _receive(self, size: int) -> bytes:
        client = self._client
        if self._waits_for_continue:
            self._waits_for_continue = False
            await client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        data = await self._arrival(client.recv(size))
        if not data:
            raise GoneError("closed in the middle of a body")
        return data

    async def _arrival(self, waiting: Awaitable[T]) -> T:
        """What is waited for, where it comes in time. Raises Refusal 408."""
        client = self._client
        client.deadline = min(self._ends_at, trio.current_time() + client.limits.body_progress_seconds)
        try:
            arrived = await waiting
        except Interrupted as interruption:
            if interruption.reason is Reason.DEADLINE:
                raise Refusal(408, "the request body did not arrive in time") from None
            raise
        client.deadline = inf
        return arrived

    async def collect(self, budget: BodyBudget) -> bytes:
        """The whole body. Raises Refusal 503 too, where all bodies together are too large at the moment."""
        if self.done:
            return b""
        parts = bytearray()
        try:
            while data := await self.read():
                budget.spend(len(data))
                parts += data
        finally:
            budget.release(len(parts))
        return bytes(parts)

    def _decode(self, decoder: ChunkedDecoder, data: bytes) -> bytes:
        try:
            body = decoder.feed(data)
        except TooLargeError:
            raise too_large(self._limit) from None
        except HeadError as error:
            raise Refusal(400, f"the request body is malformed: {error.message}") from None
        if decoder.done:
            self._client.buffer = decoder.rest + self._client.buffer
        return body


def too_large(limit: int | None) -> Refusal:
    return Refusal(413, "the request body is too large", details={"limit": limit})
