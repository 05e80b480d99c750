"""What time alone changes: the end of a grace, of a plan that was given, of a period that nobody told was renewed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import trio

from zlh.billing.looks import Looks
from zlh.billing.standings import Standings
from zlh.drivers.errors import DriverError
from zlh.store import StoreUnavailable, accounts
from zlh.store.database import Database

log = logging.getLogger("zlh.billing")

BATCH: Final = 100
BEAT_SECONDS: Final = 15.0
AGAIN: Final = timedelta(minutes=1)
"""A look at Stripe that failed is tried again after this; meanwhile nothing changes for the customer."""


class Timekeeper:
    """`looks` is None where there is no Stripe: then only what operators gave ends."""

    def __init__(
        self, database: Database, standings: Standings, looks: Looks | None, now: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._standings = standings
        self._looks = looks
        self._now = now

    async def run(self, annotate: Callable[..., None]) -> None:
        """Runs until cancelled."""
        while True:
            pause = BEAT_SECONDS
            try:
                while await self.round():
                    pass
                due_at = await self._database.run(accounts.next_billing_due)
                annotate(next=due_at)
                if due_at is not None:
                    pause = min(max((due_at - self._now()).total_seconds(), 0.05), BEAT_SECONDS)
            except StoreUnavailable as error:
                log.warning("billing waits for the database: %s", error)
            await trio.sleep(pause)

    async def round(self) -> int:
        """Reckons anew for whom it is time; how many there were. Raises StoreUnavailable."""
        due = await self._database.run(accounts.billing_due, self._now(), BATCH)
        for account_id in due:
            await self._reckon(account_id)
        return len(due)

    async def _reckon(self, account_id: int) -> None:
        settled = await self._standings.settle(account_id)
        look_at = settled.entitled.look_at
        if look_at is None or look_at > self._now():
            return
        try:
            if self._looks is not None:
                await self._looks.account(account_id)
        except DriverError as error:
            log.warning("account %d: what it paid is not known: %s", account_id, error.message)
        # A look that answered makes it due another time; after one that could not it is due still.
        now = self._now()
        await self._database.run(accounts.put_off_billing, account_id, now, now + AGAIN)
