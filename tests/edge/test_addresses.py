from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
import trio

import actors
from tests.edge.far import FakeFleet, MemoryClaims, MemoryTarget, NoNumbers, address_entries, publication
from tests.edge.test_dns import GAMES
from tests.edge.test_sync import until
from zlh.drivers.errors import DriverError, NotFound, Unreachable
from zlh.edge.addresses import Addresses, Typed, typed
from zlh.edge.book import Book
from zlh.edge.dns import View
from zlh.edge.edge import Outlets
from zlh.edge.ledger import Ledger
from zlh.edge.sync import Sync
from zlh.model.containers import ContainerType
from zlh.model.edge import Reachability, Stage

INSIDE = View("zlh.test", ("10.0.0.80",), ("10.0.0.90",), (), "ide.test", 25565, GAMES)
OUTSIDE = replace(INSIDE, games=("192.0.2.80", "2001:db8::80"), minecraft=("192.0.2.90",))
VIEWS = (INSIDE, OUTSIDE)
NAME = "ct-5001.zlh.test"


def test_players_type_the_name_and_the_port() -> None:
    assert typed(publication(5001, public_ports=(30000,)), VIEWS) == Typed(
        f"{NAME}:30000", NAME, frozenset({"10.0.0.80", "192.0.2.80", "2001:db8::80"})
    )
    assert typed(publication(5001, ports=()), VIEWS).text == f"{NAME}:7777"  # type: ignore[union-attr]


@pytest.mark.parametrize(("port", "text"), [(25565, NAME), (25570, f"{NAME}:25570")])
def test_minecraft_knows_its_own_port(port: int, text: str) -> None:
    views = [replace(view, velocity_port=port) for view in VIEWS]
    shown = typed(publication(5001, software="minecraft", ports=(25566,)), views)
    assert shown == Typed(text, NAME, frozenset({"10.0.0.90", "192.0.2.90"}))


def test_an_ide_has_its_name_wherever_that_leads() -> None:
    dev = publication(6001, ctype=ContainerType.DEV, software="python", ports=())
    assert typed(dev, VIEWS) == Typed("ide-6001.ide.test", "ide-6001.ide.test", frozenset())
    assert typed(dev, [replace(view, ide_zone="") for view in VIEWS]) is None


def test_what_no_view_leads_to_has_no_name() -> None:
    assert typed(publication(5001), [replace(INSIDE, games=())]) is None
    assert typed(publication(5001, hostname="ct-5001.elsewhere.test"), VIEWS) is None


@dataclass
class Answers:
    """What a name server says, by name: addresses, or what it raises."""

    by_name: dict[str, Collection[str] | DriverError] = field(default_factory=dict)
    asked: int = 0

    async def addresses(self, name: str) -> Collection[str]:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        answer = self.by_name.get(name, NotFound("there is no such name"))
        if isinstance(answer, DriverError):
            raise answer
        return answer


class Shown(dict[int, Reachability | None]):
    def tell(self, vmid: int, reachability: Reachability | None) -> None:
        self[vmid] = reachability

    def reason(self, vmid: int = 5001) -> str:
        reachability = self.get(vmid)
        return (reachability.reason if reachability else None) or ""

    def address(self, vmid: int = 5001) -> str | None:
        reachability = self.get(vmid)
        return reachability.address if reachability else None


@asynccontextmanager
async def edge(
    fleet: FakeFleet, resolver: Answers | None = None, target: MemoryTarget | None = None
) -> AsyncIterator[tuple[Shown, Outlets]]:
    book, shown = Book(fleet, NoNumbers()), Shown()
    sync = Sync("far", target or MemoryTarget(), address_entries, book, Ledger(MemoryClaims()), beat_seconds=300)
    outlets = Outlets(book, [sync])
    outlets.tell_addresses(Addresses(book, outlets.lags, partial(typed, views=VIEWS), shown.tell, resolver))
    async with actors.open_system(outlets.spec()):
        yield shown, outlets


async def test_before_anything_is_known_nothing_is_shown(autojump_clock: trio.testing.MockClock) -> None:
    target = MemoryTarget()
    target.fail = Unreachable("it does not answer")
    async with edge(FakeFleet(publication(5001)), target=target) as (shown, _):
        assert shown.keys() == {5001}, "told before the edge counts as started"
        await until(lambda: shown.reason() == "waits for far: it does not answer")
        target.fail = None
        await until(lambda: shown.address() == f"{NAME}:7777")


async def test_no_such_name_and_then_there_is(autojump_clock: trio.testing.MockClock) -> None:
    resolver = Answers()
    async with edge(FakeFleet(publication(5001)), resolver) as (shown, _):
        await until(lambda: resolver.asked > 2)
        assert shown[5001] == Reachability(None, f"{NAME} does not resolve yet")
        resolver.by_name[NAME] = {"192.0.2.80"}
        await until(lambda: shown.address() == f"{NAME}:7777")
        asked = resolver.asked
        await trio.sleep(60)
        assert resolver.asked == asked, "what resolved is not asked for again"


async def test_a_name_that_leads_elsewhere_is_not_shown(autojump_clock: trio.testing.MockClock) -> None:
    """A wildcard, or what a cache still has of a container before."""
    resolver = Answers({NAME: {"198.51.100.1"}})
    async with edge(FakeFleet(publication(5001)), resolver) as (shown, _):
        await until(lambda: shown.reason() == f"{NAME} still leads elsewhere")
        resolver.by_name[NAME] = {"198.51.100.1", "10.0.0.80"}
        await until(lambda: shown.address() is not None)


async def test_a_silent_name_server_is_said(autojump_clock: trio.testing.MockClock) -> None:
    resolver = Answers({NAME: Unreachable("no answer")})
    async with edge(FakeFleet(publication(5001)), resolver) as (shown, _):
        await until(lambda: shown.reason() == f"nobody can tell whether {NAME} resolves: no answer")
        resolver.by_name[NAME] = {"10.0.0.80"}
        await until(lambda: shown.address() is not None)


async def test_another_name_is_shown_once_it_resolves(autojump_clock: trio.testing.MockClock) -> None:
    resolver = Answers({NAME: {"10.0.0.80"}})
    fleet = FakeFleet(publication(5001))
    async with edge(fleet, resolver) as (shown, _):
        await until(lambda: shown.address() == f"{NAME}:7777")
        fleet.put(publication(5001, hostname="castle.zlh.test"))
        await until(lambda: shown.reason() == "castle.zlh.test does not resolve yet")
        resolver.by_name = {"castle.zlh.test": {"10.0.0.80"}}
        await until(lambda: shown.address() == "castle.zlh.test:7777")
        fleet.put(publication(5001))
        await until(lambda: shown.reason() == f"{NAME} does not resolve yet")


async def test_a_rename_in_the_middle_of_a_withdrawal(autojump_clock: trio.testing.MockClock) -> None:
    resolver = Answers()
    fleet = FakeFleet(publication(5001))
    async with edge(fleet, resolver) as (shown, _):
        await until(lambda: resolver.asked)
        fleet.put(publication(5001, hostname="castle.zlh.test", stage=Stage.LEAVING))
        await until(lambda: shown.reason() == "it is being withdrawn")
        asked = resolver.asked
        await trio.sleep(60)
        assert resolver.asked <= asked + 1, "nobody asks for what goes"
        fleet.drop(5001)
        await until(lambda: shown[5001] is None)


async def test_what_is_made_is_not_published_yet(autojump_clock: trio.testing.MockClock) -> None:
    async with edge(FakeFleet(publication(5001, stage=Stage.MAKING))) as (shown, _):
        await until(lambda: shown.reason() == "it is not published yet")


async def test_without_a_resolver_the_targets_are_believed(autojump_clock: trio.testing.MockClock) -> None:
    fleet = FakeFleet(*(publication(5000 + number) for number in range(1, 60)))
    async with edge(fleet) as (shown, outlets):
        await until(lambda: all(shown.address(vmid) for vmid in fleet.rows))
        assert not any(outlets.lags(vmid) for vmid in fleet.rows)


async def test_hundreds_that_do_not_resolve_keep_nobody_waiting(autojump_clock: trio.testing.MockClock) -> None:
    resolver = Answers({NAME: {"10.0.0.80"}})
    fleet = FakeFleet(*(publication(5000 + number) for number in range(1, 500)))

    async with edge(fleet, resolver) as (shown, _):
        await until(lambda: shown.address() is not None, 30)
        assert shown.reason(5002)
