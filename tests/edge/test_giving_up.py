"""Whoever asks a target for something may give up in the middle, come too early, or be refused: nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio

from tests.edge.far import FakeFleet, MemoryClaims, MemoryTarget, publication
from tests.edge.test_sync import AWAY, BEAT, a, edge, until
from zlh.drivers.errors import Unreachable
from zlh.edge.ledger import Ledger
from zlh.edge.sync import PATIENCE_SECONDS
from zlh.edge.wishes import Wishes
from zlh.model.edge import Entry
from zlh.store import StoreUnavailable

VMIDS = range(5001, 5201)
SOON = 20.0
"""Far less than the beat."""

REST_SECONDS = 1.0
"""After the start, until the task waits for the beat."""


@pytest.mark.parametrize("after", [0.5, 1.5, 2.5, 4.5, 5.5])
async def test_a_reconciliation_that_is_given_up_is_completed_at_once(
    after: float, autojump_clock: trio.testing.MockClock
) -> None:
    """Each look and each of the four batches takes a second: somebody gives up in the look, or after some batches."""
    fleet, target, claims = FakeFleet(*map(publication, VMIDS)), MemoryTarget(), MemoryClaims()
    async with edge(fleet, target, claims) as (outlets, sync):
        await until(lambda: not any(outlets.lags(vmid) for vmid in VMIDS))
        await trio.sleep(REST_SECONDS)
        target.there.clear()
        target.seconds = 1.0
        with trio.move_on_after(after) as scope:
            await sync.reconcile()
        assert scope.cancelled_caught
        await until(lambda: len(target.there) == len(VMIDS), SOON)
        await until(lambda: not any(outlets.lags(vmid) for vmid in VMIDS), SOON)
        assert claims.rows.keys() == target.there.keys()


async def test_a_reconciliation_that_fails_is_shown_and_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    fleet, target = FakeFleet(publication(5001)), MemoryTarget()
    async with edge(fleet, target, MemoryClaims()) as (outlets, sync):
        await until(lambda: not outlets.lags(5001))
        await trio.sleep(REST_SECONDS)
        target.there.clear()
        target.fail = AWAY
        with pytest.raises(Unreachable):
            await sync.reconcile()
        await until(lambda: sync.report().error, SOON)
        target.fail = None
        await until(lambda: target.there, SOON)


async def test_a_sweep_that_is_given_up_is_completed(autojump_clock: trio.testing.MockClock) -> None:
    fleet, target = FakeFleet(publication(5001)), MemoryTarget()
    target.put(a(4000), mine=True)
    async with edge(fleet, target, MemoryClaims()) as (_, sync):
        await until(lambda: sync.report().orphans)
        await trio.sleep(REST_SECONDS)
        target.seconds = 1.0
        with trio.move_on_after(1.5):
            await sync.sweep(sync.report().orphans)
        assert a(4000).key in target.there
        await until(lambda: a(4000).key not in target.there, SOON)
        await until(lambda: not sync.report().orphans, SOON)


async def test_what_is_ours_is_known_before_anything_is_compared(autojump_clock: trio.testing.MockClock) -> None:
    """Somebody asks while the database has just been away: our own entry, which bears no mark, is no stranger's."""

    class Claims(MemoryClaims):
        away = True

        async def load(self) -> list[Entry]:
            if self.away:
                raise StoreUnavailable("it is being restarted")
            return await super().load()

    fleet, target, claims = FakeFleet(publication(5001)), MemoryTarget(marks=False), Claims()
    target.put(a(5001), mine=True)
    claims.rows[a(5001).key] = a(5001)
    async with edge(fleet, target, claims) as (outlets, sync):
        await until(lambda: sync.report().error)
        claims.away = False
        assert await sync.preview() == await sync.reconcile()
        fleet.drop(5001)
        await until(lambda: not outlets.lags(5001), SOON)
        assert not target.there
        assert not claims.rows


async def test_a_claim_whose_outcome_is_unknown_is_not_forgotten(autojump_clock: trio.testing.MockClock) -> None:
    """The database took it, but its answer was lost; and before the next attempt the container is gone."""

    class Claims(MemoryClaims):
        away = False

        async def claim(self, entries: Sequence[Entry]) -> None:
            await super().claim(entries)
            if self.away:
                raise StoreUnavailable("the connection was lost")

    fleet, target, claims = FakeFleet(publication(5001)), MemoryTarget(), Claims()
    async with edge(fleet, target, claims) as (outlets, sync):
        await until(lambda: not outlets.lags(5001))
        claims.away = True
        fleet.put(publication(5002))
        await until(lambda: sync.report().error)
        assert a(5002).key in claims.rows
        fleet.drop(5002)
        claims.away = False
        await until(lambda: not sync.report().error, SOON)
        assert claims.rows.keys() == target.there.keys() == {a(5001).key}


async def test_a_refusal_lasts_until_something_else_is_wanted_or_all_is_compared(
    autojump_clock: trio.testing.MockClock,
) -> None:
    fleet, target = FakeFleet(publication(5001)), MemoryTarget()
    target.refuses = {a(5001).name}
    async with edge(fleet, target, MemoryClaims()) as (outlets, sync):
        await until(lambda: sync.report().refused)
        fleet.put(publication(5002))
        await until(lambda: not outlets.lags(5002))
        assert [lag.soon for lag in outlets.lags(5001)] == [False], "another's change is no reason to believe it made"
        assert sync.report().refused
        target.refuses = set()
        fleet.put(publication(5001, address="10.0.9.9"))
        await until(lambda: not outlets.lags(5001), SOON)
        assert not sync.report().refused
        target.refuses = {a(5002).name}
        target.there.pop(a(5002).key)
        await sync.reconcile()
        assert [lag.soon for lag in outlets.lags(5002)] == [False]
        target.refuses = set()
        await until(lambda: not outlets.lags(5002), BEAT + SOON)


async def test_what_is_left_as_it_is_is_not_owed(autojump_clock: trio.testing.MockClock) -> None:
    fleet, target = FakeFleet(publication(5001)), MemoryTarget()
    async with edge(fleet, target, MemoryClaims()) as (outlets, sync):
        await until(lambda: not outlets.lags(5001))
        fleet.put(publication(5001, serving=None))
        await until(lambda: not outlets.lags(5001))
        assert not sync.report().owed
        assert set(target.there) == {a(5001).key}


async def test_a_target_that_hangs_from_the_start_is_soon_waited_for_no_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Also where nothing of the container is known to be there."""
    target = MemoryTarget()
    target.seconds = 10_000.0
    async with edge(FakeFleet(), target, MemoryClaims()) as (outlets, _):
        await until(lambda: outlets.lags(5001))
        assert [lag.soon for lag in outlets.lags(5001)] == [True]
        await trio.sleep(PATIENCE_SECONDS + 1)
        assert [lag.soon for lag in outlets.lags(5001)] == [False]


async def test_repairs_before_a_failure_are_remembered(autojump_clock: trio.testing.MockClock) -> None:
    vmids = range(5001, 5061)
    fleet, target = FakeFleet(*map(publication, vmids)), MemoryTarget()
    async with edge(fleet, target, MemoryClaims()) as (outlets, sync):
        await until(lambda: not any(outlets.lags(vmid) for vmid in vmids))
        target.there.clear()
        target.refuses = {a(5001).name}
        target.fail_after = target.batch
        with pytest.raises(Unreachable):
            await sync.reconcile()
        target.fail_after = None
        await until(lambda: len(target.there) == len(vmids) - 1, SOON)
        assert sorted(repair.change.entry.vmid for repair in sync.report().repairs) == list(vmids)[1:]


async def test_a_wish_is_there_as_long_as_anybody_has_it() -> None:
    wishes = Wishes()
    shared = [Entry(vmid, "A", "same.zlh.test", "10.0.0.1", 60) for vmid in (5001, 5002)]
    for one in shared:
        wishes.put(one.vmid, [one])
    wishes.put(5001, [])
    assert list(wishes.keys) == [shared[1].key]
    wishes.put(5002, [a(5002)])
    assert list(wishes.keys) == [a(5002).key]


async def test_claims_are_found_by_name() -> None:
    ledger = Ledger(MemoryClaims())
    first, second = a(5001), Entry(5001, "SRV", a(5001).name, "0 0 7777 x", 60)
    await ledger.claim([first, second, a(5002)])
    assert _sorted(ledger.at([first.name, "nobody.zlh.test"])) == _sorted([first, second])
    await ledger.release([first.key])
    assert ledger.at([first.name]) == [second]
    await ledger.claim([Entry(5003, *second.key)])
    assert [entry.vmid for entry in ledger.at([first.name])] == [5003]
    await ledger.release([second.key])
    assert ledger.at([first.name]) == []


def _sorted(entries: Sequence[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.key)
