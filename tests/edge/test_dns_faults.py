"""Name servers that fail in every way, told by the real drivers: in the end each has what is wanted, strangers have
what they had, and nothing is owed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

import actors
from tests.drivers.dns_contract import ZONE, Row
from tests.drivers.dns_far import Far, cloudflare_far, technitium_far
from tests.edge.far import FakeFleet, MemoryClaims, NoNumbers, publication
from zlh.edge import sync as sync_module
from zlh.edge.book import Book
from zlh.edge.dns import View, dns_entries
from zlh.edge.edge import Outlets
from zlh.edge.ledger import Ledger
from zlh.edge.sync import Sync
from zlh.model.edge import Change, Publication, Stage, Verb
from zlh.settings import load_games
from zlh.simulators.far import FaultName

SECONDS = 30.0
GAMES = load_games(Path(__file__).parents[2] / "config" / "games.toml")
VIEW = View(
    zone=ZONE,
    games=("10.0.0.80", "fd00::80"),
    minecraft=(),
    ides=(),
    ide_zone="",
    velocity_port=None,
    facts=GAMES,
)
ELSEWHERE = View(zone=ZONE, games=("10.0.0.81",), minecraft=(), ides=(), ide_zone="", velocity_port=None, facts=GAMES)
FOREIGN = {
    ("A", f"mail.{ZONE}", "192.0.2.1", 300),
    ("A", f"ct-5009.{ZONE}", "192.0.2.9", 300),
    ("CNAME", f"ct-5008.{ZONE}", f"mail.{ZONE}", 300),
    ("SRV", f"_sip._tcp.{ZONE}", f"0 5 5060 mail.{ZONE}", 300),
    ("TXT", f"ct-5001.{ZONE}", "somebody's words", 300),
}


@pytest.fixture(params=["technitium", "cloudflare"])
async def far(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Far]:
    monkeypatch.setattr(sync_module, "BACKOFF_SECONDS", 0.02)
    monkeypatch.setattr(sync_module, "BACKOFF_CAP_SECONDS", 0.2)
    opened = technitium_far() if request.param == "technitium" else cloudflare_far()
    async with opened as far:
        for kind, name, value, ttl in FOREIGN:
            far.server.put(kind, name, value, ttl)
        yield far


@asynccontextmanager
async def edge(fleet: FakeFleet, far: Far, claims: MemoryClaims) -> AsyncIterator[tuple[Outlets, Sync]]:
    book = Book(fleet, NoNumbers())
    driver = far.driver()
    sync = Sync("far", driver, partial(dns_entries, view=VIEW), book, Ledger(claims), beat_seconds=300)
    outlets = Outlets(book, [sync])
    try:
        async with actors.open_system(outlets.spec()):
            yield outlets, sync
    finally:
        with trio.CancelScope(shield=True):
            await driver.aclose()


async def until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - what is watched tells nobody
            await trio.sleep(0.01)


def wanted(publications: Iterable[Publication]) -> set[Row]:
    entries = [entry for one in publications for entry in dns_entries(one, VIEW)]
    return {(entry.kind, entry.name, entry.value, entry.ttl) for entry in entries}


def ours(far: Far) -> set[Row]:
    return far.server.rows() - FOREIGN


def settled(outlets: Outlets, sync: Sync, vmids: Iterable[int]) -> bool:
    report = sync.report()
    return not report.error and not report.owed and not any(outlets.lags(vmid) for vmid in vmids)


# With what makes it mean something for a handful of changes.
FAULTS: list[tuple[FaultName, dict[str, float]]] = [
    (FaultName.DOWN, {}),
    (FaultName.SLOW, {"seconds": 0.2}),
    (FaultName.REFUSING, {}),
    (FaultName.BROKEN, {}),
    (FaultName.HALF, {"count": 3}),
    (FaultName.LOST_ANSWER, {"times": 2}),
    (FaultName.TOO_MANY, {"seconds": 0, "times": 3}),
    (FaultName.GARBAGE, {}),
    (FaultName.STRANGERS, {}),
]


@pytest.mark.parametrize(("name", "parameters"), FAULTS, ids=[name.value for name, _ in FAULTS])
async def test_after_each_fault_all_is_as_wanted(far: Far, name: FaultName, parameters: dict[str, float]) -> None:
    fleet, claims = FakeFleet(*(publication(5000 + n) for n in range(1, 5))), MemoryClaims()
    async with edge(fleet, far, claims) as (outlets, sync):
        await until(lambda: settled(outlets, sync, fleet.rows))
        assert ours(far) == wanted(fleet.publications())
        far.server.cause(name, **parameters)
        before = far.server.calls.total()
        fleet.drop(5001)
        fleet.put(publication(5002, stage=Stage.LEAVING))
        fleet.put(publication(5003, ports=(7778,)))
        for n in range(11, 16):
            fleet.put(publication(5000 + n))
        if name in (FaultName.SLOW, FaultName.TOO_MANY):
            await until(lambda: far.server.calls.total() > before)
        else:
            await until(lambda: sync.report().error)
            assert not outlets.lags(5004), "what is done waits for nobody"
        assert far.server.rows() >= FOREIGN
        far.server.calm()
        await until(lambda: settled(outlets, sync, [5001, *fleet.rows]))
        stay = [one for one in fleet.publications() if one.stage is Stage.PUBLISHED]
        assert ours(far) == wanted(stay)
        assert far.server.rows() >= FOREIGN
        assert {entry.key for entry in claims.rows.values()} == {
            (kind, at, value) for kind, at, value, _ in wanted(stay)
        }


async def test_a_server_that_loses_everything_gets_it_back(far: Far) -> None:
    fleet, claims = FakeFleet(*(publication(5000 + n) for n in range(1, 5))), MemoryClaims()
    async with edge(fleet, far, claims) as (outlets, sync):
        await until(lambda: settled(outlets, sync, fleet.rows))
        far.server.lose()
        difference = await sync.reconcile()
        assert {change.reason for change in difference.changes} == {"it is missing"}
        assert far.server.rows() == wanted(fleet.publications())
        assert {repair.change.entry.vmid for repair in sync.report().repairs} == set(fleet.rows)


async def test_names_that_strangers_hold_are_theirs_until_they_let_go(far: Far) -> None:
    fleet, claims = FakeFleet(publication(5001), publication(5008), publication(5009)), MemoryClaims()
    async with edge(fleet, far, claims) as (outlets, sync):
        await until(lambda: not outlets.lags(5001) and sync.report().synced_at is not None)
        for vmid in (5008, 5009):
            (lag,) = outlets.lags(vmid)
            assert "somebody else's" in lag.reason
            assert not lag.soon
        assert far.server.rows() >= FOREIGN
        fleet.drop(5008)
        fleet.drop(5009)
        await until(lambda: settled(outlets, sync, [5008, 5009]))
        assert far.server.rows() == FOREIGN | wanted([publication(5001)])


async def test_another_installation_in_the_same_zone_keeps_what_is_its_own(far: Far) -> None:
    theirs = far.driver(installation="there")
    entry = dns_entries(publication(5002), VIEW)[0]
    assert await theirs.apply([Change(Verb.ADD, entry, "it is missing")]) == [None]
    fleet, claims = FakeFleet(publication(5001), publication(5002)), MemoryClaims()
    async with edge(fleet, far, claims) as (outlets, sync):
        await until(lambda: sync.report().blocked and not outlets.lags(5001))
        assert [one.holder.value for one in sync.report().blocked] == [entry.value]
        assert not outlets.orphans()
        fleet.drop(5002)
        await until(lambda: settled(outlets, sync, [5002]))
    assert [found.mine for found in await theirs.look([entry.name])] == [True]
    await theirs.aclose()


async def test_an_end_between_any_two_calls_leaves_nothing_behind(far: Far) -> None:
    """Whatever the process had done when it was killed, the next one finishes."""
    fleet, claims = FakeFleet(publication(5001), publication(5002)), MemoryClaims()
    async with edge(fleet, far, claims) as (outlets, sync):
        await until(lambda: settled(outlets, sync, fleet.rows))
    for calls in range(1, 13):
        fleet.rows = {vmid: publication(vmid, ports=(7000 + calls,)) for vmid in (5020 + calls, 5021 + calls)}
        await killed_after(calls, fleet, far, claims)
        async with edge(fleet, far, claims) as (outlets, sync):
            await until(lambda: settled(outlets, sync, fleet.rows) and not outlets.orphans())
        assert far.server.rows() == FOREIGN | wanted(fleet.publications())
        assert {row.vmid for row in claims.rows.values()} == set(fleet.rows)


async def killed_after(calls: int, fleet: FakeFleet, far: Far, claims: MemoryClaims) -> None:
    """An edge that ends once so many calls more have come, or has done everything."""
    last = far.server.calls.total() + calls
    with trio.CancelScope() as scope:
        far.server.on_call = lambda: scope.cancel() if far.server.calls.total() >= last else None
        async with edge(fleet, far, claims) as (outlets, sync):
            await until(lambda: settled(outlets, sync, fleet.rows) and not sync.report().orphans)
    far.server.on_call = lambda: None


async def test_500_containers_at_once(far: Far) -> None:
    fleet, claims = FakeFleet(), MemoryClaims()
    async with edge(fleet, far, claims) as (outlets, sync):
        await until(lambda: sync.report().synced_at is not None)
        begun, calls = time.perf_counter(), far.server.calls.total()
        for n in range(500):
            fleet.put(publication(5100 + n))
        await until(lambda: settled(outlets, sync, fleet.rows), 120)
        seconds = time.perf_counter() - begun
        print(f"{sync.report().kind}: 500 at once {seconds:.1f} s, {far.server.calls.total() - calls} calls")
        assert far.server.rows() == FOREIGN | wanted(fleet.publications())
        assert not sync.report().refused


async def test_a_zone_of_10_000_foreign_records(far: Far) -> None:
    strangers = {("A", f"host-{n}.{ZONE}", f"198.18.{n // 250}.{n % 250}", 300) for n in range(10_000)}
    for kind, name, value, ttl in strangers:
        far.server.put(kind, name, value, ttl)
    fleet, claims = FakeFleet(*(publication(5000 + n) for n in range(1, 5))), MemoryClaims()
    async with edge(fleet, far, claims) as (outlets, sync):
        await until(lambda: settled(outlets, sync, fleet.rows), 60)
        begun = time.perf_counter()
        difference = await sync.reconcile()
        seconds = time.perf_counter() - begun
        print(f"{sync.report().kind}: 10,000 foreign records, nothing to do: {seconds * 1000:.0f} ms")
        assert not difference.changes
        fleet.drop(5001)
        await until(lambda: settled(outlets, sync, [5001]))
        assert far.server.rows() == FOREIGN | strangers | wanted(fleet.publications())
