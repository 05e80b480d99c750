"""One question to Proxmox for all containers, against a scripted driver on virtual time."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.containers.samples import a_row
from tests.containers.scripted import HANG, reached, supervised, virtual_now
from zlh.containers.cell import Cell
from zlh.containers.projection import Projection
from zlh.containers.watcher import Watcher
from zlh.drivers.errors import Invalid, Unreachable
from zlh.drivers.proxmox import Cluster, Guest, Node
from zlh.model.containers import Power
from zlh.model.observed import Presence

NODE = Node("pve1", True, 64 << 30, 1 << 30, 16, 0.1)


def cluster(*vmids: int, running: bool | None = True, lock: str = "") -> Cluster:
    guests = (Guest(vmid, "pve1", f"test-{vmid}", "lxc", running, False, lock, (), 1 << 30, 60) for vmid in vmids)
    return Cluster((NODE,), tuple(guests))


class Driver:
    """Answers with `answer`, raises it, or hangs."""

    def __init__(self) -> None:
        self.answer: Any = cluster(5001, 5002)
        self.asked: list[float] = []

    async def resources(self) -> Cluster:
        self.asked.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if self.answer is HANG:
            await trio.sleep_forever()
        if isinstance(self.answer, Exception):
            raise self.answer
        answer: Cluster = self.answer
        return answer


class Watch:
    def __init__(self) -> None:
        now = virtual_now()
        driver: Any = Driver()
        self.driver: Driver = driver
        self.projection = Projection(now)
        self.cells = [self.projection.add(a_row(vmid)) for vmid in (5001, 5002)]
        self.moved: list[int] = []
        self.watcher = Watcher(driver, self.projection, 5.0, now, self._moved, lag=12.0)
        self.run = self.watcher.run

    def _moved(self, cell: Cell) -> None:
        self.moved.append(cell.vmid)

    def powers(self) -> set[Power]:
        return {cell.observed.host.power for cell in self.cells}


async def test_it_asks_once_for_all_and_sooner_when_told(autojump_clock: MockClock) -> None:
    watch = Watch()
    async with supervised(watch.run):
        await trio.sleep(21)
        assert len(watch.driver.asked) == 5
        assert watch.powers() == {Power.ON}
        assert watch.moved == [5001, 5002], "what stays as it is nudges nobody"
        for _ in range(3):
            watch.watcher.look()
        await trio.sleep(0.1)
        assert len(watch.driver.asked) == 6
        watch.driver.answer = cluster(5001, 5002, lock="backup")
        await trio.sleep(5)
        assert watch.moved[2:] == [5001, 5002], "a lock is news: a repair may wait for its end"


@pytest.mark.parametrize("answer", [HANG, Unreachable("refused"), Invalid("half an answer")])
async def test_no_answer_is_unknown_and_never_stopped(autojump_clock: MockClock, answer: object) -> None:
    watch = Watch()
    async with supervised(watch.run):
        await trio.sleep(1)
        watch.driver.answer = answer
        await reached(lambda: watch.watcher.error is not None)
        assert watch.powers() == {Power.UNKNOWN}
        assert watch.watcher.cluster is not None, "the last whole answer stays"
        reason = watch.cells[0].observed.host.reason
        assert "could not be asked" in reason
        await trio.sleep(120)
        assert {cell.observed.host.presence for cell in watch.cells} == {Presence.UNKNOWN}
        watch.driver.answer = cluster(5001)
        await reached(lambda: watch.watcher.error is None)
        assert watch.cells[0].observed.host.power is Power.ON
        assert watch.cells[1].observed.host.presence is Presence.UNKNOWN, "absent once is not absent"
        await trio.sleep(5)
        assert watch.cells[1].observed.host.presence is Presence.ABSENT


async def test_what_it_saw_outlives_a_crash(autojump_clock: MockClock) -> None:
    watch = Watch()
    async with supervised(watch.run) as system:
        await trio.sleep(1)
        seen = watch.watcher.cluster
        watch.driver.answer = ZeroDivisionError("a planted bug")
        watch.watcher.look()
        await reached(lambda: system.snapshot_of("task").crashes > 0)
        assert watch.watcher.cluster is seen
        assert watch.powers() == {Power.ON}
        watch.driver.answer = cluster(5001, 5002, running=False)
        await reached(lambda: watch.powers() == {Power.OFF})


async def test_what_an_operation_saw_is_known_at_once_and_outlives_older_answers(autojump_clock: MockClock) -> None:
    watch = Watch()
    async with supervised(watch.run):
        await trio.sleep(21)
        del watch.moved[:]
        stopped, other = watch.cells
        watch.watcher.looked(stopped, False)
        assert stopped.observed.host.power is Power.OFF
        assert watch.moved == [5001]
        await trio.sleep(9)
        assert len(watch.driver.asked) > 5, "the list was asked for again, and is behind"
        assert (stopped.observed.host.power, other.observed.host.power) == (Power.OFF, Power.ON)
        await trio.sleep(10)
        assert stopped.observed.host.power is Power.ON, "somebody started it by hand"
        assert watch.moved == [5001, 5001]
