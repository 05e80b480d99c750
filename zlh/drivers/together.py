"""Several calls at once, but not too many."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import trio

from zlh.drivers.errors import DriverError

Item = TypeVar("Item")
Result = TypeVar("Result")


async def together(
    items: Iterable[Item], work: Callable[[Item], Awaitable[Result]], *, most: int
) -> list[tuple[Item, Result]]:
    """What `work` returned for each item, as it came, with up to `most` at a time. The first DriverError ends all
    and is raised; other exceptions leave as the nursery's."""
    waiting = iter(items)
    done: list[tuple[Item, Result]] = []
    failed: list[DriverError] = []

    async def take() -> None:
        for item in waiting:
            try:
                done.append((item, await work(item)))
            except DriverError as error:
                failed.append(error)
                nursery.cancel_scope.cancel()
                return

    async with trio.open_nursery() as nursery:
        for _ in range(most):
            nursery.start_soon(take)
    if failed:
        raise failed[0]
    return done
