"""What is to be published of every container, as it is known now."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import trio

from actors import Context
from zlh.model.access import EVERYTHING_IN_SIGHT, Sight
from zlh.model.edge import Publication, Stage
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

    def forget(self, vmid: int) -> None: ...


class Book:
    """A supervised task. Outlets that follow it hear of every container whose publication became another.

    `loaded` is set once all containers are in it: before that nobody may conclude that a container is gone.
    """

    def __init__(self, containers: Containers, numbers: Numbers) -> None:
        self._containers = containers
        self._numbers = numbers
        self._publications: dict[int, Publication] = {}
        self._given: dict[int, Publication] = {}
        self._followers: list[Callable[[int], None]] = []
        self.loaded = trio.Event()

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
        return self.loaded.is_set() and self._containers.publication(vmid) == self._given.get(vmid)

    @property
    def known(self) -> frozenset[int]:
        """Every container that there is, published or not."""
        return frozenset(self._publications)

    async def run(self, ctx: Context) -> None:
        async with self._containers.changes(EVERYTHING_IN_SIGHT) as changes:
            for publication in self._containers.publications():
                await self._take(publication.vmid)
            self.loaded.set()
            ctx.started()
            async for vmids in changes:
                for vmid in vmids:
                    await self._take(vmid)
                ctx.annotate(containers=len(self._publications))
                # Where hundreds come at once, targets hear of them together.
                await trio.lowlevel.checkpoint()

    async def _take(self, vmid: int) -> None:
        given = self._containers.publication(vmid)
        if given == self._given.get(vmid):
            return
        if given is None:
            self._given.pop(vmid, None)
            self._publications.pop(vmid, None)
            self._numbers.forget(vmid)
        else:
            self._publications[vmid] = await self._numbered(given)
            self._given[vmid] = given
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
