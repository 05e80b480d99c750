"""The console of one container: one upstream to the agent, however many watch."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import trio

from actors import Context
from zlh.containers.cell import Cell
from zlh.containers.feed import Feed
from zlh.containers.options import Options
from zlh.containers.tape import Gap, Piece, Tape
from zlh.drivers.agent import AgentClient, ConsoleStream
from zlh.drivers.errors import DriverError
from zlh.model.activity import Activity, Use
from zlh.model.console import Stretch, Viewer
from zlh.model.containers import Lifecycle, Power
from zlh.model.errors import InvalidError, TooManyError, UnavailableError

log = logging.getLogger("zlh.containers")

LINGER_SECONDS = 30.0
"""The upstream is kept for so long after the last viewer left: a reload of the page loses nothing."""

CONNECT_SECONDS = 5.0
SEND_SECONDS = 5.0
BACKOFF_CAP_SECONDS = 10.0
BEAT_SECONDS = 1.0
"""How often it is looked whether there is still something to connect to."""

PING_SECONDS = 10.0
SILENT_SECONDS = 30.0
"""An agent that does not even answer pings for so long is gone."""

LINE_BYTES = 4096
MOST_VIEWERS = 512


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no upstream, as a code and in words."""

    code: str
    reason: str


class Console:
    """Retained lines and viewers of one container; they outlive a crash of the task that feeds them."""

    def __init__(self, cell: Cell, options: Options, now: Callable[[], float], activity: Activity) -> None:
        self._cell = cell
        self._options = options
        self._now = now
        self._activity = activity
        self._tape = Tape(options.history_lines)
        self._feed = Feed(cell, self._tape, options.history_lines)
        self._primed = False
        self._failures = 0
        self._viewers: set[Viewer] = set()
        self._waiting: dict[Viewer, int | None] = {}
        self._stream: ConsoleStream | None = None
        self._joined = trio.Event()
        self._state: dict[str, object] = {"upstream": "connecting"}
        self._wanted = trio.Event()
        self._left = trio.Event()

    @property
    def viewers(self) -> int:
        return len(self._viewers)

    def attach(self, viewer: Viewer, *, after: int | None = None) -> ConsolePlace:
        """See `zlh.model.console.Consoles`."""
        if len(self._viewers) >= MOST_VIEWERS:
            raise TooManyError("too many watch this console", retry_after=30.0)
        if self._primed:
            _show(self._tape.replay(after), viewer)
        else:
            self._waiting[viewer] = after
        viewer.event("state", self._state)
        self._viewers.add(viewer)
        self._activity.opened(self._cell.vmid, Use.CONSOLE)
        self._wanted.set()
        return ConsolePlace(self, viewer, self._options.input_per_second, self._now)

    def detach(self, viewer: Viewer) -> None:
        if viewer not in self._viewers:
            return
        self._viewers.discard(viewer)
        self._waiting.pop(viewer, None)
        self._activity.closed(self._cell.vmid, Use.CONSOLE)
        if not self._viewers:
            self._left.set()

    def end(self, code: int, reason: str) -> None:
        """The container is gone: every viewer is told to close."""
        self._to_all(lambda viewer: viewer.end(code, reason))
        for viewer in list(self._viewers):
            self.detach(viewer)

    async def send_line(self, line: str) -> None:
        """Waits for the upstream where it is being opened. Raises UnavailableError where that, or the line, takes too
        long."""
        self._activity.touched(self._cell.vmid, Use.CONSOLE)
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
            trouble = self._trouble()
            if trouble is not None:
                await self._wait(ctx, trouble, BEAT_SECONDS)
                continue
            trouble = await self._relay(ctx)
            if trouble is not None:
                await self._wait(ctx, trouble, self._backoff())

    async def _wait(self, ctx: Context, trouble: Trouble, seconds: float) -> None:
        self._become({"upstream": "reconnecting", "code": trouble.code, "reason": trouble.reason})
        self._annotate(ctx, trouble.reason)
        await trio.sleep(seconds)

    def _backoff(self) -> float:
        self._failures += 1
        seconds = min(0.5 * 2.0 ** min(self._failures, 6), BACKOFF_CAP_SECONDS)
        return seconds * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret

    async def _somebody_watches(self) -> None:
        while not self._viewers:
            self._state = {"upstream": "connecting"}
            self._wanted = trio.Event()
            await self._wanted.wait()

    def _trouble(self) -> Trouble | None:
        """What is known to be in the way without asking the agent."""
        row = self._cell.row
        if row.desired.lifecycle is Lifecycle.ABSENT:
            return Trouble("deleting", "the container is being deleted")
        if row.desired.suspended:
            return Trouble("suspended", "the account is suspended")
        if row.address is None:
            return Trouble("not_ready", "the container has no address yet")
        if self._cell.observed.host.power is Power.OFF:
            return Trouble("host_offline", "the container is off")
        return None

    async def _relay(self, ctx: Context) -> Trouble | None:
        """Reads until the upstream ends (why) or nobody watches any more (None)."""
        row = self._cell.row
        assert row.address is not None
        connected = False
        try:
            with closing(AgentClient(row.address, self._options.agent_port, row.agent_token)) as client:
                asked = [after for after in self._waiting.values() if after is not None]
                with trio.fail_after(CONNECT_SECONDS):
                    stream, told = await self._feed.open(client, asked)
                async with stream:
                    self._catch_up(told)
                    self._connected(stream)
                    connected = True
                    self._annotate(ctx, "connected")
                    return await self._read(stream)
        except (DriverError, trio.TooSlowError) as error:
            return _unreachable(str(error) or f"no answer within {CONNECT_SECONDS:g} s")
        finally:
            self._stream = None
            if connected:
                # Only then: whoever waits for a first connection waits on the event that the next attempt will set.
                self._joined = trio.Event()

    def _catch_up(self, told: Sequence[Stretch] | None) -> None:
        """What was written while we did not listen; None: nobody can tell."""
        pieces = self._tape.interrupt() if told is None else [piece for each in told for piece in self._new(each)]
        waiting, self._waiting = self._waiting, {}
        self._primed = True
        for viewer in self._viewers - waiting.keys():
            self._tell(viewer, partial(_show, pieces))
        for viewer, after in waiting.items():
            self._tell(viewer, partial(_show, list(self._tape.replay(after))))
        self._tape.trim()

    def _new(self, stretch: Stretch) -> list[Piece]:
        """Of history."""
        if stretch.epoch is None:
            return self._tape.join(stretch.lines, self._now())
        return self._tape.take(stretch, self._now())

    async def _read(self, stream: ConsoleStream) -> Trouble | None:
        trouble: Trouble | None = None
        async with trio.open_nursery() as nursery:

            async def leave_when_alone() -> None:
                await self._nobody_watches()
                nursery.cancel_scope.cancel()

            async def leave_when_in_vain() -> None:
                nonlocal trouble
                trouble = await self._watch_over(stream)
                nursery.cancel_scope.cancel()

            nursery.start_soon(leave_when_alone)
            nursery.start_soon(leave_when_in_vain)
            try:
                async for stretch in stream:
                    self._publish(stretch)
                trouble = _unreachable("the agent closed the console")
            except DriverError as error:
                trouble = _unreachable(str(error))
            nursery.cancel_scope.cancel()
        return trouble

    async def _watch_over(self, stream: ConsoleStream) -> Trouble:
        """Returns once there is no sense in reading on: a container that is switched off hangs up on nobody."""
        pinged_at = -math.inf
        while True:
            await trio.sleep(BEAT_SECONDS)
            trouble = self._trouble()
            if trouble is not None:
                return trouble
            silent = trio.current_time() - stream.heard_at
            if silent > SILENT_SECONDS:
                return _unreachable(f"the agent has not answered for {SILENT_SECONDS:g} s")
            if silent > PING_SECONDS and pinged_at <= stream.heard_at:
                pinged_at = trio.current_time()
                try:
                    with trio.move_on_after(SEND_SECONDS):
                        await stream.ping()
                except DriverError as error:
                    return _unreachable(str(error))

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
        if state != self._state:
            self._state = state
            self._to_all(lambda viewer: viewer.event("state", state))

    def _publish(self, stretch: Stretch) -> None:
        if stretch.epoch is None:
            pieces: list[Piece] = [self._tape.append(stretch.lines, self._now())]
        else:
            pieces = self._tape.take(stretch, self._now())
        self._tape.trim()
        self._to_all(partial(_show, pieces))

    def _to_all(self, tell: Callable[[Viewer], None]) -> None:
        for viewer in list(self._viewers):
            self._tell(viewer, tell)

    def _tell(self, viewer: Viewer, tell: Callable[[Viewer], None]) -> None:
        """One viewer's bug must not cost the others their console: it is logged, and that viewer is left out."""
        try:
            tell(viewer)
        except Exception:
            log.exception("a viewer of container %s raised", self._cell.vmid)
            self.detach(viewer)

    def _annotate(self, ctx: Context, upstream: str) -> None:
        ctx.annotate(upstream=upstream, viewers=len(self._viewers), retained=len(self._tape))


def _unreachable(reason: str) -> Trouble:
    return Trouble("agent_unreachable", reason)


def _show(pieces: Iterable[Piece], viewer: Viewer) -> None:
    for piece in pieces:
        if isinstance(piece, Gap):
            viewer.event("gap", {"dropped": piece.dropped})
        else:
            viewer.deliver(piece)


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
