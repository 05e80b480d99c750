"""A small HTTP/1.1 server over non-blocking sockets: thousands of listeners in one process cost next to nothing."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import httptools
import orjson
import trio

READ_SIZE = 65536
BODY_LIMIT = 1 << 20


class Refusal(Exception):
    """An answer that is not a success: `{"error", "details"?}` with that status."""

    def __init__(self, status: int, message: str, details: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.details = details

    def response(self) -> Response:
        body: dict[str, Any] = {"error": self.message}
        if self.details is not None:
            body["details"] = self.details
        return json_response(body, self.status)


class PeerGone(Exception):
    """The client closed or broke the connection."""


@dataclass(slots=True)
class Response:
    """`stream`, where given, yields the body of exactly `length` bytes."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    stream: AsyncGenerator[bytes, None] | None = None
    length: int = 0

    def head(self, *, keep_alive: bool) -> bytes:
        length = self.length if self.stream is not None else len(self.body)
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        if self.status != 204:
            lines += [f"Content-Type: {self.content_type}", f"Content-Length: {length}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if not keep_alive:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "\r\n"]).encode()


def json_response(value: Any, status: int = 200) -> Response:
    return Response(status, orjson.dumps(value))


class Request:
    """One request; its body is read while it is asked for, so a large upload is never held."""

    __slots__ = (
        "_continued",
        "_pieces",
        "chunks",
        "complete",
        "connection",
        "headers",
        "keep_alive",
        "method",
        "path",
        "query",
        "query_string",
    )

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.method = ""
        self.path = ""
        self.query: dict[str, str] = {}
        self.query_string = ""
        self.headers: dict[str, str] = {}
        self.chunks: deque[bytes] = deque()
        self.complete = False
        self.keep_alive = True
        self._pieces = b""
        self._continued = False

    def add_target(self, piece: bytes) -> None:
        self._pieces += piece

    def finish_head(self) -> None:
        target = urlsplit(self._pieces.decode("latin-1"))
        self.path = unquote(target.path)
        if target.query:
            self.query_string = target.query
            self.query = dict(parse_qsl(target.query, keep_blank_values=True))

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The body, piece by piece. Raises PeerGone where the client leaves before the end."""
        if not self._continued and self.headers.get("expect", "").lower() == "100-continue":
            self._continued = True
            await self.connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        while True:
            while self.chunks:
                yield self.chunks.popleft()
            if self.complete:
                return
            if not await self.connection.read_more():
                raise PeerGone("the client went away during the body")

    async def body(self) -> bytes:
        whole = bytearray()
        async with aclosing(self.stream()) as pieces:
            async for piece in pieces:
                whole += piece
                if len(whole) > BODY_LIMIT:
                    raise Refusal(413, f"a body of more than {BODY_LIMIT} bytes")
        return bytes(whole)

    async def json(self) -> dict[str, Any]:
        """The body as a JSON object; an empty body is an empty object."""
        raw = await self.body()
        if not raw:
            return {}
        try:
            value = orjson.loads(raw)
        except ValueError:
            raise Refusal(400, "the body is not JSON") from None
        if not isinstance(value, dict):
            raise Refusal(400, "the body is not a JSON object")
        return value


# None: the handler spoke on the connection itself, and nothing more is to be said.
Handler = Callable[[Request], Awaitable[Response | None]]


class Connection:
    """One accepted socket and its parser; the httptools callbacks fill the queue of requests."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.after_upgrade = b""
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._current = Request(self)

    def on_message_begin(self) -> None:
        self._current = Request(self)

    def on_url(self, url: bytes) -> None:
        self._current.add_target(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._current.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        request = self._current
        request.method = self._parser.get_method().decode("ascii")
        request.keep_alive = self._parser.should_keep_alive()
        request.finish_head()
        self._waiting.append(request)

    def on_body(self, body: bytes) -> None:
        self._current.chunks.append(body)

    def on_message_complete(self) -> None:
        self._current.complete = True

    async def next_request(self) -> Request | None:
        """The next request whose head is complete; None where the client has closed."""
        while not self._waiting:
            if not await self.read_more():
                return None
        return self._waiting.popleft()

    async def read_more(self) -> bool:
        data = await self.receive()
        if not data:
            return False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.after_upgrade = data[upgrade.args[0] :]
        return True

    async def receive(self) -> bytes:
        """What has arrived, at least one byte; empty at the end."""
        while True:
            await trio.lowlevel.wait_readable(self.sock)
            try:
                return self.sock.recv(READ_SIZE)
            except BlockingIOError:
                continue

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self.sock)

    async def answer(self, response: Response, *, keep_alive: bool, head_only: bool = False) -> None:
        head = response.head(keep_alive=keep_alive)
        if response.stream is None:
            await self.send(head if head_only else head + response.body)
            return
        async with aclosing(response.stream) as pieces:
            await self.send(head)
            if head_only:
                return
            async for piece in pieces:
                await self.send(piece)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError where the address cannot be bound."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind((host, port))
        listener.listen(256)
    except OSError:
        listener.close()
        raise
    return listener


async def serve(listener: socket.socket, handler: Handler, *, on_count: Callable[[int], None] | None = None) -> None:
    """Serves until cancelled; then every connection and the listener are closed. `on_count` is told +1 and -1."""
    with listener:
        async with trio.open_nursery() as nursery:
            while True:
                await trio.lowlevel.wait_readable(listener)
                try:
                    sock, _ = listener.accept()
                except (BlockingIOError, ConnectionAbortedError):
                    continue
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                nursery.start_soon(_serve_connection, sock, handler, on_count)


async def _serve_connection(sock: socket.socket, handler: Handler, on_count: Callable[[int], None] | None) -> None:
    if on_count is not None:
        on_count(1)
    try:
        await _serve_requests(sock, handler)
    finally:
        if on_count is not None:
            on_count(-1)


async def _serve_requests(sock: socket.socket, handler: Handler) -> None:
    with sock:
        connection = Connection(sock)
        try:
            while (request := await connection.next_request()) is not None:
                if not await _serve_request(connection, request, handler):
                    return
        except (OSError, PeerGone, httptools.HttpParserError):
            return


async def _serve_request(connection: Connection, request: Request, handler: Handler) -> bool:
    """Whether the connection can be used again."""
    try:
        response = await handler(request)
    except Refusal as refusal:
        response = refusal.response()
    if response is None:
        return False
    keep = request.keep_alive and request.complete
    await connection.answer(response, keep_alive=keep, head_only=request.method == "HEAD")
    return keep
