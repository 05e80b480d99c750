"""What people type to reach a container: shown once it leads somewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Protocol

import trio

from actors import Context
from zlh.edge.book import Book
from zlh.edge.dns import behind_velocity, ide_name, player_port
from zlh.model.containers import ContainerType
from zlh.model.edge import Lag, Publication, Reachability, Stage
from zlh.model.games import Games

log = logging.getLogger("zlh.edge")

VELOCITY_PORT = 25565
"""The port that Minecraft takes by itself."""

ASKED_AT_ONCE = 16
AGAIN_SECONDS = 2.0


class Resolver(Protocol):
    async def resolves(self, name: str) -> str | None:
        """None where the name leads somewhere, otherwise why not."""


def typed(publication: Publication, facts: Games, ide_zone: str, velocity_port: int | None) -> tuple[str, str] | None:
    """The name that has to resolve, and what people type; None where there is nothing but the container's address."""
    if publication.ctype is ContainerType.DEV:
        name = ide_name(publication.vmid, ide_zone)
        return (name, name) if ide_zone else None
    port = player_port(publication, facts, velocity_port)
    plain = velocity_port == VELOCITY_PORT and behind_velocity(publication, facts)
    name = publication.hostname
    return (name, name if plain or port is None else f"{name}:{port}")


class Addresses:
    """A supervised task. `tell` hears of every container's reachability whenever it may be another. Without a
    `resolver` a name counts as leading somewhere once every target has it."""

    def __init__(
        self,
        book: Book,
        lags: Callable[[int], Collection[Lag]],
        typed: Callable[[Publication], tuple[str, str] | None],
        tell: Callable[[int, Reachability | None], None],
        resolver: Resolver | None = None,
    ) -> None:
        self._book = book
        self._lags = lags
        self._typed = typed
        self._tell = tell
        self._resolver = resolver
        self._resolved: dict[int, str] = {}
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
        ctx.started()
        self._asking.clear()
        await self._book.loaded.wait()
        for publication in self._book:
            self.touch(publication.vmid)
        async with trio.open_nursery() as nursery:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                dirty, self._dirty = self._dirty, set()
                for vmid in dirty:
                    self._judge(vmid, nursery)
                await trio.lowlevel.checkpoint()

    def _judge(self, vmid: int, nursery: trio.Nursery) -> None:
        publication = self._book.get(vmid)
        wanted = self._typed(publication) if publication is not None else None
        if publication is None or wanted is None:
            self._resolved.pop(vmid, None)
            self._tell(vmid, None)
            return
        self._tell(vmid, self._reachability(publication, *wanted))
        if self._waits_for_resolver(publication, wanted[0]) and vmid not in self._asking:
            self._asking.add(vmid)
            nursery.start_soon(self._ask, vmid, wanted[0])

    def _reachability(self, publication: Publication, name: str, address: str) -> Reachability:
        if publication.stage is not Stage.PUBLISHED:
            leaves = publication.stage is Stage.LEAVING
            return Reachability(None, "it is being withdrawn" if leaves else "it is not published yet")
        for lag in self._lags(publication.vmid):
            return Reachability(None, f"waits for {lag.target}: {lag.reason}")
        if self._waits_for_resolver(publication, name):
            return Reachability(None, f"{name} does not resolve yet")
        return Reachability(address)

    def _waits_for_resolver(self, publication: Publication, name: str) -> bool:
        published = publication.stage is Stage.PUBLISHED and not self._lags(publication.vmid)
        return self._resolver is not None and published and self._resolved.get(publication.vmid) != name

    async def _ask(self, vmid: int, name: str) -> None:
        """Until it resolves, or another name is wanted."""
        assert self._resolver is not None
        while True:
            async with self._limit:
                problem = await self._resolver.resolves(name)
            publication = self._book.get(vmid)
            wanted = self._typed(publication) if publication is not None else None
            if problem is None:
                self._resolved[vmid] = name
            if problem is None or wanted is None or wanted[0] != name:
                break
            log.debug("%s: %s", name, problem)
            await trio.sleep(AGAIN_SECONDS)
        self._asking.discard(vmid)
        self.touch(vmid)
