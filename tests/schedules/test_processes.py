"""Schedulers over a real database: they hear of changes, share the work, and survive each other's deaths."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
import trio

from tests.store.samples import PLAN, VAULT, add_account, reserve
from zlh.model.backups import Retention
from zlh.model.schedules import Action, Outcome, Run, Schedule, Wish
from zlh.schedules import Scheduler, StoreLedger
from zlh.schedules.scheduler import LEASE
from zlh.store import Database, schedule_runs, schedules
from zlh.store.schedule_runs import Ending, Taken

PATIENT = 25.0
WISH = Wish(name="nightly", action=Action.BACKUP, cron="0 4 * * *", retention=Retention(last=3))


class Work:
    """Says it is done, after `seconds`."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.done: list[int] = []
        self._seconds = seconds

    async def carry_out(self, taken: Taken) -> Ending:
        await trio.sleep(self._seconds)
        self.done.append(taken.run.id)
        return Ending(Outcome.SUCCEEDED)


@dataclass
class Shop:
    database: Database
    vmid: int
    owner_id: int
    clock: datetime

    def now(self) -> datetime:
        return self.clock

    async def add(self, *wishes: Wish) -> list[Schedule]:
        def write(connection: sa.Connection) -> list[Schedule]:
            roomy = replace(PLAN, schedules=1000)
            return [
                schedules.create(connection, self.vmid, wish, author_id=self.owner_id, plan=roomy, now=self.clock)
                for wish in wishes
            ]

        return await self.database.run(write)

    async def runs(self, schedule: Schedule) -> list[Run]:
        return await self.database.run(schedule_runs.of_schedule, schedule.id)

    def scheduler(self, work: Work, database: Database | None = None) -> Scheduler:
        return Scheduler(StoreLedger(database or self.database), work, now=self.now)


@pytest.fixture
async def shop(postgres_url: str) -> AsyncIterator[Shop]:
    database = Database(postgres_url, 4, vault=VAULT)

    def begin(connection: sa.Connection) -> tuple[int, int]:
        account = add_account(connection)
        return reserve(connection, account.id)[0].vmid, account.id

    yield Shop(database, *await database.run(begin), datetime.now(UTC))
    await database.aclose()


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(PATIENT):
        while not await true():  # noqa: ASYNC110 - a table tells nobody
            await trio.sleep(0.02)


def shown(**values: object) -> None:
    pass


async def test_what_is_asked_for_by_hand_is_heard_of(shop: Shop, nursery: trio.Nursery) -> None:
    (schedule,) = await shop.add(WISH)
    work = Work()
    nursery.start_soon(shop.scheduler(work).run, shown)
    for count in (1, 2):
        run = await shop.database.run(schedule_runs.enqueue, shop.vmid, schedule.id, shop.clock)

        async def ended(run_id: int = run.id) -> bool:
            return any(found.id == run_id and found.outcome for found in await shop.runs(schedule))

        await until(ended)
        assert len(work.done) == count
    nursery.cancel_scope.cancel()


async def test_several_processes_carry_each_out_once(shop: Shop) -> None:
    made = await shop.add(*(replace(WISH, name=f"number {number}") for number in range(40)))
    shop.clock += timedelta(days=1, hours=1)
    works = [Work(0.05) for _ in range(3)]
    others = [Database(shop.database.url, 2, vault=VAULT) for _ in works]

    async def all_ended() -> bool:
        return all([any(run.outcome for run in await shop.runs(schedule)) for schedule in made])

    try:
        async with trio.open_nursery() as nursery:
            for work, database in zip(works, others, strict=True):
                nursery.start_soon(shop.scheduler(work, database).run, shown)
            await until(all_ended)
            nursery.cancel_scope.cancel()
    finally:
        for database in others:
            await database.aclose()
    done = Counter(run_id for work in works for run_id in work.done)
    assert len(done) == 40
    assert set(done.values()) == {1}


async def test_a_deleted_schedule_ends_what_is_under_way(
    shop: Shop, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zlh.schedules.scheduler.RENEW_SECONDS", 0.05)
    (schedule,) = await shop.add(WISH)
    await shop.database.run(schedule_runs.enqueue, shop.vmid, schedule.id, shop.clock)
    figures: dict[str, object] = {}
    nursery.start_soon(shop.scheduler(Work(1000)).run, lambda **values: figures.update(values))

    async def begun() -> bool:
        return figures.get("running") == 1

    async def over() -> bool:
        return figures.get("running") == 0

    await until(begun)
    await shop.database.run(schedules.delete, shop.vmid, schedule.id)
    await until(over)
    nursery.cancel_scope.cancel()


CHILD = """
import sys, trio
from zlh.schedules import Scheduler, StoreLedger
from zlh.store import Database

class Hanging:
    async def carry_out(self, taken):
        print("begun", flush=True)
        await trio.sleep_forever()

async def main(url):
    await Scheduler(StoreLedger(Database(url, 2)), Hanging()).run(lambda **shown: None)

trio.run(main, sys.argv[1])
"""


async def test_a_kill_leaves_nothing_under_way(shop: Shop) -> None:
    backup, restart = await shop.add(WISH, replace(WISH, name="restart", action=Action.RESTART))
    for schedule in (backup, restart):
        await shop.database.run(schedule_runs.enqueue, shop.vmid, schedule.id, shop.clock)
    child = subprocess.Popen(  # noqa: ASYNC220 - it is killed, not waited for
        [sys.executable, "-c", CHILD, shop.database.url], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    try:
        with trio.fail_after(PATIENT):
            for _ in range(2):
                assert await trio.to_thread.run_sync(child.stdout.readline, abandon_on_cancel=True) == b"begun\n"
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    work = Work()
    # While its claim holds nobody takes it; then it is lost, and tried again where that can do no harm.
    shop.clock = datetime.now(UTC) + LEASE + timedelta(seconds=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shop.scheduler(work).run, shown)

        async def settled() -> bool:
            found = [*await shop.runs(backup), *await shop.runs(restart)]
            return len(found) == 3 and all(run.outcome for run in found)

        await until(settled)
        nursery.cancel_scope.cancel()
    again, lost = await shop.runs(backup)
    assert (again.outcome, again.attempt, lost.outcome) == (Outcome.SUCCEEDED, 2, Outcome.LOST)
    (only,) = await shop.runs(restart)
    assert only.outcome is Outcome.LOST
    assert work.done == [again.id]
