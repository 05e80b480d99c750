"""Public ports of games, as the book gives them out and takes them back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

import actors
from tests.edge.far import FakeFleet, publication
from tests.edge.test_dns import GAMES
from tests.edge.test_sync import until
from tests.store.samples import VAULT
from tests.store.test_public_ports import add_containers
from zlh.edge.asked import Asked
from zlh.edge.book import Book
from zlh.edge.dns import View, dns_entries
from zlh.edge.edge import Outlets
from zlh.edge.ports import PublicPorts
from zlh.edge.traefik import Routing, routes
from zlh.model.containers import ContainerType
from zlh.model.edge import Publication, Stage
from zlh.store import Database, containers

POOLS = {"tcp": range(30000, 30002), "udp": range(30000, 30002)}
ROUTING = Routing(GAMES, "", "http://127.0.0.1:8080", ("web",))
VIEW = View("zlh.test", ("10.0.0.80",), (), (), "", None, GAMES)


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    database = Database(postgres_url, vault=VAULT)
    yield database
    await database.aclose()


@pytest.fixture
async def vmids(database: Database) -> list[int]:
    """Of three containers that have rows."""
    return await database.run(add_containers, 3)


def numbers(database: Database, *, velocity: bool = False, pools: dict[str, range] = POOLS) -> PublicPorts:
    return PublicPorts(database, GAMES, pools, velocity=velocity)


@asynccontextmanager
async def edge(fleet: FakeFleet, ports: PublicPorts) -> AsyncIterator[tuple[Book, Outlets]]:
    book = Book(fleet, ports)
    asked = Asked(
        "traefik",
        book,
        lambda one: routes(one, ROUTING),
        lambda entries: [str(entry) for entry in entries],
        poll_seconds=60,
        settle_seconds=0.1,
    )
    outlets = Outlets(book, [asked])
    async with actors.open_system(outlets.spec()):
        await until(book.loaded.is_set)
        yield book, outlets


def ports_of(book: Book, vmid: int) -> tuple[int, ...] | None:
    found = book.get(vmid)
    return found.public_ports if found is not None else None


async def test_which_need_some(database: Database, vmids: list[int]) -> None:
    first, second, third = vmids
    ports = numbers(database, velocity=True)
    assert (await ports.assign(publication(first))).public_ports == (30000,)
    assert (await ports.assign(publication(second, software="minecraft"))).public_ports is None, "behind Velocity"
    assert (await ports.assign(publication(third, software="valheim", ports=(1, 2)))).public_ports == (30000, 30001)
    assert (await ports.assign(publication(6001, ctype=ContainerType.DEV))).public_ports is None
    assert (await ports.assign(publication(third, ports=()))).public_ports is None
    bare = numbers(database, pools={"tcp": range(0), "udp": range(0)})
    assert (await bare.assign(publication(first))).public_ports is None, "nothing routes there"


async def test_a_restart_gives_everybody_the_same(database: Database, vmids: list[int]) -> None:
    first, second, _ = vmids
    fleet = FakeFleet(publication(second))
    async with edge(fleet, numbers(database)) as (book, _):
        fleet.put(publication(first))
        await until(lambda: ports_of(book, first))
        assert (ports_of(book, second), ports_of(book, first)) == ((30000,), (30001,))
    async with edge(FakeFleet(publication(first), publication(second)), numbers(database)) as (book, _):
        assert (ports_of(book, second), ports_of(book, first)) == ((30000,), (30001,))


async def test_when_none_are_left_it_is_said_and_the_next_free_one_is_its_own(
    database: Database, vmids: list[int]
) -> None:
    first, second, third = vmids
    fleet = FakeFleet(publication(first), publication(second))
    async with edge(fleet, numbers(database)) as (book, outlets):
        fleet.put(publication(third))
        await until(lambda: ports_of(book, third) == ())
        (lag,) = [lag for lag in outlets.lags(third) if lag.target == "edge"]
        assert (lag.soon, lag.reason) == (False, "no port is free in [traefik] tcp_ports, 30000-30001")
        waiting = book.get(third)
        assert waiting is not None
        assert [entry.kind for entry in dns_entries(waiting, VIEW)] == ["A"], "no service record leads nowhere"
        assert routes(waiting, ROUTING) == []
        fleet.put(publication(first, stage=Stage.LEAVING))
        await until(lambda: ports_of(book, first) is None)
        assert ports_of(book, third) == (), "what leaves has its ports until it is gone"
        await database.run(containers.delete, first)
        fleet.drop(first)
        await until(lambda: ports_of(book, third) == (30000,))
        assert [lag for lag in outlets.lags(third) if lag.target == "edge"] == []


async def test_who_goes_without_ports_is_withdrawn_like_any_other(database: Database, vmids: list[int]) -> None:
    fleet = FakeFleet(*map(publication, vmids))
    async with edge(fleet, numbers(database)) as (book, outlets):
        (waiting,) = [vmid for vmid in vmids if ports_of(book, vmid) == ()]
        fleet.put(publication(waiting, stage=Stage.LEAVING))
        await until(lambda: book.up_to_date(waiting))
        assert [lag for lag in outlets.lags(waiting) if lag.target == "edge"] == []


async def test_a_smaller_pool_takes_back_what_is_outside(database: Database, vmids: list[int]) -> None:
    """Also the ports of which only the last one is outside."""
    (vmid, *_) = vmids
    game = publication(vmid, software="valheim", ports=(2456, 2457))
    assert (await numbers(database).assign(game)).public_ports == (30000, 30001)
    smaller = numbers(database, pools={"udp": range(30000, 30001)})
    assert (await smaller.assign(game)).public_ports == ()
    assert smaller.problem(vmid) == "no 2 ports in a row are free in [traefik] udp_ports, 30000-30000"
    moved = numbers(database, pools={"udp": range(31000, 31002)})
    assert (await moved.assign(game)).public_ports == (31000, 31001)


async def test_what_comes_to_be_reached_in_another_way_frees_its_ports(database: Database, vmids: list[int]) -> None:
    first, second, third = vmids
    ports = numbers(database)
    for vmid in (first, second):
        await ports.assign(publication(vmid, software="minecraft"))
    behind = numbers(database, velocity=True)
    fleet = FakeFleet(publication(third), *(publication(vmid, software="minecraft") for vmid in (first, second)))
    async with edge(fleet, behind) as (book, _):
        await until(lambda: ports_of(book, third) == (30000,))


class Stumbling:
    """Meets a bug once."""

    def __init__(self, vmid: int) -> None:
        self._stumbles = {vmid}

    async def assign(self, one: Publication) -> Publication:
        await trio.lowlevel.checkpoint()
        if one.vmid in self._stumbles:
            self._stumbles.clear()
            raise ZeroDivisionError("a bug of the test")
        return one

    def problem(self, vmid: int) -> str | None:
        return None

    def forget(self, vmid: int) -> None:
        pass

    def hopeful(self) -> tuple[int, ...]:
        return ()


async def test_after_a_crash_the_book_knows_who_went_meanwhile(autojump_clock: trio.testing.MockClock) -> None:
    fleet = FakeFleet(publication(5001), publication(5002))
    book = Book(fleet, Stumbling(5003))
    async with actors.open_system(Outlets(book, []).spec()):
        await until(book.loaded.is_set)
        fleet.put(publication(5003))
        await trio.sleep(0.01)
        fleet.drop(5001)
        fleet.put(replace(publication(5002), hostname="castle.zlh.test"))
        await until(lambda: book.get(5003) is not None)
        await until(lambda: {one.vmid for one in book} == {5002, 5003})
        assert book.up_to_date(5002)
