"""Starts an actor for every container's row, and stops those whose row is gone."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
import trio

import actors
from actors import ChildExists, ChildSpec, Context, UnknownPath
from zlh.containers.activity import Uses
from zlh.containers.actor import ContainerActor
from zlh.containers.cell import Cell
from zlh.containers.console import Console
from zlh.containers.crew import Arrival, Census, Crew, Departure
from zlh.containers.options import Options
from zlh.containers.poller import Poller
from zlh.containers.projection import Projection
from zlh.model.containers import Container
from zlh.model.observed import AgentObservation, AgentState, Liveness, Observed, Status
from zlh.model.operations import Operation
from zlh.store import Database, StoreUnavailable, containers, operations

CENSUS_SECONDS = 1.0

GONE = 4404
"""The websocket code for a console whose container was removed."""


class Registrar:
    """A supervised task; it alone adds children to the fleet's supervisor and takes them out.

    `owner_changed(vmid, owner_id)` is called as containers come and go (None), `agent_moved` when a poller saw its
    agent in another state. `consoles` are those of all containers, by vmid.
    """

    def __init__(
        self,
        *,
        db: Database,
        crew: Crew,
        projection: Projection,
        options: Options,
        now: Callable[[], float],
        owner_changed: Callable[[int, int | None], None],
        agent_moved: Callable[[Cell], None],
        activity: Uses,
    ) -> None:
        self._db = db
        self._crew = crew
        self._projection = projection
        self._options = options
        self._now = now
        self._owner_changed = owner_changed
        self._agent_moved = agent_moved
        self._activity = activity
        self.consoles: dict[int, Console] = {}
        self._system: actors.System | None = None

    async def run(self, ctx: Context) -> None:
        """Starts an actor for every row, then for whatever comes, and stops those whose row is gone."""
        self._system = ctx.system
        await self._count()
        ctx.started()
        await self._start_all()
        async for move in self._crew.moves:
            match move:
                case Departure(cell):
                    await self._remove(cell)
                case Arrival(row, operation):
                    await self._arrive(row, operation)
                case Census():
                    await self._recount()

    async def _count(self) -> None:
        """Takes up every row that is not known yet."""
        for row, operation in await self._db.run(_everything):
            if row.vmid not in self._projection:
                self.add(row, operation)

    async def _recount(self) -> None:
        try:
            await self._count()
        except StoreUnavailable:
            await trio.sleep(CENSUS_SECONDS)
            self._crew.count_anew()
        else:
            await self._start_all()

    async def _start_all(self) -> None:
        for cell in self._projection.cells():
            self._start(cell)
            # Thousands of them take a while, and there are others who want to be served.
            await trio.lowlevel.checkpoint()

    async def _arrive(self, row: Container, operation: Operation | None) -> None:
        known = self._projection.get(row.vmid)
        if known is not None and known.row.created_at != row.created_at:
            # The vmid is used again, and the word of the former container's end has not come yet.
            await self._remove(known)
        self._start(self.add(row, operation))

    def add(self, row: Container, operation: Operation | None) -> Cell:
        """The container's cell and console, made where there are none yet; its actor is started later."""
        known = self._projection.get(row.vmid)
        if known is not None:
            return known
        self._owner_changed(row.vmid, row.owner_id)
        cell = self._projection.add(row, operation=operation, observed=_remembered(row))
        self.consoles[row.vmid] = Console(cell, self._options, self._now, self._activity)
        return cell

    def _start(self, cell: Cell) -> None:
        assert self._system is not None
        try:
            path = self._fleet_supervisor().start_child(self._spec(cell))
        except ChildExists:
            return
        self._crew.joined(cell.vmid, self._system.ref(f"{path}/mailbox"))
        self._crew.nudge(cell.vmid)

    def _spec(self, cell: Cell) -> ChildSpec:
        console = self.consoles[cell.vmid]
        return actors.supervisor(
            str(cell.vmid),
            [
                actors.actor("mailbox", lambda: ContainerActor(cell, self._crew)),
                actors.task("poller", lambda ctx: Poller(cell, self._options, self._now, self._agent_moved).run(ctx)),
                actors.task("console", console.run),
            ],
            strategy=actors.Strategy.REST_FOR_ONE,
        )

    def _fleet_supervisor(self) -> actors.Dynamic:
        assert self._system is not None
        return self._system.dynamic("fleet")

    async def _remove(self, cell: Cell) -> None:
        vmid = cell.vmid
        if self._projection.get(vmid) is not cell:
            return
        self._owner_changed(vmid, None)
        self._projection.remove(vmid)
        console = self.consoles.pop(vmid, None)
        if console is not None:
            console.end(GONE, "the container was removed")
        self._activity.forget(vmid)
        self._crew.parted(vmid)
        try:
            await self._fleet_supervisor().stop_child(str(vmid))
        except UnknownPath:
            return  # it was never started


def _everything(connection: sa.Connection) -> list[tuple[Container, Operation | None]]:
    """Every row with its operation in flight, for the start."""
    running = {operation.vmid: operation for operation in operations.unfinished(connection)}
    return [(row, running.get(row.vmid)) for row in containers.all_containers(connection)]


def _remembered(row: Container) -> Observed:
    """What the row still knows from before a restart: the last state, said to be stale."""
    if row.agent_last_seen is None or row.agent_state not in AgentState.__members__.values():
        return Observed()
    agent = AgentObservation(
        liveness=Liveness.UNKNOWN,
        status=Status(AgentState(row.agent_state), crash_count=row.crash_count),
        at=row.agent_last_seen.timestamp(),
        stale=True,
        reason="not asked since the control plane started",
    )
    return Observed(agent=agent)
