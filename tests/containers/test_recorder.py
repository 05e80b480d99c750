"""What was observed reaches the database in bulk, against a scripted database on virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio
from trio.testing import MockClock

from tests.containers.samples import a_row
from tests.containers.scripted import reached, supervised, virtual_now
from zlh.containers.projection import Projection
from zlh.containers.recorder import Recorder
from zlh.model.observed import AgentObservation, AgentState, Liveness, Status
from zlh.store import StoreUnavailable, containers


class Store:
    """Keeps what it is given to record; raises while it is away."""

    def __init__(self) -> None:
        self.away = False
        self.tries = 0
        self.written: list[list[containers.Recorded]] = []

    async def run(self, function: Callable[..., None], recorded: list[containers.Recorded]) -> None:
        assert function is containers.record_observations
        self.tries += 1
        await trio.lowlevel.checkpoint()
        if self.away:
            raise StoreUnavailable("the database is not reachable")
        self.written.append(sorted(recorded, key=lambda one: one.vmid))


class Office:
    def __init__(self) -> None:
        now = virtual_now()
        store: Any = Store()
        self.store: Store = store
        self.projection = Projection(now)
        self.cells = [self.projection.add(a_row(vmid)) for vmid in range(5000, 5010)]
        self.recorder = Recorder(store, self.projection, now)
        self.run = self.recorder.run
        for cell in self.cells[:5]:
            status = Status(AgentState.CRASHED, crash_count=2)
            cell.observe_agent(AgentObservation(Liveness.ONLINE, status, at=now()))


async def test_changes_are_written_soon_and_together(autojump_clock: MockClock) -> None:
    office = Office()
    async with supervised(office.run):
        for cell in office.cells[:3]:
            office.recorder.mark(cell)
            office.recorder.mark(cell)
        await trio.sleep(3)
        (written,) = office.store.written
        assert [one.vmid for one in written] == [5000, 5001, 5002]
        assert written[0].agent_state == "crashed"
        assert written[0].crash_count == 2
        assert written[0].last_crash_at == written[0].agent_last_seen is not None


async def test_last_seen_is_written_now_and_then_for_those_that_answer(autojump_clock: MockClock) -> None:
    office = Office()
    async with supervised(office.run):
        await trio.sleep(200)
        assert len(office.store.written) == 3
        assert [one.vmid for one in office.store.written[0]] == [5000, 5001, 5002, 5003, 5004]


async def test_nothing_is_lost_while_the_database_is_away(autojump_clock: MockClock) -> None:
    office = Office()
    office.store.away = True
    async with supervised(office.run) as system:
        office.recorder.mark(office.cells[0])
        # Between two of its tries, which are a second apart.
        await trio.sleep(10.5)
        assert 5 <= office.store.tries <= 12
        office.recorder.mark(office.cells[1])
        # A container that is gone meanwhile is passed over.
        office.recorder.mark(office.cells[2])
        office.projection.remove(office.cells[2].vmid)
        office.store.away = False
        await reached(lambda: bool(office.store.written))
        assert [one.vmid for one in office.store.written[0]] == [5000, 5001]
        assert system.snapshot_of("task").crashes == 0
