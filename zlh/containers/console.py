"""The console of one container: one upstream to the agent, however many watch."""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import islice

import trio

from actors import Context
from zlh.containers.cell import Cell
from zlh.containers.options import Options
from zlh.drivers.agent import AgentClient, ConsoleStream
from zlh.drivers.errors import DriverError, Unsupported
from zlh.model.console import Batch, Line, Viewer
from zlh.model.containers import Power
from zlh.model.errors import InvalidError, TooManyError, UnavailableError

log = logging.getLogger("zlh.containers")

LINGER_SECONDS = 30.0
"""The upstream is kept for so long after the last viewer left: a reload of the page loses nothing."""

CONNECT_SECONDS = 5.0
SEND_SECONDS = 5.0
BACKOFF_CAP_SECONDS = 10.0
LINE_BYTES = 4096


class Console:
    """Retained lines and viewers of one container; they outlive a crash of the task that feeds them.

    Sequence numbers start at the time of creation in milliseconds, so that they keep rising over a restart.
    """

    def __init__(self, cell: Cell, options: Options, now: Callable[[], float]) -> None:
        self._cell = cell
        self._options = options
        self._now = now
        self._lines: deque[Line] = deque(maxlen=options.history_lines)
        self._first_seq = self._next_seq = int(now() * 1000)
        self._failures = 0
        self._viewers: set[Viewer] = set()
        self._stream: ConsoleStream | None = None
        self._joined = trio.Event()
        self._state: dict[str, object] = {"upstream": "connecting"}
        self._wanted = trio.Event()
        self._left = trio.Event()

    @property
    def viewers(self) -> int:
        return len(self._viewers)

    def attach(self, viewer: Viewer, *, after: int | None = None) -> ConsolePlace:
        """Delivers the retained lines after `after` and how the upstream is, then joins; see
        `zlh.model.console.Consoles`."""
        self._replay(viewer, after)
        viewer.event("state", self._state)
        self._viewers.add(viewer)
        self._wanted.set()
        return ConsolePlace(self, viewer, self._options.input_per_second, self._now)

    def detach(self, viewer: Viewer) -> None:
        self._viewers.discard(viewer)
        if not self._viewers:
            self._left.set()

    def end(self, code: int, reason: str) -> None:
        """The container is gone: every viewer is told to close."""
        self._to_all(lambda viewer: viewer.end(code, reason))
        self._viewers.clear()

    async def send_line(self, line: str) -> None:
        """Waits for the upstream where it is being opened. Raises UnavailableError where that, or the line, takes too
        long."""
        try:
            with trio.fail_after(SEND_SECONDS):
                while self._stream is None:
                    await self._joined.wait()
                await self._stream.send_line(line)
        except (DriverError, trio.TooSlowError) as error:
            why = str(error) or f"no answer within {SEND_SECONDS:g} s"
            raise UnavailableError(f"the container did not take the line: {why}", retry_after=1.0) from error

    async def run(self, ctx: Context) -> None:
        """The supervised task: connected while someone watches, and for a while after."""
        ctx.started()
        self._failures = 0
        while True:
            self._annotate(ctx, "idle")
            await self._somebody_watches()
            reason = self._reason_not_to_connect()
            if reason is None:
                reason = await self._relay(ctx)
            if reason is not None:
                self._become({"upstream": "reconnecting", "reason": reason})
                self._annotate(ctx, reason)
                await trio.sleep(self._backoff())

    def _backoff(self) -> float:
        self._failures += 1
        seconds = min(0.5 * 2.0 ** min(self._failures, 6), BACKOFF_CAP_SECONDS)
        return seconds * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret

    async def _somebody_watches(self) -> None:
        while not self._viewers:
            self._wanted = trio.Event()
            await self._wanted.wait()

    def _reason_not_to_connect(self) -> str | None:
        if self._cell.row.address is None:
            return "the container has no address yet"
        if self._cell.observed.host.power is Power.OFF:
            return "the container is off"
        return None

    async def _relay(self, ctx: Context) -> str | None:
        """Reads until the upstream ends (the reason) or nobody watches any more (None)."""
        row = self._cell.row
        assert row.address is not None
        connected = False
        try:
            with closing(AgentClient(row.address, self._options.agent_port, row.agent_token)) as client:
                with trio.fail_after(CONNECT_SECONDS):
                    history = await self._history(client)
                    stream = await client.open_console()
                async with stream:
                    self._publish(history)
                    self._connected(stream)
                    connected = True
                    self._annotate(ctx, "connected")
                    return await self._read(stream)
        except (DriverError, trio.TooSlowError) as error:
            return str(error) or f"no answer within {CONNECT_SECONDS:g} s"
        finally:
            self._stream = None
            if connected:
                # Only then: whoever waits for a first connection waits on the event that the next attempt will set.
                self._joined = trio.Event()
            self._state = {"upstream": "connecting"}
            if connected and self._viewers:
                self._tell("gap", {"dropped": None})

    async def _history(self, client: AgentClient) -> Sequence[str]:
        """What was written before anyone watched; what an old agent cannot tell is not worth failing for."""
        if self._lines:
            return ()
        try:
            return await client.history(self._options.history_lines)
        except Unsupported:
            return ()

    async def _read(self, stream: ConsoleStream) -> str | None:
        reason: str | None = None
        async with trio.open_nursery() as nursery:

            async def leave_when_alone() -> None:
                await self._nobody_watches()
                nursery.cancel_scope.cancel()

            nursery.start_soon(leave_when_alone)
            try:
                async for lines in stream:
                    self._publish(lines)
                reason = "the agent closed the console"
            except DriverError as error:
                reason = str(error)
            nursery.cancel_scope.cancel()
        return reason

    async def _nobody_watches(self) -> None:
        while True:
            while self._viewers:
                self._left = trio.Event()
                await self._left.wait()
            self._wanted = trio.Event()
            with trio.move_on_after(LINGER_SECONDS):
                await self._wanted.wait()
            if not self._viewers:
                return

    def _connected(self, stream: ConsoleStream) -> None:
        self._stream = stream
        self._failures = 0
        self._joined.set()
        self._become({"upstream": "connected"})

    def _become(self, state: dict[str, object]) -> None:
        self._state = state
        self._tell("state", state)

    def _publish(self, texts: Sequence[str]) -> None:
        if not texts:
            return
        at, first = self._now(), self._next_seq
        lines = tuple(Line(first + index, at, text) for index, text in enumerate(texts))
        self._next_seq += len(lines)
        self._lines.extend(lines)
        batch = Batch(lines)
        self._to_all(lambda viewer: viewer.deliver(batch))

    def _replay(self, viewer: Viewer, after: int | None) -> None:
        lines = self._lines
        if not lines:
            return
        oldest = lines[0].seq
        if after is not None and after + 1 < oldest:
            # Numbers from before our own start say that lines are missing, but not how many.
            known = after + 1 >= self._first_seq
            viewer.event("gap", {"dropped": oldest - after - 1 if known else None})
        skip = 0 if after is None else min(max(0, after + 1 - oldest), len(lines))
        retained = tuple(islice(lines, skip, None))
        if retained:
            viewer.deliver(Batch(retained))

    def _tell(self, name: str, fields: dict[str, object]) -> None:
        self._to_all(lambda viewer: viewer.event(name, fields))

    def _to_all(self, tell: Callable[[Viewer], None]) -> None:
        """One viewer's bug must not cost the others their console: it is logged, and that viewer is left out."""
        for viewer in list(self._viewers):
            try:
                tell(viewer)
            except Exception:
                log.exception("a viewer of container %s raised", self._cell.vmid)
                self.detach(viewer)

    def _annotate(self, ctx: Context, upstream: str) -> None:
        ctx.annotate(upstream=upstream, viewers=len(self._viewers), retained=len(self._lines))


class ConsolePlace:
    """A viewer's place at a console (`zlh.model.console.Attachment`), with its own allowance of input lines."""

    def __init__(self, console: Console, viewer: Viewer, per_second: float, now: Callable[[], float]) -> None:
        self._console = console
        self._viewer = viewer
        self._per_second = per_second
        self._now = now
        self._allowance = self._burst = max(1.0, per_second * 2)
        self._counted_at = now()

    async def send_line(self, line: str) -> None:
        if "\n" in line or "\r" in line or "\0" in line:
            raise InvalidError("a command is one line")
        if len(line.encode()) > LINE_BYTES:
            raise InvalidError(f"a command has at most {LINE_BYTES} bytes")
        self._spend()
        await self._console.send_line(line)

    def detach(self) -> None:
        self._console.detach(self._viewer)

    def _spend(self) -> None:
        now = self._now()
        passed = max(0.0, now - self._counted_at)
        self._allowance = min(self._burst, self._allowance + passed * self._per_second)
        self._counted_at = now
        if self._allowance < 1.0:
            wait = (1.0 - self._allowance) / self._per_second
            raise TooManyError(f"at most {self._per_second:g} lines a second", retry_after=wait)
        self._allowance -= 1.0
