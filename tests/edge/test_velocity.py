"""Velocity knows the servers that take players, whatever happens to it, to us, or on the way."""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

import actors
from tests.edge.bridge import LOBBY, SECRET, Proxy, open_proxy
from tests.edge.far import FakeFleet, MemoryClaims, NoNumbers, publication
from zlh.drivers.velocity import VelocityBridge
from zlh.edge import sync as syncs
from zlh.edge.book import Book
from zlh.edge.edge import Outlets
from zlh.edge.ledger import Ledger
from zlh.edge.sync import Sync
from zlh.edge.velocity import velocity_entries
from zlh.model.containers import ContainerType
from zlh.model.edge import Publication, Stage
from zlh.model.games import parse_games

GAMES = parse_games(tomllib.loads((Path(__file__).parents[2] / "config" / "games.toml").read_text("utf-8")))
LOOK_SECONDS = 0.3
PATIENCE = 30.0


def minecraft(vmid: int, **changes: object) -> Publication:
    wishes = {"software": "minecraft", "variant": "paper", "ports": (25565,), **changes}
    return publication(vmid, **wishes)


def place(one: Publication) -> tuple[str, tuple[str, int]]:
    return one.hostname.partition(".")[0], (str(one.address), one.ports[0])


# What is wanted


def entries(one: Publication) -> list[str] | None:
    found = velocity_entries(one, GAMES)
    return None if found is None else [str(entry) for entry in found]


def test_a_server_that_takes_players_is_known_by_its_first_label() -> None:
    assert entries(minecraft(5001)) == ["server ct-5001 10.0.0.1:25565"]
    assert entries(minecraft(5001, hostname="smp.zlh.test", ports=(4000, 4001))) == ["server smp 10.0.0.1:4000"]
    assert entries(minecraft(5001, ports=())) == ["server ct-5001 10.0.0.1:25565"]
    assert entries(minecraft(5001, address="FD00:0::7")) == ["server ct-5001 [fd00::7]:25565"]


def test_one_that_takes_none_is_not() -> None:
    assert entries(minecraft(5001, serving=False)) == []
    assert entries(minecraft(5001, address=None)) == []
    assert entries(minecraft(5001, serving=None)) is None, "nobody knows: it stays as it is"


def test_other_games_and_dev_containers_are_not_velocitys() -> None:
    assert entries(publication(5001)) == []
    assert entries(publication(5001, serving=None)) == []
    assert entries(minecraft(5001, ctype=ContainerType.DEV)) == []


# How it is kept


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncs, "BACKOFF_SECONDS", 0.05)
    monkeypatch.setattr(syncs, "BACKOFF_CAP_SECONDS", 0.2)


@pytest.fixture(params=["overwrites", "strict"])
async def proxy(request: pytest.FixtureRequest) -> AsyncIterator[Proxy]:
    async with open_proxy(strict=request.param == "strict") as proxy:
        yield proxy


@asynccontextmanager
async def edge(
    fleet: FakeFleet, bridge: VelocityBridge, claims: MemoryClaims, look_seconds: float = LOOK_SECONDS
) -> AsyncIterator[tuple[Outlets, Sync]]:
    book = Book(fleet, NoNumbers())
    wanted = partial(velocity_entries, facts=GAMES)
    sync = Sync("velocity", bridge, wanted, book, Ledger(claims), beat_seconds=look_seconds)
    outlets = Outlets(book, [sync])
    async with actors.open_system(outlets.spec()):
        yield outlets, sync


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is watched tells nobody
            await trio.sleep(0.01)


async def as_wanted(proxy: Proxy, fleet: FakeFleet, sync: Sync, claims: MemoryClaims) -> None:
    """Velocity has what is wanted and what was always there, and nobody owes it anything."""
    wanted = {entry.key for one in fleet.publications() for entry in velocity_entries(one, GAMES) or ()}
    places = dict(place(one) for one in fleet.publications() if velocity_entries(one, GAMES))
    await until(lambda: proxy.far.servers == LOBBY | places and set(claims.rows) == wanted and not sync.report().owed)
    await until(lambda: not any(sync.lag(one.vmid) for one in fleet.publications()))


async def test_it_follows_the_game(proxy: Proxy) -> None:
    fleet, claims = FakeFleet(minecraft(5001, serving=False)), MemoryClaims()
    async with edge(fleet, proxy.bridge, claims) as (outlets, sync):
        await until(lambda: not outlets.lags(5001))
        assert proxy.far.servers == LOBBY
        fleet.put(minecraft(5001))
        await as_wanted(proxy, fleet, sync, claims)
        fleet.put(minecraft(5001, serving=None))
        fleet.put(minecraft(5002))
        await until(lambda: "ct-5002" in proxy.far.servers)
        assert "ct-5001" in proxy.far.servers, "nobody knows whether it is gone"
        fleet.put(minecraft(5001, serving=False))
        await until(lambda: not outlets.lags(5001))
        assert "ct-5001" not in proxy.far.servers
        fleet.put(minecraft(5002, stage=Stage.LEAVING))
        await until(lambda: not outlets.lags(5002))
        assert proxy.far.servers == LOBBY
        assert not claims.rows


async def test_another_name_and_another_address(proxy: Proxy) -> None:
    fleet, claims = FakeFleet(minecraft(5001), minecraft(5002)), MemoryClaims()
    async with edge(fleet, proxy.bridge, claims) as (_, sync):
        await as_wanted(proxy, fleet, sync, claims)
        fleet.put(minecraft(5001, hostname="smp.zlh.test"))
        fleet.put(minecraft(5002, address="10.0.7.7"))
        await as_wanted(proxy, fleet, sync, claims)
        # The name goes to another one at once.
        fleet.put(minecraft(5001))
        fleet.put(minecraft(5002, hostname="smp.zlh.test"))
        await as_wanted(proxy, fleet, sync, claims)


async def test_what_it_forgets_it_is_told_again(proxy: Proxy) -> None:
    fleet, claims = FakeFleet(minecraft(5001), minecraft(5002)), MemoryClaims()
    async with edge(fleet, proxy.bridge, claims) as (outlets, sync):
        await as_wanted(proxy, fleet, sync, claims)
        proxy.far.restart()
        assert proxy.far.servers == LOBBY
        await as_wanted(proxy, fleet, sync, claims)
        await until(lambda: {repair.change.reason for repair in sync.report().repairs} == {"it is missing"})
        await until(lambda: not outlets.lags(5001))


async def test_back_from_an_outage_it_is_told_at_once(proxy: Proxy) -> None:
    fleet, claims = FakeFleet(minecraft(5001)), MemoryClaims()
    async with edge(fleet, proxy.bridge, claims, look_seconds=10_000) as (outlets, sync):
        await as_wanted(proxy, fleet, sync, claims)
        proxy.far.faults.down = True
        proxy.far.restart()
        fleet.put(minecraft(5002))
        await until(lambda: sync.report().error)
        assert [lag.soon for lag in outlets.lags(5002)] == [False], "it is owed"
        proxy.far.faults.down = False
        await as_wanted(proxy, fleet, sync, claims)


async def test_what_is_somebody_elses_is_never_touched(proxy: Proxy) -> None:
    fleet, claims = FakeFleet(minecraft(5001, hostname="lobby.zlh.test"), minecraft(5002)), MemoryClaims()
    async with edge(fleet, proxy.bridge, claims) as (outlets, sync):
        await until(lambda: not outlets.lags(5002))
        await until(lambda: sync.report().blocked)
        assert proxy.far.servers["lobby"] == LOBBY["lobby"]
        assert [lag.soon for lag in outlets.lags(5001)] == [False]
        fleet.drop(5001)
        await until(lambda: not sync.report().blocked)
        await as_wanted(proxy, fleet, sync, claims)
    assert ("POST", "/zpack/unregister") not in proxy.far.requests


def down(proxy: Proxy) -> None:
    proxy.far.faults.down = True


def slow(proxy: Proxy) -> None:
    proxy.far.faults.slow = 0.2


def failing(proxy: Proxy) -> None:
    proxy.far.faults.status = 500


def half(proxy: Proxy) -> None:
    proxy.far.faults.half = True


def half_applied(proxy: Proxy) -> None:
    proxy.far.faults.down_after = 3


def lost_answers(proxy: Proxy) -> None:
    proxy.far.faults.lost = True


def other_secret(proxy: Proxy) -> None:
    proxy.far.faults.status = 401


FAULTS = [down, slow, failing, half, half_applied, lost_answers, other_secret]


@pytest.mark.parametrize("cause", FAULTS, ids=lambda cause: cause.__name__)
async def test_after_every_fault_all_is_as_wanted(proxy: Proxy, cause: Callable[[Proxy], None]) -> None:
    before = [minecraft(5000 + number) for number in range(6)]
    fleet, claims = FakeFleet(*before), MemoryClaims()
    async with edge(fleet, proxy.bridge, claims) as (_, sync):
        await as_wanted(proxy, fleet, sync, claims)
        cause(proxy)
        fleet.drop(5000)
        fleet.put(minecraft(5001, address="10.0.9.9"))
        fleet.put(minecraft(5002, hostname="smp.zlh.test"))
        fleet.put(minecraft(5003, serving=False))
        for number in range(3):
            fleet.put(minecraft(5010 + number))
        if cause is not slow:
            await until(lambda: sync.report().error)
        proxy.far.faults = type(proxy.far.faults)()
        await as_wanted(proxy, fleet, sync, claims)


async def test_five_hundred_at_once(proxy: Proxy) -> None:
    many = [minecraft(10_000 + number, address=f"10.1.{number // 200}.{number % 200}") for number in range(500)]
    fleet, claims = FakeFleet(), MemoryClaims()
    async with edge(fleet, proxy.bridge, claims, look_seconds=10_000) as (_, sync):
        await until(lambda: sync.report().synced_at is not None)
        proxy.far.requests.clear()
        for one in many:
            fleet.put(one)
        await as_wanted(proxy, fleet, sync, claims)
        looks = proxy.far.requests.count(("GET", "/zpack/list"))
        assert len(proxy.far.requests) - looks == 500
        assert looks <= 2 * 500 / VelocityBridge.batch, "not one for each"


class Mortal(VelocityBridge):
    """Ends us before its call of number `dies_at`, or (`after`) when that was made."""

    def __init__(self, url: str, dies_at: int, after: bool) -> None:
        super().__init__(url, SECRET)
        self.scope = trio.CancelScope()
        self._calls = 0
        self._dies_at = dies_at
        self._after = after

    async def _call(self, method: str, path: str, document: object = None) -> bytes:
        self._calls += 1
        last = self._calls == self._dies_at
        if last and not self._after:
            await self._die()
        try:
            return await super()._call(method, path, document)
        finally:
            if last:
                await self._die()

    async def _die(self) -> None:
        self.scope.cancel()
        await trio.sleep_forever()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_our_end_between_any_two_calls_leaves_nothing(proxy: Proxy, after: bool) -> None:
    deaths = 0
    for dies_at in range(1, 100):
        proxy.far.restart()
        claims = MemoryClaims()
        # As an earlier life of ours left it: one that is gone, one that moved, one of which only the claim was made.
        for one in (minecraft(5001), minecraft(5002, address="10.0.9.9"), minecraft(5003)):
            (entry,) = velocity_entries(one, GAMES) or ()
            await claims.claim([entry])
            if one.vmid != 5003:
                proxy.far.servers |= [place(one)]
        fleet = FakeFleet(minecraft(5002), minecraft(5004), minecraft(5005))
        mortal = Mortal(proxy.url, dies_at, after)
        with mortal.scope:
            async with edge(fleet, mortal, claims, look_seconds=10_000) as (_, sync):
                await as_wanted(proxy, fleet, sync, claims)
                await until(lambda sync=sync: sync.report().synced_at is not None)
        await mortal.aclose()
        if not mortal.scope.cancelled_caught:
            break
        deaths += 1
        async with edge(fleet, proxy.bridge, claims) as (_, sync):
            await as_wanted(proxy, fleet, sync, claims)
    assert deaths >= 5
