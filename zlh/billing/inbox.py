"""The worker behind the webhooks: takes what came in and looks at the customers that it was about."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

import trio

from zlh.billing.looks import Looks
from zlh.drivers.errors import DriverError, NotFound
from zlh.drivers.stripe import StripeDriver
from zlh.store import StoreUnavailable, billing_events, billing_reports
from zlh.store.billing_events import DueEvent
from zlh.store.database import Database
from zlh.store.listener import listen
from zlh.store.notify import BILLING

log = logging.getLogger("zlh.billing")

BATCH: Final = 50
AT_ONCE: Final = 4
LEASE: Final = timedelta(minutes=1)
BEAT_SECONDS: Final = 15.0
FIRST_PAUSE_SECONDS: Final = 2.0
LONGEST_PAUSE_SECONDS: Final = 300.0

ABOUT_CUSTOMERS: Final = ("checkout.session.", "customer.", "invoice.", "subscription_schedule.")
DISPUTES: Final = "charge.dispute."


class Inbox:
    """`waiting` is how many were not done when that was last looked at.

    An event is done once everything that it could be about was looked at; one that cannot be is tried again, for
    as long as it takes."""

    def __init__(self, database: Database, stripe: StripeDriver, looks: Looks, now: Callable[[], datetime]) -> None:
        self._database = database
        self._stripe = stripe
        self._looks = looks
        self._now = now
        self._news = trio.Event()
        self._done = self._failed = 0
        self.waiting = 0

    async def run(self, annotate: Callable[..., None]) -> None:
        """Runs until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            while True:
                # Before looking: news that come while we look are news.
                self._news = trio.Event()
                try:
                    while await self.round():
                        annotate(done=self._done, failed=self._failed)
                    waiting, oldest, error = await self._database.run(billing_events.waiting)
                    self.waiting = waiting
                    annotate(waiting=waiting, oldest=oldest, error=error, done=self._done, failed=self._failed)
                except StoreUnavailable as error:
                    log.warning("the inbox of billing waits for the database: %s", error)
                with trio.move_on_after(BEAT_SECONDS):
                    await self._news.wait()

    async def round(self) -> int:
        """Works on what is due, a customer's all at once; how many events there were. Raises StoreUnavailable."""
        taken = await self._database.run(billing_events.take, self._now(), most=BATCH, lease=LEASE)
        groups: dict[str | None, list[DueEvent]] = defaultdict(list)
        disputes = [event for event in taken if event.type.startswith(DISPUTES)]
        for event in taken:
            if event not in disputes:
                groups[event.customer_id if event.type.startswith(ABOUT_CUSTOMERS) else None].append(event)
        await self._finish(groups.pop(None, []))
        limiter = trio.CapacityLimiter(AT_ONCE)
        async with trio.open_nursery() as nursery:
            for customer_id, events in groups.items():
                assert customer_id is not None
                nursery.start_soon(self._look, limiter, customer_id, events)
            for event in disputes:
                nursery.start_soon(self._dispute, limiter, event)
        return len(taken)

    async def _listen(self) -> None:
        async with listen(self._database.url, BILLING) as events:
            async for _ in events:
                self._news.set()

    async def _look(self, limiter: trio.CapacityLimiter, customer_id: str, events: Sequence[DueEvent]) -> None:
        async with limiter:
            try:
                await self._looks.customer(customer_id)
            except DriverError as error:
                await self._put_off(events, error.message)
            except StoreUnavailable as error:
                # The lease ends by itself.
                log.warning("%d events of billing are looked at again: %s", len(events), error)
            else:
                await self._finish(events)

    async def _dispute(self, limiter: trio.CapacityLimiter, event: DueEvent) -> None:
        async with limiter:
            try:
                dispute = await self._stripe.dispute(event.subject_id)
                await self._database.run(billing_reports.put_dispute, dispute)
            except NotFound:
                await self._finish([event])
            except DriverError as error:
                await self._put_off([event], error.message)
            except StoreUnavailable as error:
                log.warning("a dispute is looked at again: %s", error)
            else:
                log.warning("dispute %s of %s: %s", dispute.id, dispute.customer_id, dispute.status)
                await self._finish([event])

    async def _finish(self, events: Sequence[DueEvent]) -> None:
        try:
            for event in events:
                await self._database.run(billing_events.done, event, self._now())
                self._done += 1
        except StoreUnavailable as error:
            log.warning("events of billing are looked at again: %s", error)

    async def _put_off(self, events: Sequence[DueEvent], error: str) -> None:
        self._failed += len(events)
        try:
            for event in events:
                pause = min(FIRST_PAUSE_SECONDS * 2 ** min(event.attempts - 1, 16), LONGEST_PAUSE_SECONDS)
                again = self._now() + timedelta(seconds=pause)
                await self._database.run(billing_events.put_off, event, again, error)
        except StoreUnavailable as away:
            log.warning("events of billing are looked at again: %s", away)
