from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

import actors
from tests.edge.far import FakeFleet, MemoryClaims, MemoryTarget, NoNumbers, address_entries, publication
from zlh.drivers.errors import Unreachable
from zlh.edge.book import Book
from zlh.edge.edge import Outlets
from zlh.edge.ledger import Ledger
from zlh.edge.sync import PATIENCE_SECONDS, Sync
from zlh.model.edge import Entry, Stage

AWAY = Unreachable("it does not answer")
BEAT = 300.0


@asynccontextmanager
async def edge(fleet: FakeFleet, target: MemoryTarget, claims: MemoryClaims) -> AsyncIterator[tuple[Outlets, Sync]]:
    book = Book(fleet, NoNumbers())
    sync = Sync("far", target, address_entries, book, Ledger(claims), beat_seconds=BEAT, now=trio.current_time)
    outlets = Outlets(book, [sync])
    async with actors.open_system(outlets.spec()):
        yield outlets, sync


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - what is watched tells nobody
            await trio.sleep(0.01)


def a(vmid: int, value: str | None = None) -> Entry:
    one = publication(vmid)
    return Entry(vmid, "A", one.hostname, value or str(one.address), 60)


async def test_a_published_container_is_there_and_a_gone_one_is_not(autojump_clock: trio.testing.MockClock) -> None:
    fleet, target, claims = FakeFleet(publication(5001)), MemoryTarget(), MemoryClaims()
    async with edge(fleet, target, claims) as (outlets, _):
        await until(lambda: not outlets.lags(5001))
        assert set(target.there) == {a(5001).key}
        fleet.put(publication(5001, stage=Stage.LEAVING))
        assert outlets.lags(5001), "told at once that it is not withdrawn yet"
        await until(lambda: not outlets.lags(5001))
        assert not target.there
        assert not claims.rows


async def test_a_suspended_container_is_not_to_be_found_until_it_is_not(
    autojump_clock: trio.testing.MockClock,
) -> None:
    fleet, target, claims = FakeFleet(publication(5001)), MemoryTarget(), MemoryClaims()
    async with edge(fleet, target, claims) as (outlets, _):
        await until(lambda: not outlets.lags(5001))
        fleet.put(publication(5001, stage=Stage.SUSPENDED, serving=None))
        await until(lambda: not outlets.lags(5001))
        assert not target.there
        assert not claims.rows
        fleet.put(publication(5001))
        await until(lambda: not outlets.lags(5001))
        assert set(target.there) == {a(5001).key}


async def test_a_change_looks_at_its_own_names_alone(autojump_clock: trio.testing.MockClock) -> None:
    fleet, target = FakeFleet(publication(5001)), MemoryTarget()
    async with edge(fleet, target, MemoryClaims()) as (outlets, _):
        await until(lambda: not outlets.lags(5001))
        target.looks.clear()
        fleet.put(publication(5002))
        await until(lambda: not outlets.lags(5002))
        assert target.looks == [{a(5002).name}] * 2, "once before, once to see it"


async def test_another_address_replaces_the_one_before(autojump_clock: trio.testing.MockClock) -> None:
    fleet, target, claims = FakeFleet(publication(5001)), MemoryTarget(), MemoryClaims()
    async with edge(fleet, target, claims) as (outlets, _):
        await until(lambda: not outlets.lags(5001))
        fleet.put(publication(5001, address="10.0.9.9"))
        await until(lambda: not outlets.lags(5001))
        assert set(target.there) == set(claims.rows) == {a(5001, "10.0.9.9").key}


async def test_what_others_hold_is_left_alone_and_said(autojump_clock: trio.testing.MockClock) -> None:
    fleet, target, claims = FakeFleet(publication(5001)), MemoryTarget(), MemoryClaims()
    theirs = a(5001, "192.0.2.1")
    target.put(theirs, mine=False)
    async with edge(fleet, target, claims) as (outlets, sync):
        await until(lambda: [lag for lag in outlets.lags(5001) if not lag.soon])
        assert "somebody else's" in next(iter(outlets.lags(5001))).reason
        assert set(target.there) == {theirs.key}
        assert [blocked.holder.value for blocked in sync.report().blocked] == ["192.0.2.1"]
        del target.there[theirs.key]
        await sync.reconcile()
        assert set(target.there) == {a(5001).key}
        assert not sync.report().blocked


async def test_a_dead_target_owes_and_pays_when_it_returns(autojump_clock: trio.testing.MockClock) -> None:
    fleet, target, claims = FakeFleet(publication(5001), publication(5002)), MemoryTarget(), MemoryClaims()
    async with edge(fleet, target, claims) as (outlets, sync):
        await until(lambda: not outlets.lags(5001))
        target.fail = AWAY
        fleet.drop(5001)
        fleet.put(publication(5003))
        await until(lambda: sync.report().error)
        assert [lag.soon for lag in outlets.lags(5001)] == [False]
        assert [str(entry) for entry in sync.report().owed] == [str(a(5001))]
        assert not outlets.lags(5002), "what is done does not wait"
    # A restart in between forgets nothing.
    async with edge(fleet, target, claims) as (outlets, sync):
        await until(lambda: sync.report().error)
        assert [str(entry) for entry in sync.report().owed] == [str(a(5001))]
        target.fail = None
        await until(lambda: not sync.report().owed, 120)
        assert set(target.there) == {a(5002).key, a(5003).key}


async def test_a_crash_between_claim_and_call_leaves_nothing(autojump_clock: trio.testing.MockClock) -> None:
    target, claims = MemoryTarget(marks=False), MemoryClaims()
    await claims.claim([a(5001)])
    async with edge(FakeFleet(), target, claims) as (_, sync):
        await until(lambda: sync.report().synced_at is not None)
        assert not claims.rows, "it was never made"
    await claims.claim([a(5001)])
    target.put(a(5001), mine=True)
    async with edge(FakeFleet(), target, claims) as (_, sync):
        await until(lambda: not target.there)
        await until(lambda: not claims.rows)


async def test_drift_is_repaired_on_the_beat_and_remembered(autojump_clock: trio.testing.MockClock) -> None:
    fleet, target = FakeFleet(publication(5001), publication(5002)), MemoryTarget()
    async with edge(fleet, target, MemoryClaims()) as (outlets, sync):
        await until(lambda: not outlets.lags(5001) and not outlets.lags(5002))
        target.there.clear()
        await until(lambda: len(target.there) == 2, BEAT + 10)
        repairs = sync.report().repairs
        assert {repair.change.reason for repair in repairs} == {"it is missing"}
        assert len(repairs) == 2


async def test_entries_of_what_is_being_made_are_left_alone(autojump_clock: trio.testing.MockClock) -> None:
    fleet, target = FakeFleet(publication(5001, stage=Stage.MAKING)), MemoryTarget()
    target.put(a(5001, "10.9.9.9"), mine=True)
    async with edge(fleet, target, MemoryClaims()) as (outlets, sync):
        await until(lambda: sync.report().synced_at is not None)
        assert set(target.there) == {a(5001, "10.9.9.9").key}
        fleet.put(publication(5001))
        await until(lambda: not outlets.lags(5001))
        assert set(target.there) == {a(5001).key}


async def test_an_orphan_waits_for_a_person(autojump_clock: trio.testing.MockClock) -> None:
    target = MemoryTarget()
    target.put(a(5009), mine=True)
    async with edge(FakeFleet(), target, MemoryClaims()) as (outlets, sync):
        await until(lambda: outlets.orphans())
        assert set(target.there) == {a(5009).key}
        await sync.sweep([entry for _, entry in outlets.orphans()])
        assert not target.there
        assert not outlets.orphans()


async def test_a_target_that_says_yes_and_does_nothing_is_not_believed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    target = MemoryTarget()
    target.deaf = True
    async with edge(FakeFleet(publication(5001)), target, MemoryClaims()) as (outlets, sync):
        await until(lambda: sync.report().error)
        assert "does not show them" in str(sync.report().error)
        assert [lag.soon for lag in outlets.lags(5001)] == [False]
        target.deaf = False
        await until(lambda: not outlets.lags(5001), 120)


async def test_a_refusal_of_one_does_not_hold_up_the_others(autojump_clock: trio.testing.MockClock) -> None:
    fleet, target = FakeFleet(publication(5001), publication(5002)), MemoryTarget()
    target.refuses.add(a(5001).name)
    async with edge(fleet, target, MemoryClaims()) as (outlets, _):
        await until(lambda: not outlets.lags(5002))
        await until(lambda: [lag for lag in outlets.lags(5001) if not lag.soon])
        assert next(iter(outlets.lags(5001))).reason == "the zone is read-only"


async def test_nobody_waits_for_ever_for_a_slow_target(autojump_clock: trio.testing.MockClock) -> None:
    fleet, target = FakeFleet(), MemoryTarget()
    async with edge(fleet, target, MemoryClaims()) as (outlets, sync):
        await until(lambda: sync.report().synced_at is not None)
        target.seconds = 3 * PATIENCE_SECONDS
        fleet.put(publication(5001))
        await trio.sleep(PATIENCE_SECONDS / 2)
        assert [lag.soon for lag in outlets.lags(5001)] == [True]
        await trio.sleep(PATIENCE_SECONDS)
        assert [lag.soon for lag in outlets.lags(5001)] == [False]
        await until(lambda: not outlets.lags(5001), 300)


async def test_half_applied_changes_are_finished(autojump_clock: trio.testing.MockClock) -> None:
    fleet, target, claims = FakeFleet(*(publication(5000 + n) for n in range(120))), MemoryTarget(), MemoryClaims()
    target.fail_after = 70
    async with edge(fleet, target, claims) as (_, sync):
        await until(lambda: len(target.there) == 70 and sync.report().error, 60)
        target.fail_after = None
        await until(lambda: len(target.there) == 120, 60)


async def test_a_name_that_changes_hands_is_the_new_ones(autojump_clock: trio.testing.MockClock) -> None:
    fleet, target = FakeFleet(publication(5001), publication(5002)), MemoryTarget()
    async with edge(fleet, target, MemoryClaims()) as (outlets, _):
        await until(lambda: not outlets.lags(5001) and not outlets.lags(5002))
        name = publication(5001).hostname
        fleet.drop(5001)
        fleet.put(publication(5002, hostname=name))
        await until(lambda: not outlets.lags(5001) and not outlets.lags(5002))
        (found,) = target.there.values()
        assert found.entry == replace(a(5002), name=name)


@pytest.mark.parametrize("marks", [True, False])
async def test_what_is_unknown_stays_as_it_is(autojump_clock: trio.testing.MockClock, marks: bool) -> None:
    fleet, target, claims = FakeFleet(publication(5001)), MemoryTarget(marks=marks), MemoryClaims()
    async with edge(fleet, target, claims) as (outlets, sync):
        await until(lambda: not outlets.lags(5001))
        fleet.put(publication(5001, serving=None))
        await until(lambda: not outlets.lags(5001))
        await sync.reconcile()
        assert set(target.there) == {a(5001).key}
    async with edge(fleet, target, claims) as (_, sync):
        await until(lambda: sync.report().synced_at is not None)
        assert set(target.there) == {a(5001).key}


async def test_what_stayed_unknown_is_still_ours(autojump_clock: trio.testing.MockClock) -> None:
    fleet, target, claims = FakeFleet(publication(5001)), MemoryTarget(marks=False), MemoryClaims()
    async with edge(fleet, target, claims) as (outlets, sync):
        await until(lambda: not outlets.lags(5001))
        fleet.put(publication(5001, serving=None))
        await until(lambda: not outlets.lags(5001))
        await sync.reconcile()
        fleet.drop(5001)
        await until(lambda: not target.there)


async def test_what_a_target_lost_while_it_was_away_is_there_again_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    fleet, target = FakeFleet(publication(5001)), MemoryTarget()
    async with edge(fleet, target, MemoryClaims()) as (outlets, sync):
        await until(lambda: not outlets.lags(5001))
        target.fail = AWAY
        fleet.put(publication(5002))
        await until(lambda: sync.report().error)
        target.there.clear()
        target.fail = None
        await until(lambda: len(target.there) == 2, BEAT / 2)


async def test_a_change_in_the_middle_of_a_round_counts(autojump_clock: trio.testing.MockClock) -> None:
    fleet, target = FakeFleet(), MemoryTarget()
    async with edge(fleet, target, MemoryClaims()) as (outlets, sync):
        await until(lambda: sync.report().synced_at is not None)
        target.seconds = 2.0
        for second in range(1, 9):
            fleet.put(publication(5001, hostname=f"n{second}.zlh.test"))
            await trio.sleep(0.9)
        await until(lambda: not outlets.lags(5001))
        assert {entry.name for entry in (found.entry for found in target.there.values())} == {"n8.zlh.test"}


async def test_a_claim_that_nothing_came_of_is_not_owed(autojump_clock: trio.testing.MockClock) -> None:
    target, claims = MemoryTarget(marks=False), MemoryClaims()
    await claims.claim([a(5009)])
    async with edge(FakeFleet(publication(5001)), target, claims) as (outlets, sync):
        await until(lambda: not outlets.lags(5001))
        assert set(claims.rows) == {a(5001).key}, "though the look that told was not the last one"
        assert not sync.report().owed
