from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

import actors
from tests.edge.far import FakeFleet, NoNumbers, address_entries, publication
from tests.edge.test_sync import until
from zlh.edge.asked import PATIENCE_POLLS, Asked
from zlh.edge.book import Book
from zlh.edge.edge import Outlets
from zlh.model.edge import Stage

POLL = 5.0
SETTLE = 2.5


@asynccontextmanager
async def edge(fleet: FakeFleet) -> AsyncIterator[tuple[Outlets, Asked]]:
    book = Book(fleet, NoNumbers())
    asked = Asked(
        "traefik",
        book,
        lambda one: (address_entries(one) or ()) if one.stage is Stage.PUBLISHED else (),
        lambda entries: sorted(entry.name for entry in entries),
        poll_seconds=POLL,
        settle_seconds=SETTLE,
        now=trio.current_time,
    )
    assert asked.document() is None, "nobody knows yet what there is"
    outlets = Outlets(book, [asked])
    async with actors.open_system(outlets.spec()):
        await until(book.loaded.is_set)
        yield outlets, asked


def read(asked: Asked) -> list[str]:
    document = asked.document()
    assert document is not None
    asked.fetched()
    names: list[str] = json.loads(document.body)
    return names


async def test_what_was_fetched_counts_a_moment_later(autojump_clock: trio.testing.MockClock) -> None:
    fleet = FakeFleet(publication(5001))
    async with edge(fleet) as (outlets, asked):
        assert [lag.soon for lag in outlets.lags(5001)] == [True]
        assert read(asked) == ["ct-5001.zlh.test"]
        await until(lambda: not outlets.lags(5001))
        fleet.drop(5001)
        await until(lambda: [lag for lag in outlets.lags(5001) if lag.target == "traefik"])
        assert read(asked) == []
        await until(lambda: not outlets.lags(5001))


async def test_the_tag_tells_whether_anything_changed(autojump_clock: trio.testing.MockClock) -> None:
    fleet = FakeFleet(publication(5001))
    async with edge(fleet) as (_, asked):
        first = asked.document()
        fleet.put(publication(5001, variant="another"))
        await trio.sleep(1)
        assert asked.document() == first
        fleet.put(publication(5002))
        await trio.sleep(1)
        assert asked.document() != first


async def test_who_does_not_ask_is_away_and_is_owed(autojump_clock: trio.testing.MockClock) -> None:
    fleet = FakeFleet(publication(5001))
    async with edge(fleet) as (outlets, asked):
        read(asked)
        await until(lambda: not outlets.lags(5001))
        told: list[int] = []
        asked.progress.append(told.append)
        fleet.drop(5001)
        await trio.sleep((PATIENCE_POLLS + 2) * POLL)
        assert [(lag.soon, lag.reason[:16]) for lag in outlets.lags(5001)] == [(False, "it has not asked")]
        assert told
        assert asked.report().reachable is False
        assert [entry.name for entry in asked.report().owed] == ["ct-5001.zlh.test"]
        assert [change.entry.name for change in (await asked.preview()).changes] == ["ct-5001.zlh.test"]
        read(asked)
        await until(lambda: not outlets.lags(5001))
        assert asked.report().reachable


async def test_a_change_after_the_fetch_waits_for_the_next(autojump_clock: trio.testing.MockClock) -> None:
    fleet = FakeFleet(publication(5001))
    async with edge(fleet) as (outlets, asked):
        read(asked)
        fleet.put(publication(5001, address="10.0.9.9"))
        await trio.sleep(2)
        assert outlets.lags(5001)
        read(asked)
        await until(lambda: not outlets.lags(5001))


async def test_what_it_had_before_our_start_is_not_withdrawn_before_it_asked(
    autojump_clock: trio.testing.MockClock,
) -> None:
    fleet = FakeFleet(publication(5001, stage=Stage.LEAVING), publication(5002, address=None))
    async with edge(fleet) as (outlets, asked):
        assert [lag.soon for lag in outlets.lags(5001)] == [True]
        assert not outlets.lags(5002), "what is to have nothing there waits for nobody"
        told: list[int] = []
        asked.progress.append(told.append)
        assert read(asked) == []
        await until(lambda: not outlets.lags(5001))
        assert told == [5001]


async def test_who_never_asks_is_not_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    fleet = FakeFleet(publication(5001, stage=Stage.LEAVING))
    async with edge(fleet) as (outlets, asked):
        await trio.sleep((PATIENCE_POLLS + 2) * POLL)
        assert [(lag.soon, lag.reason) for lag in outlets.lags(5001)] == [(False, "it never asked")]
        assert asked.report().reachable is False


async def test_each_fetch_has_its_own_time_to_settle(autojump_clock: trio.testing.MockClock) -> None:
    """Withdrawn and fetched while what was fetched before settles: what counts is the second fetch."""
    fleet = FakeFleet(publication(5001))
    async with edge(fleet) as (outlets, asked):
        read(asked)
        await until(lambda: not outlets.lags(5001))
        fleet.put(publication(5001, address="10.0.9.9"))
        await trio.sleep(0.1)
        read(asked)
        await trio.sleep(SETTLE - 0.2)
        fleet.put(publication(5001, stage=Stage.LEAVING))
        await trio.sleep(0.1)
        assert read(asked) == []
        await trio.sleep(SETTLE - 0.1)
        assert outlets.lags(5001)
        await until(lambda: not outlets.lags(5001))
