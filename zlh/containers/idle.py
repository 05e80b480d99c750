"""Stops the IDEs that nobody uses, in the dev containers whose owners wish that.

What nobody knows counts as use: idle time begins anew with every start of ours, whenever the container or its agent
cannot be seen, and with every other setting. Nothing is stopped that was not announced before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

import orjson
import trio

from actors import Context
from zlh.containers.activity import Uses
from zlh.containers.cell import Cell
from zlh.containers.projection import Projection
from zlh.model.activity import Idle, Usage, Use
from zlh.model.agent_calls import AgentAnswer, AgentCall, Feature
from zlh.model.audit import Act, Ending, Outcome
from zlh.model.containers import ContainerType, Power
from zlh.model.errors import ProblemError
from zlh.model.observed import Liveness
from zlh.store import Database, StoreUnavailable, idle_stops

log = logging.getLogger("zlh.containers")

ROUND_SECONDS = 15.0
WARNING_SECONDS = 300.0
"""So long before it is stopped, that is announced."""

ACTION = "code_server.idle_stop"
LOOK = AgentCall(Feature.CODE_SERVER, "GET", "/dev/code-server", changes=False)
STOP = AgentCall(Feature.CODE_SERVER, "POST", "/dev/code-server/stop")


@dataclass(frozen=True, slots=True)
class Watched:
    """What is kept of one IDE from look to look: idle time counts from `since` on, in Unix seconds, at the earliest.
    `warned_at` is when its stop was announced."""

    minutes: int
    since: float
    warned_at: float | None = None


def judge(watched: Watched, usage: Usage, now: float) -> Idle | None:
    """Whether a stop is to be announced, and for when; None where it is in use, or was not long enough ago. It is due
    when `stops_at` is reached, which is never before the announcement was out for long enough."""
    if usage.busy:
        return None
    since = max(watched.since, usage.last or 0.0)
    due = since + watched.minutes * 60
    if now < due - WARNING_SECONDS:
        return None
    warned_at = watched.warned_at
    if warned_at is None or warned_at < since:
        warned_at = now
    return Idle(since, max(due, warned_at + WARNING_SECONDS), usage)


class Containers(Protocol):
    """What is needed of the fleet."""

    @property
    def projection(self) -> Projection: ...

    @property
    def activity(self) -> Uses: ...

    async def call(self, vmid: int, call: AgentCall, *, use: bool = True) -> AgentAnswer: ...


class IdleWatch:
    """A supervised task. `note` takes what is over into the audit record; `now` gives Unix seconds."""

    def __init__(
        self, db: Database, fleet: Containers, note: Callable[[Act, Ending], None], now: Callable[[], float]
    ) -> None:
        self._db = db
        self._fleet = fleet
        self._note = note
        self._now = now
        self._watched: dict[int, Watched] = {}

    async def run(self, ctx: Context) -> None:
        ctx.started()
        while True:
            await self.look()
            ctx.annotate(watched=len(self._watched), warned=sum(each.warned_at is not None for each in self._all()))
            await trio.sleep(ROUND_SECONDS)

    async def look(self) -> None:
        """Goes over all of them once."""
        try:
            wishes = await self._db.run(idle_stops.all_minutes)
        except StoreUnavailable as error:
            log.warning("idle IDEs wait for the database: %s", error)
            return
        for vmid in self._watched.keys() - wishes.keys():
            del self._watched[vmid]
            cell = self._fleet.projection.get(vmid)
            if cell is not None:
                cell.set_idle(None)
        async with trio.open_nursery() as nursery:
            for vmid, minutes in wishes.items():
                cell = self._fleet.projection.get(vmid)
                if cell is not None:
                    nursery.start_soon(self._look_at, cell, minutes)

    def _all(self) -> list[Watched]:
        return list(self._watched.values())

    async def _look_at(self, cell: Cell, minutes: int) -> None:
        watched = self._watched.get(cell.vmid)
        if watched is None or watched.minutes != minutes or not _in_sight(cell):
            self._begin_anew(cell, minutes)
            return
        idle = judge(watched, self._fleet.activity.of(cell.vmid), self._now())
        if idle is None:
            self._watched[cell.vmid] = replace(watched, warned_at=None)
            cell.set_idle(None)
        elif watched.warned_at is None or self._now() >= idle.stops_at:
            await self._act(cell, watched)
        else:
            cell.set_idle(idle)

    async def _act(self, cell: Cell, watched: Watched) -> None:
        """Announces the stop or carries it out, if there is anything to stop."""
        vmid = cell.vmid
        try:
            runs = _runs(await self._fleet.call(vmid, LOOK, use=False))
        except ProblemError as problem:
            log.info("container %s: whether its IDE runs cannot be asked: %s", vmid, problem)
            runs = False
        # Somebody may have come while that was asked.
        idle = judge(watched, self._fleet.activity.of(vmid), self._now())
        if idle is None or not runs:
            self._begin_anew(cell, watched.minutes)
        elif self._now() < idle.stops_at:
            self._watched[vmid] = replace(watched, warned_at=self._now())
            cell.set_idle(idle)
            log.info("container %s: its IDE will be stopped: %s", vmid, _words(idle))
        else:
            await self._stop(cell, idle)
            self._begin_anew(cell, watched.minutes)

    async def _stop(self, cell: Cell, idle: Idle) -> None:
        words = _words(idle)
        at = datetime.fromtimestamp(self._now(), UTC)
        outcome = Outcome.DONE
        try:
            await self._fleet.call(cell.vmid, STOP, use=False)
            log.info("container %s: its IDE was stopped: %s", cell.vmid, words)
        except ProblemError as problem:
            outcome = Outcome.FAILED
            words = f"{problem}; {words}"
            log.warning("container %s: its IDE could not be stopped: %s", cell.vmid, words)
        act = Act(
            at=at,
            action=ACTION,
            credential="none",
            subject_id=cell.row.owner_id,
            vmid=cell.vmid,
            details={"reason": words},
        )
        self._note(act, Ending(outcome=outcome))

    def _begin_anew(self, cell: Cell, minutes: int) -> None:
        self._watched[cell.vmid] = Watched(minutes, self._now())
        cell.set_idle(None)


def _in_sight(cell: Cell) -> bool:
    """Whether enough is known of it to say that nobody uses its IDE, and nothing else is about to happen to it."""
    row, observed = cell.row, cell.observed
    return (
        row.ctype is ContainerType.DEV
        and row.provisioned
        and not row.desired.suspended
        and cell.operation is None
        and observed.host.power is Power.ON
        and observed.agent.liveness is Liveness.ONLINE
        and not observed.agent.stale
    )


def _runs(answer: AgentAnswer) -> bool:
    state = orjson.loads(answer.body) if answer.body else None
    return isinstance(state, dict) and state.get("state") == "running"


def _words(idle: Idle) -> str:
    """The evidence."""
    since = datetime.fromtimestamp(idle.since, UTC).isoformat(timespec="seconds")
    seen = ", ".join(
        f"{use.value} last seen {datetime.fromtimestamp(at, UTC).isoformat(timespec='seconds')}"
        if (at := idle.usage.at.get(use)) is not None
        else f"{use.value} not seen"
        for use in Use
    )
    return f"idle since {since}, nothing is open; {seen}"
