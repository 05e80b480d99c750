"""Writes what was observed, in bulk: state changes soon, a coarse "last seen" now and then."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime

import trio

from actors import Context
from zlh.containers.cell import Cell
from zlh.containers.projection import Projection
from zlh.model.observed import AgentState, Liveness
from zlh.store import Database, StoreUnavailable, containers

log = logging.getLogger("zlh.containers")

SOON_SECONDS = 1.0
COARSE_SECONDS = 60.0


class Recorder:
    """`mark` is called on a state change; the supervised task writes all that is marked in one transaction."""

    def __init__(self, db: Database, projection: Projection, now: Callable[[], float]) -> None:
        self._db = db
        self._projection = projection
        self._now = now
        self._marked: set[int] = set()
        self._wake = trio.Event()

    def mark(self, cell: Cell) -> None:
        self._marked.add(cell.vmid)
        self._wake.set()

    async def run(self, ctx: Context) -> None:
        ctx.started()
        last_coarse = trio.current_time()
        while True:
            with trio.move_on_after(COARSE_SECONDS):
                await self._wake.wait()
                await trio.sleep(SOON_SECONDS)
            self._wake = trio.Event()
            if trio.current_time() - last_coarse >= COARSE_SECONDS:
                last_coarse = trio.current_time()
                self._marked.update(cell.vmid for cell in self._projection.cells() if self._online(cell))
            await self._write()
            ctx.annotate(written_at=self._now())

    async def _write(self) -> None:
        marked, self._marked = self._marked, set()
        cells = [cell for vmid in marked if (cell := self._projection.get(vmid)) is not None]
        observations = [_observation(cell) for cell in cells]
        if not observations:
            return
        try:
            await self._db.run(containers.record_observations, observations)
        except StoreUnavailable as error:
            log.warning("observations wait for the database: %s", error)
            self._marked |= marked
            self._wake.set()

    def _online(self, cell: Cell) -> bool:
        return cell.observed.agent.liveness is Liveness.ONLINE


def _observation(cell: Cell) -> containers.Recorded:
    agent = cell.observed.agent
    state = agent.status.state if agent.status is not None else AgentState.UNKNOWN
    return containers.Recorded(
        vmid=cell.vmid,
        agent_state=state.value if agent.liveness is not Liveness.OFFLINE else "offline",
        agent_last_seen=None if agent.at is None else datetime.fromtimestamp(agent.at, UTC),
        crash_count=agent.status.crash_count if agent.status is not None else cell.row.crash_count,
        last_crash_at=None if cell.last_crash_at is None else datetime.fromtimestamp(cell.last_crash_at, UTC),
    )
