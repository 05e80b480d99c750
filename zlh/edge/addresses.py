"""What people type to reach a container: shown once it leads somewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from actors import Context
from zlh.drivers.errors import DriverError, NotFound
from zlh.edge.book import Book
from zlh.edge.dns import View, behind_velocity, ide_name, leads_to, player_port
from zlh.model.containers import ContainerType
from zlh.model.edge import Lag, Publication, Reachability, Stage

log = logging.getLogger("zlh.edge")

VELOCITY_PORT = 25565
"""The port that Minecraft takes by itself."""

SLICE = 100
"""So many are judged before others have their turn."""

ASKED_AT_ONCE = 16
AGAIN_SECONDS = 0.5
AGAIN_CAP_SECONDS = 8.0

NOT_FOUND = {
    Stage.MAKING: "it is not published yet",
    Stage.SUSPENDED: "its account is suspended",
    Stage.LEAVING: "it is being withdrawn",
}


class Resolver(Protocol):
    async def addresses(self, name: str) -> Collection[str]:
        """IP addresses as Python spells them. Raises NotFound, Unreachable."""


@dataclass(frozen=True, slots=True)
class Typed:
    """`text` is what people type, `name` what has to resolve for it, and `addresses` where to; any will do where
    those are empty."""

    text: str
    name: str
    addresses: frozenset[str]

    @property
    def place(self) -> tuple[str, frozenset[str]]:
        return self.name, self.addresses


def typed(publication: Publication, views: Sequence[View]) -> Typed | None:
    """None where no name leads to it. All `views` have the same zone for IDEs and the same Velocity."""
    view = views[0]
    if publication.ctype is ContainerType.DEV:
        if not view.ide_zone:
            return None
        # A wildcard that is not ours may lead there.
        name = ide_name(publication.vmid, view.ide_zone)
        return Typed(name, name, _leads_to(publication, name, views))
    name = publication.hostname.lower()
    addresses = _leads_to(publication, name, views)
    if not addresses:
        return None
    port = player_port(publication, view.facts, view.velocity_port)
    plain = view.velocity_port == VELOCITY_PORT and behind_velocity(publication, view.facts)
    return Typed(name if plain or port is None else f"{name}:{port}", name, addresses)


def _leads_to(publication: Publication, name: str, views: Sequence[View]) -> frozenset[str]:
    return frozenset().union(*(leads_to(publication, name, view) for view in views))


class Addresses:
    """A supervised task. `tell` hears of every container's reachability whenever it may be another, and of all of
    them before this counts as started. Without a `resolver` a name counts as leading somewhere once every target
    has it."""

    def __init__(
        self,
        book: Book,
        lags: Callable[[int], Collection[Lag]],
        typed: Callable[[Publication], Typed | None],
        tell: Callable[[int, Reachability | None], None],
        resolver: Resolver | None = None,
    ) -> None:
        self._book = book
        self._lags = lags
        self._typed = typed
        self._tell = tell
        self._resolver = resolver
        self._resolved: dict[int, tuple[str, frozenset[str]]] = {}
        self._problems: dict[int, str] = {}
        self._asking: set[int] = set()
        self._dirty: set[int] = set()
        self._wake = trio.Event()
        self._limit = trio.CapacityLimiter(ASKED_AT_ONCE)
        book.follow(self.touch)

    def touch(self, vmid: int) -> None:
        """Something may be different about it."""
        self._dirty.add(vmid)
        self._wake.set()

    async def run(self, ctx: Context) -> None:
        self._asking.clear()
        await self._book.loaded.wait()
        for publication in self._book:
            self.touch(publication.vmid)
        async with trio.open_nursery() as nursery:
            await self._judge_all(nursery)
            ctx.started()
            while True:
                await self._wake.wait()
                await self._judge_all(nursery)

    async def _judge_all(self, nursery: trio.Nursery) -> None:
        self._wake = trio.Event()
        dirty, self._dirty = self._dirty, set()
        for number, vmid in enumerate(dirty):
            if number % SLICE == 0:
                await trio.lowlevel.checkpoint()
            self._judge(vmid)
            if vmid not in self._asking and self._to_ask(vmid) is not None:
                self._asking.add(vmid)
                nursery.start_soon(self._ask, vmid)

    def _judge(self, vmid: int) -> None:
        publication, typed = self._present(vmid)
        if publication is None or typed is None:
            self._doubt(vmid)
            self._tell(vmid, None)
            return
        self._tell(vmid, self._reachability(publication, typed))

    def _reachability(self, publication: Publication, typed: Typed) -> Reachability:
        vmid = publication.vmid
        if publication.stage is not Stage.PUBLISHED:
            self._doubt(vmid)
            return Reachability(None, NOT_FOUND[publication.stage])
        for lag in self._lags(vmid):
            self._doubt(vmid)
            return Reachability(None, f"waits for {lag.target}: {lag.reason}")
        if self._to_ask(vmid) is not None:
            return Reachability(None, self._problems.get(vmid, f"{typed.name} does not resolve yet"))
        return Reachability(typed.text)

    def _doubt(self, vmid: int) -> None:
        """What was resolved before is asked for again."""
        self._resolved.pop(vmid, None)
        self._problems.pop(vmid, None)

    def _present(self, vmid: int) -> tuple[Publication | None, Typed | None]:
        publication = self._book.get(vmid)
        return publication, self._typed(publication) if publication is not None else None

    def _to_ask(self, vmid: int) -> Typed | None:
        """What the resolver has to be asked for now."""
        if self._resolver is None:
            return None
        publication, typed = self._present(vmid)
        if publication is None or typed is None or publication.stage is not Stage.PUBLISHED or self._lags(vmid):
            return None
        return None if self._resolved.get(vmid) == typed.place else typed

    async def _ask(self, vmid: int) -> None:
        """Until it resolves, or there is nothing to ask for."""
        seconds = AGAIN_SECONDS
        while (typed := self._to_ask(vmid)) is not None:
            async with self._limit:
                problem = await self._problem(typed)
            if problem is None:
                self._resolved[vmid] = typed.place
                self._problems.pop(vmid, None)
                continue
            if self._problems.get(vmid) != problem:
                self._problems[vmid] = problem
                self.touch(vmid)
            await trio.sleep(seconds)
            seconds = min(AGAIN_CAP_SECONDS, seconds * 2)
        self._asking.discard(vmid)
        self.touch(vmid)

    async def _problem(self, typed: Typed) -> str | None:
        """Why the name does not lead where it should."""
        assert self._resolver is not None
        try:
            found = await self._resolver.addresses(typed.name)
        except NotFound:
            return f"{typed.name} does not resolve yet"
        except DriverError as error:
            log.debug("%s: %s", typed.name, error)
            return f"nobody can tell whether {typed.name} resolves: {error}"
        if typed.addresses and not typed.addresses.intersection(found):
            return f"{typed.name} still leads elsewhere"
        return None
