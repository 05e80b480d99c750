"""One viewer of a console: frames go straight to its socket from whoever has them, and wait only when they must."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import StrEnum
from math import inf

import orjson
import trio

from zlh.gateway.client import Client
from zlh.gateway.connection import GoneError, Interrupted, Reason
from zlh.gateway.limits import ConsoleLimits
from zlh.gateway.stats import Counters
from zlh.model.console import Batch, Line
from zlh.model.errors import TooManyError
from zlh.wire.frames import CloseCode, Opcode, close_payload, server_frame


class Format(StrEnum):
    TEXT = "text"
    JSON = "json"


def batch_frames(batch: Batch, form: Format) -> bytes:
    """The batch's frames: one with all lines for TEXT, one to a line for JSON. Built once, whoever asks."""
    frames = batch.frames.get(form)
    if frames is None:
        if form is Format.TEXT:
            frames = _text_frame("\n".join([line.text for line in batch.lines]))
        else:
            frames = b"".join([_line_frame(line) for line in batch.lines])
        batch.frames[form] = frames
    return frames


def event_frame(name: str, fields: dict[str, object], form: Format) -> bytes:
    """A control event; for TEXT a plain line, or nothing where the event is of no use to a reader of lines."""
    if form is Format.JSON:
        return server_frame(Opcode.TEXT, orjson.dumps({"event": name, **fields}))
    if name == "gap":
        dropped = fields.get("dropped")
        return _text_frame(
            "[lines may be missing here]" if dropped is None else f"[{dropped} lines are missing here]"
        )
    if name in ("notice", "throttled"):
        return _text_frame(f"[{fields.get('message')}]")
    return b""


def _line_frame(line: Line) -> bytes:
    return server_frame(Opcode.TEXT, orjson.dumps({"seq": line.seq, "line": line.text, "at": line.at}))


def _text_frame(text: str) -> bytes:
    # A lone surrogate cannot be sent as UTF-8.
    return server_frame(Opcode.TEXT, text.encode(errors="replace"))


class ConsoleViewer:
    """Implements `zlh.model.console.Viewer`. Nothing of it blocks or raises.

    While the socket would block, frames wait in a queue of `limits.buffer` bytes; beyond it the oldest go, and the
    viewer is told how many lines it missed, in the place where they are missing.
    """

    def __init__(
        self,
        client: Client,
        form: Format,
        limits: ConsoleLimits,
        *,
        close_seconds: float,
        nursery: trio.Nursery,
        counters: Counters,
        on_end: Callable[[], None],
    ) -> None:
        self._client = client
        self._form = form
        self._limits = limits
        self._close_seconds = close_seconds
        self._nursery = nursery
        self._counters = counters
        self._on_end = on_end
        self._rest: memoryview | None = None  # of what is being sent; frames are never cut
        self._controls: deque[bytes] = deque()
        self._queue: deque[tuple[bytes, int]] = deque()
        self._queued = 0
        self._dropped = 0
        self._blocked_since = inf
        self._heard_at = self._pinged_at = trio.current_time()
        self._pings = 0
        self.ending = False

    def deliver(self, batch: Batch) -> None:
        if self.ending or not batch.lines:
            return
        frames = batch_frames(batch, self._form)
        if self._rest is None:
            self._send(frames)
            return
        self._queue.append((frames, len(batch.lines)))
        self._queued += len(frames)
        while self._queued > self._limits.buffer and self._queue:
            oldest, lines = self._queue.popleft()
            self._queued -= len(oldest)
            self._dropped += lines
            self._counters.lines_dropped += lines

    def event(self, name: str, fields: dict[str, object]) -> None:
        self._control(event_frame(name, fields, self._form))

    def notice(self, code: str, message: str) -> None:
        """Tells the person at the other end why a command was not carried out."""
        self.event("notice", {"code": code, "message": message})

    def throttled(self, problem: TooManyError, lines: int) -> None:
        """Tells that the last `lines` of what was typed were too many, and when the next may come."""
        seconds = round(problem.retry_after or 0.0, 3)
        self.event("throttled", {"retryAfter": seconds, "lines": lines, "message": problem.message})

    def pong(self, payload: bytes) -> None:
        self._control(server_frame(Opcode.PONG, payload))

    def end(self, code: int, reason: str) -> None:
        """Says why and closes: at once for a client that reads, after `close_seconds` for one that does not."""
        if self.ending:
            return
        self._control(server_frame(Opcode.CLOSE, close_payload(code, reason)))
        self.ending = True
        self._queue.clear()
        self._queued = self._dropped = 0
        self._client.finish_within(self._close_seconds)
        self._on_end()

    def heard(self) -> None:
        """The client sent something, so it is there."""
        self._heard_at = trio.current_time()
        self._pings = 0

    def tick(self, now: float) -> None:
        """A few times a second: pings, and ends a viewer that is stuck or silent. `now` in Trio's time."""
        if self.ending:
            return
        if now - self._blocked_since > self._limits.stuck_seconds:
            self.end(CloseCode.POLICY, "reads too slowly")
        elif self._pings and now - self._pinged_at > self._limits.pong_seconds:
            self.end(CloseCode.GOING_AWAY, "no answer to a ping")
        elif not self._pings and now - max(self._heard_at, self._pinged_at) > self._limits.ping_seconds:
            self._pings += 1
            self._pinged_at = now
            self._control(server_frame(Opcode.PING))

    def _control(self, frame: bytes) -> None:
        """Control frames are few and small, overtake waiting lines, and are never dropped."""
        if self.ending or not frame:
            return
        if self._rest is None:
            self._send(frame)
        else:
            self._controls.append(frame)

    def _send(self, frames: bytes) -> None:
        try:
            sent = self._client.send_nowait(frames)
        except GoneError:
            self._client.interrupt(Reason.CLIENT_GONE)
            return
        if sent < len(frames):
            self._rest = memoryview(frames)[sent:]
            self._blocked_since = trio.current_time()
            self._nursery.start_soon(self._flush)

    async def _flush(self) -> None:
        """Lives only while something waits."""
        try:
            while self._rest is not None:
                await self._client.writable()
                sent = self._client.send_nowait(self._rest)
                if sent:
                    self._blocked_since = trio.current_time()
                self._rest = self._rest[sent:] if sent < len(self._rest) else self._next()
        except (GoneError, Interrupted):
            self._client.interrupt(Reason.CLIENT_GONE)
        self._blocked_since = inf

    def _next(self) -> memoryview | None:
        if self._controls:
            return memoryview(self._controls.popleft())
        if self._dropped:
            gap = event_frame("gap", {"dropped": self._dropped}, self._form)
            self._dropped = 0
            return memoryview(gap)
        if self._queue:
            frames, _ = self._queue.popleft()
            self._queued -= len(frames)
            return memoryview(frames)
        return None
