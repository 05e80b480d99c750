"""The console of one agent: a websocket client that yields lines as they come."""

from __future__ import annotations

import socket
from collections import deque
from types import TracebackType

import trio

from zlh.drivers.agent.answers import MAX_LINE, parse_stretch
from zlh.drivers.agent.wire import MAX_HEAD, Answer, ResponseReader, connect, receive, send_all, unreachable
from zlh.drivers.errors import Invalid, Unreachable
from zlh.model.console import Stretch
from zlh.wire import frames

CONSOLE_PATH = "/console/stream"
MAX_MESSAGE = 1 << 20
SWITCHING = b"HTTP/1.1 101"


class NoWebsocket(Exception):
    """The agent gave an ordinary answer to the upgrade."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


async def open_console(
    family: socket.AddressFamily, address: tuple[str, int], headers: bytes, max_body: int, *, numbered: bool = False
) -> ConsoleStream:
    """Connects and upgrades; `headers` is the rest of the request line and the headers that every request has.

    Raises Unreachable, Invalid, NoWebsocket. (RFC 6455, 4.1; extensions and subprotocols are neither offered nor
    accepted.)
    """
    sock = await connect(family, address)
    target = f"{CONSOLE_PATH}?numbered=1" if numbered else CONSOLE_PATH
    try:
        received = await _handshake(sock, f"GET {target}".encode() + headers, max_body)
        return ConsoleStream(sock, received, numbered=numbered)
    except OSError as error:
        sock.close()
        raise unreachable(error) from None
    except BaseException:
        sock.close()
        raise


async def _handshake(sock: socket.socket, request: bytes, max_body: int) -> bytes:
    """What came behind the agent's 101. Raises OSError too."""
    key = frames.new_key()
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    await send_all(sock, request + upgrade + key + b"\r\n\r\n")
    head = await _more(sock)
    while len(head) < len(SWITCHING) and SWITCHING.startswith(head):
        head += await _more(sock)
    if not head.startswith(SWITCHING):
        raise NoWebsocket(await _ordinary_answer(sock, head, max_body))
    while b"\r\n\r\n" not in head:
        if len(head) > MAX_HEAD:
            raise Invalid(f"answered with a head of more than {MAX_HEAD} bytes")
        head += await _more(sock)
    head, _, rest = head.partition(b"\r\n\r\n")
    _check_upgrade(head, key)
    return rest


async def _ordinary_answer(sock: socket.socket, data: bytes, max_body: int) -> Answer:
    reader = ResponseReader()
    reader.begin(max_body)
    reader.feed(data)
    while not reader.complete:
        reader.feed(await _more(sock))
    return reader.answer()


async def _more(sock: socket.socket) -> bytes:
    data = await receive(sock)
    if not data:
        raise Unreachable("closed the connection without a whole answer")
    return data


def _check_upgrade(head: bytes, key: bytes) -> None:
    status, *lines = head.split(b"\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip()
    if status[len(SWITCHING) :][:1] not in (b"", b" ") or headers.get(b"upgrade", b"").lower() != b"websocket":
        raise Invalid("answered 101, but not with a websocket")
    if headers.get(b"sec-websocket-accept") != frames.accept_key(key):
        raise Invalid("accepted another key than ours")
    if b"sec-websocket-extensions" in headers or b"sec-websocket-protocol" in headers:
        raise Invalid("accepted an extension or protocol that nobody offered")


class ConsoleStream:
    """`async for stretch in stream`: the lines that one read brought, until the agent closes; with their numbers from
    an agent that was asked for them, and then in several stretches where they do not follow each other.

    A line is cut at 16 Ki characters. `heard_at` is when anything came last, in Trio's time. Reading raises
    Unreachable where the connection breaks and Invalid where the agent breaks the websocket protocol. One task reads;
    any may send. How fast to read is the caller's choice: an agent that floods is slowed down by TCP.
    """

    def __init__(self, sock: socket.socket, received: bytes = b"", *, numbered: bool = False) -> None:
        self.heard_at = trio.current_time()
        self._sock = sock
        self._numbered = numbered
        self._ready: deque[Stretch] = deque()
        self._decoder = frames.FrameDecoder(masked=False, max_message=MAX_MESSAGE)
        self._received = received
        self._sending = trio.Lock()
        self._closed = False

    async def __aenter__(self) -> ConsoleStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> ConsoleStream:
        return self

    async def __anext__(self) -> Stretch:
        while not self._ready and not self._decoder.ended:
            data, self._received = self._received or await self._receive(), b""
            if not data:
                break
            self.heard_at = trio.current_time()
            lines: list[str] = []
            for event in self._decoder.feed(data):
                await self._take(event, lines)
            if lines:
                self._ready.append(Stretch(tuple(lines)))
        if not self._ready:
            raise StopAsyncIteration
        return self._ready.popleft()

    async def _receive(self) -> bytes:
        if self._closed:
            return b""
        try:
            return await receive(self._sock)
        except trio.ClosedResourceError:
            return b""
        except OSError as error:
            raise Unreachable(f"{CONSOLE_PATH}: {unreachable(error).message}") from None

    async def _take(self, event: frames.Event, lines: list[str]) -> None:
        match event:
            case frames.Text(text) if self._numbered:
                self._take_numbered(text)
            case frames.Text(text):
                lines += [line[:MAX_LINE] for line in text.removesuffix("\n").replace("\r", "").split("\n")]
            case frames.Ping(payload):
                await self._send(frames.client_frame(frames.Opcode.PONG, payload))
            case frames.Violation(_, reason):
                raise Invalid(f"{CONSOLE_PATH}: {reason}")
            case frames.Binary():
                raise Invalid(f"{CONSOLE_PATH}: a binary frame")
            case _:
                return

    def _take_numbered(self, text: str) -> None:
        try:
            stretch = parse_stretch(text)
        except Invalid as error:
            raise Invalid(f"{CONSOLE_PATH}: {error}") from None
        if stretch is None:
            raise Invalid(f"{CONSOLE_PATH}: a frame without numbers")
        last = self._ready[-1] if self._ready else None
        if last is not None and (last.epoch, last.end) == (stretch.epoch, stretch.first):
            self._ready[-1] = Stretch(last.lines + stretch.lines, last.epoch, last.first)
        elif stretch.lines:
            self._ready.append(stretch)

    async def ping(self) -> None:
        """Asks for a sign of life. Raises Unreachable."""
        await self._send(frames.client_frame(frames.Opcode.PING))

    async def send_line(self, line: str) -> None:
        """Types one command. Raises Unreachable; Invalid for more than one line."""
        if "\n" in line or "\r" in line:
            raise Invalid("a command is one line")
        await self._send(frames.client_frame(frames.Opcode.TEXT, line.encode(errors="replace")))

    async def _send(self, frame: bytes) -> None:
        if self._closed:
            raise Unreachable(f"{CONSOLE_PATH}: is closed")
        try:
            async with self._sending:
                await send_all(self._sock, frame)
        except (trio.ClosedResourceError, OSError) as error:
            reason = unreachable(error).message if isinstance(error, OSError) else "is closed"
            raise Unreachable(f"{CONSOLE_PATH}: {reason}") from None
        except trio.Cancelled:
            # Half a frame may be on the wire: nothing sensible can follow it.
            self._end()
            raise

    async def aclose(self) -> None:
        """Says goodbye if that does not take waiting, and closes. May be called more than once."""
        if not self._closed:
            goodbye = frames.client_frame(frames.Opcode.CLOSE, frames.close_payload(frames.CloseCode.NORMAL))
            try:
                self._sock.send(goodbye)
            except OSError:
                pass
        self._end()
        await trio.lowlevel.checkpoint()

    def _end(self) -> None:
        if not self._closed:
            self._closed = True
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()
