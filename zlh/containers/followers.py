"""Who follows which operation. Each published state is the whole operation, so a slow follower may skip some."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import trio

from zlh.model.operations import Operation


class Follower:
    """Yields the newest state not yet seen, and ends after a final one."""

    def __init__(self, operation: Operation) -> None:
        self._newest = operation
        self._seen = -1
        self._ended = False
        self._wake = trio.Event()
        self._wake.set()

    def publish(self, operation: Operation) -> None:
        if operation.revision > self._newest.revision:
            self._newest = operation
            self._wake.set()

    def __aiter__(self) -> AsyncIterator[Operation]:
        return self

    async def __anext__(self) -> Operation:
        if self._ended:
            raise StopAsyncIteration
        while self._newest.revision <= self._seen:
            self._wake = trio.Event()
            await self._wake.wait()
        self._seen = self._newest.revision
        self._ended = self._newest.state.final
        return self._newest


class Followers:
    def __init__(self) -> None:
        self._followers: dict[str, set[Follower]] = {}

    def publish(self, operation: Operation) -> None:
        """Never waits."""
        for follower in self._followers.get(operation.id, ()):
            follower.publish(operation)

    @contextmanager
    def follow(self, operation: Operation) -> Iterator[Follower]:
        """`operation` is the state known so far; join before reading it from the store, and nothing is missed."""
        follower = Follower(operation)
        joined = self._followers.setdefault(operation.id, set())
        joined.add(follower)
        try:
            yield follower
        finally:
            joined.discard(follower)
            if not joined:
                self._followers.pop(operation.id, None)
