"""What the scheduler and its work write down; the store's functions, each in a transaction of its own."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from datetime import datetime
from typing import Final, Protocol, TypeVar

import trio

from zlh.store import Database, StoreUnavailable
from zlh.store import schedule_runs as runs
from zlh.store.listener import listen
from zlh.store.notify import SCHEDULES
from zlh.store.schedule_runs import Claim, Ending, Round

T = TypeVar("T")

log = logging.getLogger("zlh.schedules")

PAUSE_SECONDS: Final = 5.0


async def patiently(work: Callable[[], Awaitable[T]]) -> T:
    """Tries again for as long as the store is away: what was done at an agent must not be forgotten."""
    while True:
        try:
            return await work()
        except StoreUnavailable as error:
            log.warning("a schedule's run waits for the database: %s", error)
        await trio.sleep(PAUSE_SECONDS)


class Ledger(Protocol):
    """`take`, `renew` and `let_go` may raise StoreUnavailable; the others wait until the store is there.
    See `zlh.store.schedule_runs`."""

    async def hear(self, nudge: Callable[[], None]) -> None:
        """Calls `nudge` when schedules change, and whenever that may have been missed; runs until cancelled."""

    async def take(self, claim: Claim, most: int) -> Round: ...

    async def renew(self, run_ids: Collection[int], claim: Claim) -> set[int]: ...

    async def end(self, run_id: int, owner: str, ending: Ending, now: datetime) -> bool: ...

    async def let_go(self, run_ids: Collection[int], owner: str) -> None: ...

    async def made(self, run_id: int, schedule_id: str, backup_id: str) -> None: ...

    async def backups_of(self, vmid: int) -> dict[str, str]: ...

    async def forget_backups(self, schedule_id: str, backup_ids: Iterable[str]) -> None: ...


class StoreLedger:
    """The real one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def hear(self, nudge: Callable[[], None]) -> None:
        async with listen(self._database.url, SCHEDULES) as events:
            async for _ in events:
                nudge()

    async def take(self, claim: Claim, most: int) -> Round:
        return await self._database.run(runs.take, claim, most)

    async def renew(self, run_ids: Collection[int], claim: Claim) -> set[int]:
        return await self._database.run(runs.renew, run_ids, claim)

    async def end(self, run_id: int, owner: str, ending: Ending, now: datetime) -> bool:
        return await patiently(lambda: self._database.run(runs.end, run_id, owner, ending, now))

    async def let_go(self, run_ids: Collection[int], owner: str) -> None:
        await self._database.run(runs.let_go, run_ids, owner)

    async def made(self, run_id: int, schedule_id: str, backup_id: str) -> None:
        await patiently(lambda: self._database.run(runs.made, run_id, schedule_id, backup_id))

    async def backups_of(self, vmid: int) -> dict[str, str]:
        return await patiently(lambda: self._database.run(runs.backups_of, vmid))

    async def forget_backups(self, schedule_id: str, backup_ids: Iterable[str]) -> None:
        await patiently(lambda: self._database.run(runs.forget_backups, schedule_id, list(backup_ids)))
