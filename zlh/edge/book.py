"""What is to be published of every container, as it is known now."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Protocol

import trio

from actors import Context
from zlh.model.access import EVERYTHING_IN_SIGHT, Sight
from zlh.model.edge import Publication, Stage
from zlh.model.ports import ForwardedPort
from zlh.store import StoreUnavailable

log = logging.getLogger("zlh.edge")

RETRY_SECONDS = 1.0


class Containers(Protocol):
    """What is needed of the fleet."""

    def publications(self) -> Iterable[Publication]: ...

    def publication(self, vmid: int) -> Publication | None: ...

    def changes(self, sight: Sight) -> AbstractAsyncContextManager[AsyncIterable[set[int]]]:
        """The numbers of containers that changed since the last look, look by look."""


class Numbers(Protocol):
    """Gives games their public ports."""

    async def assign(self, publication: Publication) -> Publication:
        """With its public ports. Raises StoreUnavailable."""

    def problem(self, vmid: int) -> str | None:
        """Why it has none though it needs them."""

    def forget(self, vmid: int) -> None:
        """The container is gone."""

    def hopeful(self) -> Iterable[int]:
        """Those that went without and may have theirs now; each is told once."""


class Forwards(Protocol):
    """Ports that were opened to the outside through us. Whoever is in `heard` is called with the vmid when its ports
    change; before `loaded` is set they are not known."""

    heard: list[Callable[[int], None]]
    loaded: trio.Event

    def of(self, vmid: int) -> Sequence[ForwardedPort]: ...


class Book:
    """A supervised task. Outlets that follow it hear of every container whose publication became another.

    `loaded` is set once all containers are in it: before that nobody may conclude that a container is gone.
    """

    def __init__(self, containers: Containers, numbers: Numbers, forwards: Forwards | None = None) -> None:
        self._containers = containers
        self._numbers = numbers
        self._forwards = forwards
        self._publications: dict[int, Publication] = {}
        self._given: dict[int, Publication] = {}
        self._followers: list[Callable[[int], None]] = []
        self._moved: set[int] = set()  # since they were taken
        self._wake = trio.Event()
        self.loaded = trio.Event()
        if forwards is not None:
            forwards.heard.append(self._move)

    def follow(self, follower: Callable[[int], None]) -> None:
        """`follower(vmid)` must not block."""
        self._followers.append(follower)

    def __iter__(self) -> Iterator[Publication]:
        return iter(list(self._publications.values()))

    def __len__(self) -> int:
        return len(self._publications)

    def get(self, vmid: int) -> Publication | None:
        return self._publications.get(vmid)

    def up_to_date(self, vmid: int) -> bool:
        """Whether what is in here is what the container is now."""
        return self.loaded.is_set() and self._present(vmid) == self._given.get(vmid)

    def problem(self, vmid: int) -> str | None:
        """Why it cannot be published as it should be, though no target is to blame."""
        publication = self.get(vmid)
        published = publication is not None and publication.stage is Stage.PUBLISHED
        return self._numbers.problem(vmid) if published else None

    @property
    def known(self) -> Collection[int]:
        """Every container that there is, published or not."""
        return self._publications.keys()

    async def run(self, ctx: Context) -> None:
        if self._forwards is not None:
            await self._forwards.loaded.wait()
        async with self._containers.changes(EVERYTHING_IN_SIGHT) as changes, trio.open_nursery() as nursery:
            # After a crash also those that went while nobody followed the changes.
            present = {publication.vmid for publication in self._containers.publications()}
            for vmid in present | self._publications.keys():
                await self._take(vmid)
            self.loaded.set()
            ctx.started()
            nursery.start_soon(self._follow, changes)
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                moved, self._moved = self._moved, set()
                for vmid in moved:
                    await self._take(vmid)
                ctx.annotate(containers=len(self._publications))
                # Where hundreds come at once, targets hear of them together.
                await trio.lowlevel.checkpoint()

    async def _follow(self, changes: AsyncIterable[set[int]]) -> None:
        async for vmids in changes:
            for vmid in vmids:
                self._move(vmid)

    def _move(self, vmid: int) -> None:
        self._moved.add(vmid)
        self._wake.set()

    def _present(self, vmid: int) -> Publication | None:
        publication = self._containers.publication(vmid)
        if publication is None or self._forwards is None:
            return publication
        ports = tuple(port.port for port in self._forwards.of(vmid))
        return replace(publication, forwards=ports) if ports else publication

    async def _take(self, vmid: int) -> None:
        given = self._present(vmid)
        if given == self._given.get(vmid):
            return
        if given is None:
            self._given.pop(vmid, None)
            self._publications.pop(vmid, None)
            self._numbers.forget(vmid)
        else:
            self._publications[vmid] = await self._numbered(given)
            self._given[vmid] = given
        for waiting in self._numbers.hopeful():
            self._given.pop(waiting, None)
            self._move(waiting)
        for follower in self._followers:
            follower(vmid)

    async def _numbered(self, publication: Publication) -> Publication:
        if publication.stage is not Stage.PUBLISHED:
            return publication
        while True:
            try:
                return await self._numbers.assign(publication)
            except StoreUnavailable as error:
                log.warning("container %d waits for its public ports: %s", publication.vmid, error)
                await trio.sleep(RETRY_SECONDS)
