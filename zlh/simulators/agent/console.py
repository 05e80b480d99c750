"""The console of one container: the retained lines, and those who watch over a websocket."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any

import orjson
import trio

from zlh.simulators.agent.http import Connection, Refusal, Request
from zlh.wire import frames

HISTORY_LINES = 5000
VIEWER_LINES = 10_000
FRAME_LINES = 1000


class Viewer:
    """Lines on their way to one websocket; one who does not read loses the oldest. With an `epoch` they are
    numbered."""

    def __init__(self, connection: Connection, next_number: int, epoch: int | None) -> None:
        self.lines: deque[str] = deque(maxlen=VIEWER_LINES)
        self.next = next_number
        self.wake = trio.Event()
        self._epoch = epoch
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
            try:
                while self.lines:
                    await self.send(frames.Opcode.TEXT, self._frame())
            except OSError:
                return

    def _frame(self) -> bytes:
        first = self.next - len(self.lines)
        lines = [self.lines.popleft() for _ in range(min(FRAME_LINES, len(self.lines)))]
        if self._epoch is None:
            return "\n".join(lines).encode()
        return orjson.dumps({"epoch": self._epoch, "first": first, "lines": lines})

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
    """Its lines are numbered from 1 since `epoch`, in Unix milliseconds."""

    def __init__(self) -> None:
        self._epoch = time.time_ns() // 1_000_000
        self._next = 1
        self._history: deque[str] = deque(maxlen=HISTORY_LINES)
        self._viewers: set[Viewer] = set()

    def publish(self, line: str) -> None:
        self._history.append(line)
        self._next += 1
        for viewer in self._viewers:
            viewer.lines.append(line)
            viewer.next = self._next
            viewer.wake.set()

    @property
    def watched(self) -> bool:
        return bool(self._viewers)

    def history(self, lines: int) -> list[str]:
        return list(self._history)[-lines:] if lines > 0 else []

    def numbered_history(self, lines: int, after: int | None = None) -> dict[str, Any]:
        """The newest lines, or the first ones after that number."""
        if after is None:
            told = self.history(lines)
            return {"epoch": self._epoch, "first": self._next - len(told), "lines": told}
        oldest = self._next - len(self._history)
        first = min(max(after + 1, oldest), self._next)
        told = list(islice(self._history, first - oldest, first - oldest + lines))
        return {"epoch": self._epoch, "first": first, "lines": told}

    async def watch(self, request: Request, on_command: Callable[[str], None], *, numbered: bool = False) -> None:
        """Serves one websocket until it ends: lines out, many to a frame; each line of a frame in is a command."""
        key = request.headers.get("sec-websocket-key", "").encode()
        if request.headers.get("upgrade", "").lower() != "websocket" or not frames.is_key(key):
            raise Refusal(400, "the console is a websocket")
        connection = request.connection
        await connection.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + frames.accept_key(key) + b"\r\n\r\n"
        )
        viewer = Viewer(connection, self._next, self._epoch if numbered else None)
        self._viewers.add(viewer)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(viewer.write_lines)
                await viewer.read_commands(on_command)
                nursery.cancel_scope.cancel()
        finally:
            self._viewers.discard(viewer)
