"""The console of one container: the retained lines, and those who watch over a websocket."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from zlh.simulators.agent.http import Connection, Refusal, Request
from zlh.wire import frames

HISTORY_LINES = 1000
VIEWER_LINES = 10_000


class Viewer:
    """Lines on their way to one websocket; one who does not read loses the oldest."""

    def __init__(self, connection: Connection) -> None:
        self.lines: deque[str] = deque(maxlen=VIEWER_LINES)
        self.wake = trio.Event()
        self._connection = connection
        self._sending = trio.Lock()

    async def send(self, opcode: frames.Opcode, payload: bytes) -> None:
        """One whole frame; lines and pongs come from two tasks. Raises OSError."""
        async with self._sending:
            await self._connection.send(frames.server_frame(opcode, payload))

    async def write_lines(self) -> None:
        while True:
            await self.wake.wait()
            self.wake = trio.Event()
            text = "\n".join(self.lines)
            self.lines.clear()
            try:
                await self.send(frames.Opcode.TEXT, text.encode())
            except OSError:
                return

    async def read_commands(self, on_command: Callable[[str], None]) -> None:
        try:
            await self._read(on_command)
        except OSError:
            return

    async def _read(self, on_command: Callable[[str], None]) -> None:
        decoder = frames.FrameDecoder(masked=True, max_message=1 << 16)
        data = self._connection.after_upgrade or await self._connection.receive()
        while data:
            for event in decoder.feed(data):
                match event:
                    case frames.Text(text):
                        for line in text.splitlines():
                            on_command(line)
                    case frames.Ping(payload):
                        await self.send(frames.Opcode.PONG, payload)
                    case frames.Close() | frames.Violation():
                        await self.send(frames.Opcode.CLOSE, frames.close_payload(frames.CloseCode.NORMAL))
                        return
                    case _:
                        continue
            data = await self._connection.receive()


class Console:
    def __init__(self) -> None:
        self._history: deque[str] = deque(maxlen=HISTORY_LINES)
        self._viewers: set[Viewer] = set()

    def publish(self, line: str) -> None:
        self._history.append(line)
        for viewer in self._viewers:
            viewer.lines.append(line)
            viewer.wake.set()

    @property
    def watched(self) -> bool:
        return bool(self._viewers)

    def history(self, lines: int) -> list[str]:
        return list(self._history)[-lines:] if lines > 0 else []

    async def watch(self, request: Request, on_command: Callable[[str], None]) -> None:
        """Serves one websocket until it ends: lines out, many to a frame; each line of a frame in is a command."""
        key = request.headers.get("sec-websocket-key", "").encode()
        if request.headers.get("upgrade", "").lower() != "websocket" or not frames.is_key(key):
            raise Refusal(400, "the console is a websocket")
        connection = request.connection
        await connection.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + frames.accept_key(key) + b"\r\n\r\n"
        )
        viewer = Viewer(connection)
        self._viewers.add(viewer)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(viewer.write_lines)
                await viewer.read_commands(on_command)
                nursery.cancel_scope.cancel()
        finally:
            self._viewers.discard(viewer)
