"""The loop: what is due is carried out, each by itself, through outages, jumps of the clock and deaths."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.schedules.fakes import NOW, PLAN, VMID, FakeFleet, FakeLedger, a_run, now
from tests.schedules.test_work import Desk
from zlh.model.schedules import Action, Outcome
from zlh.schedules import Scheduler
from zlh.schedules.backups import AT_ONCE as BACKUPS_AT_ONCE
from zlh.schedules.scheduler import AT_ONCE, BEAT_SECONDS, LAST_WORDS_SECONDS, LEASE
from zlh.store.schedule_runs import Ending, Taken

DONE = Ending(Outcome.SUCCEEDED)
MINUTE = timedelta(minutes=1)


class FakeWork:
    """Records when it began what; `does` is done for each, and says how it ended."""

    def __init__(self, does: Callable[[Taken], Awaitable[Ending | None]] | None = None) -> None:
        self.begun: list[tuple[int, float]] = []
        self._does = does
        self.under_way = self.most_at_once = 0

    async def carry_out(self, taken: Taken) -> Ending:
        self.begun.append((taken.run.id, trio.current_time()))
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            return (self._does and await self._does(taken)) or DONE
        finally:
            self.under_way -= 1


class Place:
    def __init__(self, ledger: FakeLedger, nursery: trio.Nursery) -> None:
        self._ledger = ledger
        self._nursery = nursery
        self.shown: dict[str, Any] = {}
        self.running = 0

    def start(self, work: Any, clock: Any = now) -> trio.CancelScope:
        scheduler = Scheduler(self._ledger, work, now=clock)
        scope = trio.CancelScope()

        async def run() -> None:
            self.running += 1
            with scope:
                await scheduler.run(lambda **values: self.shown.update(values))
            self.running -= 1

        self._nursery.start_soon(run)
        return scope


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger()


@pytest.fixture
async def place(ledger: FakeLedger, nursery: trio.Nursery) -> Place:
    return Place(ledger, nursery)


def sleeping(seconds: float) -> Callable[[Taken], Awaitable[None]]:
    async def sleep(taken: Taken) -> None:
        await trio.sleep(seconds)

    return sleep


async def test_each_is_begun_when_it_is_due(ledger: FakeLedger, place: Place, autojump_clock: MockClock) -> None:
    ledger.due = [(NOW + minutes * MINUTE, a_run(number=minutes)) for minutes in (7, 1, 3)]
    work = FakeWork()
    place.start(work)
    await trio.sleep(600)
    assert [number for number, _ in work.begun] == [1, 3, 7]
    assert all(number * 60 <= at < number * 60 + 2 for number, at in work.begun)
    assert ledger.endings == {1: DONE, 3: DONE, 7: DONE}
    # One timer: an idle hour costs two questions a minute, however many schedules there are.
    assert len(ledger.looks) < 600 / BEAT_SECONDS + 15
    assert place.shown == {"running": 0, "due": 0, "next": None, "done": 3, "waits_for": None}


async def test_operators_see_what_is_next(ledger: FakeLedger, place: Place, autojump_clock: MockClock) -> None:
    ledger.due = [(NOW, a_run(number=1)), (NOW + 9 * MINUTE, a_run(number=2))]
    place.start(FakeWork(sleeping(120)))
    await trio.sleep(1)
    assert place.shown["running"] == place.shown["due"] == 1
    assert place.shown["next"] == "2026-06-01T04:09:00+00:00"


async def test_news_are_looked_at_at_once(ledger: FakeLedger, place: Place, autojump_clock: MockClock) -> None:
    work = FakeWork()
    place.start(work)
    await trio.sleep(5)
    ledger.due = [(NOW, a_run())]
    ledger.nudge()
    await trio.sleep(0.1)
    assert work.begun == [(1, 5)]


async def test_many_due_at_once_are_spread(ledger: FakeLedger, place: Place, autojump_clock: MockClock) -> None:
    ledger.due = [(NOW, a_run(number=number)) for number in range(2 * AT_ONCE + 10)]
    work = FakeWork(sleeping(10))
    place.start(work)
    await trio.sleep(100)
    assert len(ledger.endings) == 2 * AT_ONCE + 10
    assert work.most_at_once == AT_ONCE
    assert max(at for _, at in work.begun) < 25


async def test_slow_backups_are_few_at_once_and_delay_nothing_but_backups(
    ledger: FakeLedger, place: Place, autojump_clock: MockClock
) -> None:
    fleet = FakeFleet(plan=replace(PLAN, backups=1000))
    fleet.backups.seconds = 500
    backups = [a_run(Action.BACKUP, number, VMID + number) for number in range(BACKUPS_AT_ONCE + 10)]
    ledger.due = [(NOW, taken) for taken in backups]
    ledger.due += [(NOW + MINUTE, a_run(number=1000))]
    place.start(Desk(fleet, ledger).worker)
    await trio.sleep(62)
    assert ledger.endings == {1000: DONE}
    assert fleet.did().count("create") == BACKUPS_AT_ONCE
    await trio.sleep(1100)
    assert {ending.outcome for ending in ledger.endings.values()} == {Outcome.SUCCEEDED}
    assert len(ledger.endings) == BACKUPS_AT_ONCE + 11


async def test_one_agent_that_hangs_delays_nobody_else(
    ledger: FakeLedger, place: Place, autojump_clock: MockClock
) -> None:
    fleet = FakeFleet()

    async def restart() -> None:
        if fleet.calls[-1] == ("restart", 13):
            await trio.sleep_forever()

    fleet.answers = {"restart": restart}
    ledger.due = [(NOW, a_run(number=number, vmid=number)) for number in range(200)]
    place.start(Desk(fleet, ledger).worker)
    await trio.sleep(1)
    assert ledger.endings.keys() == set(range(200)) - {13}


async def test_a_bug_ends_its_own_run_only(
    ledger: FakeLedger, place: Place, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def stumble(taken: Taken) -> None:
        if taken.run.id == 1:
            raise LookupError("a bug")

    ledger.due = [(NOW, a_run(number=number)) for number in range(3)]
    place.start(FakeWork(stumble))
    await trio.sleep(1)
    assert ledger.endings == {0: DONE, 1: Ending(Outcome.FAILED, "it met a bug; it was recorded"), 2: DONE}
    assert "met a bug" in caplog.text


async def test_the_log_says_how_a_run_ended_and_why(
    ledger: FakeLedger, place: Place, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def refuse(taken: Taken) -> Ending:
        return Ending(Outcome.REFUSED, "the plan has no room")

    ledger.due = [(NOW, a_run(Action.BACKUP, number=7, vmid=5007))]
    place.start(FakeWork(refuse))
    await trio.sleep(1)
    assert "container 5007: backup by schedule s7: refused: the plan has no room" in caplog.text


async def test_without_a_database_it_waits_and_catches_up(
    ledger: FakeLedger, place: Place, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.away = True
    ledger.due = [(NOW + MINUTE, a_run())]
    work = FakeWork()
    place.start(work)
    await trio.sleep(3600)
    assert work.begun == []
    assert place.shown["waits_for"] == "the database is not reachable"
    ledger.away = False
    await trio.sleep(10)
    assert ledger.endings == {1: DONE}
    assert place.shown["waits_for"] is None


async def test_a_long_run_keeps_its_claim(ledger: FakeLedger, place: Place, autojump_clock: MockClock) -> None:
    ledger.due = [(NOW, a_run(Action.BACKUP))]
    place.start(FakeWork(sleeping(7000)))
    for _ in range(60):
        await trio.sleep(100)
        assert now() < ledger.claims[1].until <= now() + LEASE
    await trio.sleep(1100)
    assert ledger.endings == {1: DONE}


async def test_who_has_lost_the_claim_stops(ledger: FakeLedger, place: Place, autojump_clock: MockClock) -> None:
    """Also where the schedule was deleted, with its container or by itself."""
    ledger.due = [(NOW, a_run(number=number)) for number in (1, 2)]
    work = FakeWork(sleeping(600))
    place.start(work)
    await trio.sleep(1)
    del ledger.claims[1]
    await trio.sleep(30)
    assert work.under_way == 1
    await trio.sleep(600)
    assert ledger.endings == {2: DONE}


async def test_the_clock_jumps(ledger: FakeLedger, place: Place, autojump_clock: MockClock) -> None:
    """A machine that slept, or whose clock was set: noticed within a beat, and nothing runs twice."""
    jump = timedelta()
    ledger.due = [(NOW + 300 * MINUTE, a_run())]
    work = FakeWork()
    place.start(work, clock=lambda: now() + jump)
    await trio.sleep(60)
    jump = timedelta(hours=5)
    await trio.sleep(BEAT_SECONDS + 1)
    assert len(work.begun) == 1
    jump = timedelta(hours=-5)
    await trio.sleep(3600 * 12)
    assert len(work.begun) == 1


async def test_at_the_end_what_can_be_begun_anew_is_given_back(
    ledger: FakeLedger, place: Place, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    ledger.due = [(NOW, a_run(action, number)) for number, action in enumerate(Action)]
    scope = place.start(FakeWork(sleeping(600)))
    await trio.sleep(1)
    scope.cancel()
    await trio.sleep(1)
    actions = list(Action)
    assert {actions[number] for number in ledger.given_back} == {Action.BACKUP, Action.START, Action.STOP}
    assert {actions[number]: ending.outcome for number, ending in ledger.endings.items()} == {
        Action.RESTART: Outcome.LOST,
        Action.COMMAND: Outcome.LOST,
    }


async def test_the_end_does_not_wait_for_a_database_that_is_away(
    ledger: FakeLedger, place: Place, autojump_clock: MockClock
) -> None:
    ledger.due = [(NOW, a_run(Action.BACKUP, 1)), (NOW, a_run(Action.RESTART, 2))]
    scope = place.start(FakeWork(sleeping(600)))
    await trio.sleep(1)
    ledger.away = True
    scope.cancel()
    await trio.sleep(LAST_WORDS_SECONDS + 1)
    assert place.running == 0


async def test_a_restarted_one_has_another_name(ledger: FakeLedger, place: Place, autojump_clock: MockClock) -> None:
    """What the former one had claimed is nobody's, and must look so."""
    owners = []
    for number in (1, 2):
        ledger.due = [(NOW, a_run(Action.BACKUP, number))]
        scope = place.start(FakeWork(sleeping(600)))
        await trio.sleep(1)
        owners.append(ledger.claims[number].owner)
        scope.cancel()
        await trio.sleep(1)
    assert owners[0] != owners[1]
