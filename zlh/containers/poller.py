"""The polling loop of one container. It owns the kept-open connection to the agent and writes what it observes."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from typing import TypeVar

import trio

from actors import Context
from zlh.containers.cadence import due, interval
from zlh.containers.cell import Cell
from zlh.containers.observe import Round, fold_round, not_asked, stale
from zlh.containers.options import Options
from zlh.drivers.agent import AgentClient
from zlh.drivers.errors import DriverError, Refused, Unsupported
from zlh.model.agent_calls import Feature
from zlh.model.containers import Container, ContainerType, Power
from zlh.model.observed import AgentObservation, Liveness, Readiness
from zlh.model.operations import OperationKind, StepState

T = TypeVar("T")

COMMAND_SECONDS = 20.0
"""For so long after a power command the poller keeps to the fast cadence."""

FEATURES = {"players": Feature.PLAYERS, "update": Feature.UPDATE}
ALWAYS_ASKED = "version"
"""What an old agent lacks too, until it is updated: a new version is how we hear of that."""


class Poller:
    """Runs as a supervised task; a new one after every crash, on the same cell.

    `now` gives Unix seconds; `moved` is called when the agent's state changed (not on every poll).
    """

    def __init__(
        self,
        cell: Cell,
        options: Options,
        now: Callable[[], float],
        moved: Callable[[Cell], None],
    ) -> None:
        self._cell = cell
        self._options = options
        self._polling = options.polling
        self._now = now
        self._moved = moved
        self._slow_at = 0.0
        self._players_at = 0.0
        self._lacks: set[str] = set()

    async def run(self, ctx: Context) -> None:
        cell = self._cell
        cell.observe_agent(stale(cell.observed.agent))
        ctx.started()
        await self._sleep(ctx, random.random() * self._polling.transition_seconds)  # noqa: S311 - jitter
        while True:
            reason = self._reason_not_to_ask()
            if reason is None:
                await self._poll_while_configured(ctx)
            else:
                cell.observe_agent(not_asked(cell.observed.agent, reason))
                await self._sleep(ctx, self._interval())

    async def _poll_while_configured(self, ctx: Context) -> None:
        """One client, as long as the address and the token stay the same."""
        row = self._cell.row
        assert row.address is not None
        with closing(AgentClient(row.address, self._options.agent_port, row.agent_token)) as client:
            while self._reason_not_to_ask() is None and _same_agent(row, self._cell.row):
                self._observe(replace(await self._round(client), address=row.address))
                await self._sleep(ctx, self._interval())

    async def _round(self, client: AgentClient) -> Round:
        """Three requests, and the slow ones when their time has come, within the poll's time-out each."""
        try:
            return await self._ask_all(client)
        except DriverError as error:
            # What comes back may be another version.
            self._slow_at = 0.0
            self._lacks.clear()
            return Round(failure=str(error), refused=isinstance(error, Refused) and error.status in (401, 403))

    async def _ask_all(self, client: AgentClient) -> Round:
        await self._within(client.health)
        status = await self._within(client.status)
        readiness = await self._readiness(client)
        version = update = players = None
        now = self._now()
        if now >= self._slow_at or self._cell.version_asked or self._updating:
            self._cell.version_asked = False
            self._slow_at = now + self._polling.slow_seconds
            version = await self._beside("version", client.version)
            update = await self._beside("update", client.update_status)
        if self._cell.row.ctype is ContainerType.GAME and now >= self._players_at:
            self._players_at = now + self._polling.players_seconds
            players = await self._beside("players", client.players)
        return Round(status, readiness, version, update, players)

    async def _readiness(self, client: AgentClient) -> Readiness | None:
        try:
            return await self._optional("ready", client.ready)
        except DriverError as error:
            return Readiness(False, str(error))

    async def _beside(self, name: str, ask: Callable[[], Awaitable[T]]) -> T | None:
        """What the liveness of an agent does not hang on: what was heard last stays."""
        try:
            return await self._optional(name, ask)
        except DriverError:
            return None

    async def _within(self, ask: Callable[[], Awaitable[T]]) -> T:
        with trio.move_on_after(self._polling.timeout_seconds):
            return await ask()
        raise NoAnswer(f"no answer within {self._polling.timeout_seconds:g} s")

    async def _optional(self, name: str, ask: Callable[[], Awaitable[T]]) -> T | None:
        """An endpoint that an old agent lacks is not asked again until there is reason to."""
        feature = FEATURES.get(name)
        if name in self._lacks or feature in self._cell.lacking:
            return None
        try:
            return await self._within(ask)
        except Unsupported:
            if feature is not None:
                self._cell.learn_lacking(feature)
            elif name != ALWAYS_ASKED:
                self._lacks.add(name)
            return None

    def _observe(self, answers: Round) -> None:
        cell = self._cell
        before = cell.observed.agent
        after = fold_round(before, answers, self._now(), self._polling.misses)
        cell.observe_agent(after)
        if before.version != after.version:
            self._lacks.clear()
        if _key(before) != _key(after):
            self._moved(cell)

    @property
    def _updating(self) -> bool:
        update = self._cell.observed.agent.update
        return update is not None and update.state == "updating"

    def _reason_not_to_ask(self) -> str | None:
        cell = self._cell
        if cell.row.address is None:
            return "the container has no address yet"
        if not cell.row.provisioned and not _configured(cell):
            return "the agent has no configuration yet"
        if cell.observed.host.power is Power.OFF:
            return "the container is off"
        return None

    def _interval(self) -> float:
        commanded = self._now() < self._cell.commanded_until
        return interval(self._polling, self._cell.observed, self._cell.operation, commanded=commanded)

    async def _sleep(self, ctx: Context, seconds: float) -> None:
        """Until the next grid point after `seconds`, or until somebody asks for a poll now."""
        at = due(trio.current_time(), seconds, self._polling.tick_seconds, random.random())  # noqa: S311 - jitter
        ctx.annotate(last_poll=self._cell.observed.agent.asked_at, next_poll=self._now() + at - trio.current_time())
        with trio.move_on_at(at):
            await self._cell.poll_asked.wait()
        self._cell.poll_asked = trio.Event()


class NoAnswer(DriverError):
    """The poll's own time-out."""


def _configured(cell: Cell) -> bool:
    operation = cell.operation
    if operation is None or operation.kind is not OperationKind.PROVISION:
        return False
    return operation.step("config").state is StepState.DONE


def _same_agent(before: Container, now: Container) -> bool:
    return (before.address, before.agent_token) == (now.address, now.agent_token)


def _key(agent: AgentObservation) -> tuple[Liveness, object, int]:
    status = agent.status
    return agent.liveness, status and status.state, status.crash_count if status else 0
