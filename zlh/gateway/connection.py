"""One non-blocking socket, read and written with as few task switches as possible.

A time limit is not a cancel scope (10 us each) but `deadline`, which the watch compares with the clock a few times a
second; running out of it, shedding, draining and a vanished client all `interrupt` the connection, and whoever waits
for it gets Interrupted with the reason.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from enum import StrEnum
from math import inf

import trio
from trio.lowlevel import notify_closing, wait_readable, wait_writable

from zlh.gateway.stats import Counters
from zlh.wire.http import HEAD_END, MAX_HEAD, HeadError

READ_SIZE = 64 * 1024

SILENT_SECONDS = 30
ASK_AGAIN_SECONDS = 10
MOST_ASKED = 3


class Reason(StrEnum):
    """Why a connection was interrupted."""

    DEADLINE = "deadline"
    SHED = "shed"
    DRAIN = "drain"
    CLIENT_GONE = "client gone"
    ENDING = "ending"


class Interrupted(Exception):
    """We ended it: see `reason`."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class GoneError(Exception):
    """The peer ended it: reset, or closed in the middle of something."""


def ask_when_silent(sock: socket.socket) -> None:
    """Has the kernel ask a peer that says nothing whether it is there. One that vanished without a word is given up
    after a minute, also where nothing is sent to it; by itself the kernel would ask after two hours."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENT_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, ASK_AGAIN_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, MOST_ASKED)


class Connection:
    """`buffer` holds bytes that were read and not used yet. One task reads and one writes at a time.

    `on_hangup` is called, once, when the peer closes or resets while nobody reads (only for watched connections);
    `on_interrupt` at an interruption and at the close, for those who wait in another way than by this.
    """

    __slots__ = (
        "buffer",
        "counters",
        "deadline",
        "ends_at",
        "hung_up",
        "interrupted",
        "on_hangup",
        "on_interrupt",
        "sock",
        "write_seconds",
    )

    def __init__(self, sock: socket.socket, *, write_seconds: float, counters: Counters | None = None) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.buffer = b""
        self.deadline = inf
        self.ends_at = inf
        self.write_seconds = write_seconds
        self.counters = counters
        self.interrupted: Reason | None = None
        self.hung_up = False
        self.on_hangup: Callable[[], None] | None = None
        self.on_interrupt: Callable[[], None] | None = None

    @property
    def closed(self) -> bool:
        return self.sock.fileno() < 0

    def expires_in(self, seconds: float) -> None:
        self.deadline = trio.current_time() + seconds

    def interrupt(self, reason: Reason) -> None:
        """Whoever waits for this connection, now or later, gets Interrupted. The first reason stays."""
        if self.interrupted is None and not self.closed:
            self.interrupted = reason
            notify_closing(self.sock)
            if self.on_interrupt is not None:
                self.on_interrupt()

    def finish_within(self, seconds: float) -> None:
        """Whatever it waits for and however it gets on, it is interrupted after that time."""
        self.ends_at = min(self.ends_at, trio.current_time() + seconds)

    async def recv(self, size: int = READ_SIZE) -> bytes:
        """Waits for bytes; empty at the end of the stream. Always a checkpoint. Raises Interrupted, GoneError."""
        while True:
            await self._wait(wait_readable)
            data = self.recv_nowait(size)
            if data is not None:
                return data

    def recv_nowait(self, size: int = READ_SIZE) -> bytes | None:
        """What has come, empty at the end of the stream; None where nothing has. Raises GoneError."""
        try:
            data = self.sock.recv(size)
        except BlockingIOError:
            return None
        except OSError as error:
            raise GoneError(str(error)) from None
        if self.counters is not None:
            self.counters.bytes_in += len(data)
        return data

    async def send(self, data: bytes) -> None:
        """Writes all; waits only where the socket would block. Raises Interrupted (DEADLINE: not read), GoneError."""
        sent = self.send_nowait(data)
        if sent == len(data):
            return
        left = memoryview(data)[sent:]
        while left:
            await self.taking()
            left = left[self.send_nowait(left) :]

    async def taking(self) -> None:
        """Waits until the socket takes bytes again, but not for ever. Raises Interrupted (DEADLINE: not read)."""
        before = self.deadline
        self.expires_in(self.write_seconds)
        await self._wait(wait_writable)
        self.deadline = before

    async def readable(self) -> None:
        """Waits until bytes have come, or the end. Always a checkpoint. Raises Interrupted."""
        await self._wait(wait_readable)

    async def writable(self) -> None:
        """Waits until the socket takes bytes again. Raises Interrupted."""
        await self._wait(wait_writable)

    def send_nowait(self, data: bytes | memoryview) -> int:
        """How many bytes the socket took at once. Raises GoneError."""
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise GoneError(str(error)) from None
        if self.counters is not None:
            self.counters.bytes_out += sent
        return sent

    async def _wait(self, ready: Callable[[socket.socket], object]) -> None:
        if self.interrupted is not None:
            raise Interrupted(self.interrupted)
        try:
            await ready(self.sock)  # type: ignore[misc]
        except trio.ClosedResourceError:
            raise Interrupted(self.interrupted or Reason.ENDING) from None

    async def read_head(self) -> bytes | None:
        """A head without its empty line; None where the stream ended before one began. Raises HeadError, too."""
        buffer = self.buffer
        while (end := buffer.find(HEAD_END)) < 0:
            if len(buffer) > MAX_HEAD:
                raise HeadError(f"a head of more than {MAX_HEAD} bytes", 431)
            data = await self.recv()
            if not data:
                self.buffer = buffer
                if buffer:
                    raise GoneError("closed in the middle of a head")
                return None
            buffer += data
        self.buffer = buffer[end + 4 :]
        return buffer[:end]

    def take(self, limit: int = READ_SIZE) -> bytes:
        """Up to `limit` bytes of the buffer."""
        data = self.buffer[:limit]
        self.buffer = self.buffer[limit:]
        return data

    def is_stale(self) -> bool:
        """Whether an idle connection was closed by the peer, or sent something that nobody asked for."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return bool(self.buffer)
        except OSError:
            return True
        return True

    async def linger(self, seconds: float) -> None:
        """Says that nothing more comes and throws away what does: a close with unread bytes would be a reset, and
        the peer would not get to read our last answer."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            return
        self.expires_in(seconds)
        try:
            while await self.recv():
                pass
        except (Interrupted, GoneError):
            pass

    def close(self) -> None:
        """May be called more than once."""
        if not self.closed:
            notify_closing(self.sock)
            self.sock.close()
            if self.on_interrupt is not None:
                self.on_interrupt()
