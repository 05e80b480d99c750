"""One HTTP/1.1 connection to an agent: a non-blocking socket and a small strict parser over httptools.

On the hot path a request costs one send, one wait and one receive; there is no task, no nursery and no timer here.
The caller's cancel scope is the time-out, and a connection whose request was cancelled or failed is closed.
"""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass, field

import httptools
import trio

from zlh.drivers.errors import Invalid, Unreachable

READ_SIZE = 65536
MAX_HEAD = 16 * 1024

_REASONS = {
    errno.ECONNREFUSED: "refused the connection",
    errno.ECONNRESET: "reset the connection",
    errno.EPIPE: "closed the connection",
    errno.EHOSTUNREACH: "cannot be reached (no route)",
    errno.ENETUNREACH: "cannot be reached (no network)",
    errno.ETIMEDOUT: "did not answer to connect",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of an agent. Header names are in lower case; of a repeated header the last one counts."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


class StaleConnection(Exception):
    """The agent closed the connection before it answered; one that was kept open says nothing about the agent."""


def unreachable(error: OSError) -> Unreachable:
    code = error.errno or 0
    return Unreachable(_REASONS.get(code) or f"cannot be reached ({os.strerror(code)})")


async def connect(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    """A connected non-blocking socket; `address` is an IP literal, so nothing is resolved. Raises Unreachable."""
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise unreachable(error) from None
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            await trio.lowlevel.wait_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
    except OSError as error:
        sock.close()
        raise unreachable(error) from None
    except BaseException:
        sock.close()
        raise
    return sock


async def send_all(sock: socket.socket, data: bytes) -> None:
    """Raises OSError."""
    sent = 0
    view = memoryview(data)
    while sent < len(data):
        try:
            sent += sock.send(view[sent:])
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock)


async def receive(sock: socket.socket) -> bytes:
    """What arrived, empty at the end. Raises OSError."""
    while True:
        await trio.lowlevel.wait_readable(sock)
        try:
            return sock.recv(READ_SIZE)
        except BlockingIOError:
            continue


class ResponseReader:
    """Collects one response after another on one connection; the methods named on_* are httptools' callbacks.

    What the parser lets through and we do not: informational and upgrade answers, a body that only ends where the
    connection does, a second answer behind the first.
    """

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.begin(0)

    def begin(self, max_body: int) -> None:
        """Ready for the next response, of at most `max_body` bytes."""
        self._max_body = max_body
        # Chunks of one byte take six on the wire; framing that takes more than that is nobody's honest answer.
        self._bytes_left = MAX_HEAD + 8 * max_body
        self._body: list[bytes] = []
        self._headers: dict[str, str] = {}
        self._size = 0
        self._status = 0
        self._problem = ""
        self.complete = False
        self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.complete:
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self.complete:
            return
        status = self._status = self._parser.get_status_code()
        headers = self._headers
        length = headers.get("content-length")
        if not 200 <= status <= 599:
            self._problem = f"answered with status {status}"
        elif self._parser.get_http_version() not in ("1.1", "1.0"):
            self._problem = f"speaks HTTP/{self._parser.get_http_version()}"
        elif length is not None:
            if int(length) > self._max_body:
                self._problem = f"answered {int(length)} bytes, {self._max_body} allowed"
        elif "transfer-encoding" not in headers and status not in (204, 304):
            self._problem = "answered without saying how long the answer is"

    def on_body(self, data: bytes) -> None:
        if self.complete:
            return
        self._size += len(data)
        if self._size > self._max_body:
            self._problem = self._problem or f"answered more than {self._max_body} bytes"
        else:
            self._body.append(data)

    def on_message_begin(self) -> None:
        if self.complete:
            self.reusable = False

    def on_message_complete(self) -> None:
        if not self.complete:
            self.complete = True
            self.reusable = self._parser.should_keep_alive()

    def feed(self, data: bytes) -> None:
        """Raises Invalid as soon as it is certain that no good answer can come of it."""
        self._bytes_left -= len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._problem = self._problem or "answered with another protocol"
        except httptools.HttpParserError:
            self.reusable = False
            if not self.complete:
                self._problem = self._problem or ("broke off HTTP" if self._status else "does not speak HTTP")
        if not self._status and self._bytes_left < 8 * self._max_body:
            self._problem = self._problem or f"answered with a head of more than {MAX_HEAD} bytes"
        if self._bytes_left < 0:
            self._problem = self._problem or "answered with more framing than content"
        if self._problem:
            raise Invalid(self._problem)

    def answer(self) -> Answer:
        body = self._body
        return Answer(self._status, body[0] if len(body) == 1 else b"".join(body), self._headers)


class Connection:
    """One kept-open connection; one exchange at a time. It is closed after any exchange that did not end well."""

    __slots__ = ("_reader", "_sock", "used_at")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._reader = ResponseReader()
        self.used_at = 0.0

    def close(self) -> None:
        self._sock.close()

    @property
    def idle(self) -> bool:
        """Whether it can be used again: still open, and nothing came that nobody asked for."""
        try:
            self._sock.recv(1)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    async def exchange(self, message: bytes, max_body: int) -> tuple[Answer, bool]:
        """The answer to one request, and whether the connection can be used again; if not, it is closed.

        Raises StaleConnection where the agent closed it without a byte of an answer, Unreachable where it did so in
        the middle of one, Invalid for what is not a good answer.
        """
        try:
            answer = await self._exchange(message, max_body)
        except BaseException:
            self._sock.close()
            raise
        if not self._reader.reusable:
            self._sock.close()
        return answer, self._reader.reusable

    async def _exchange(self, message: bytes, max_body: int) -> Answer:
        reader = self._reader
        reader.begin(max_body)
        begun = False
        while not reader.complete:
            try:
                if message:
                    await send_all(self._sock, message)
                    message = b""
                data = await receive(self._sock)
            except OSError as error:
                reason = unreachable(error)
                raise reason if begun else StaleConnection(reason.message) from None
            if not data:
                if begun:
                    raise Unreachable("closed the connection in the middle of its answer")
                raise StaleConnection("closed the connection without an answer")
            begun = True
            reader.feed(data)
        return reader.answer()
