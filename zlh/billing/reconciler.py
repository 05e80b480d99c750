"""Compares everything with Stripe: nightly, when asked, and after an outage. What differs is looked at; what is
left is reported."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
import trio

from zlh.billing.invariants import Books, Finding, Kind, Machine, findings
from zlh.billing.looks import Looks
from zlh.billing.standings import Standings
from zlh.drivers.errors import DriverError, Invalid, NotFound
from zlh.drivers.stripe import StripeDriver
from zlh.model.billing import BillingEvent, Subscription, SubscriptionStatus
from zlh.model.plans import Plan
from zlh.store import (
    StoreUnavailable,
    accounts,
    billing_customers,
    billing_events,
    billing_orders,
    billing_reports,
    subscriptions,
)
from zlh.store.billing_reports import Report
from zlh.store.database import Database

log = logging.getLogger("zlh.billing")

NIGHTLY: Final = timedelta(hours=24)
AGAIN: Final = timedelta(minutes=10)
"""One that could not ask Stripe is tried again after this."""

BEAT_SECONDS: Final = 60.0
KEPT_BY_STRIPE: Final = timedelta(days=29)
ENDED: Final = SubscriptionStatus.CANCELED
BATCH: Final = 100
OVERLAP: Final = timedelta(minutes=15)
"""Events are asked for from a while before the last time that they were: clocks differ."""

CATCH_UP: Final = timedelta(hours=1)


# Every container with its power as it was last seen.
Machines = Callable[[], list[Machine]]


class Reconciler:
    """`last` is what this process found last. `stripe` and `looks` are None where there is no Stripe: then only
    what is here is compared with itself."""

    def __init__(
        self,
        database: Database,
        stripe: StripeDriver | None,
        looks: Looks | None,
        standings: Standings,
        machines: Machines,
        plans: Mapping[str, Plan],
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._stripe = stripe
        self._looks = looks
        self._standings = standings
        self._machines = machines
        self._plans = plans
        self._now = now
        self._alone = trio.Lock()
        self._caught_up: datetime | None = None
        self.last: Report | None = None

    async def run(self, annotate: Callable[..., None]) -> None:
        """Catches up with events that never came, at start, every hour and after Stripe was away; compares everything
        every night. Runs until cancelled."""
        away = True
        while True:
            try:
                if away or self._caught_up is None or abs(self._now() - self._caught_up) >= CATCH_UP:
                    # Where it is away: once it answers again, what was missed is asked for at once.
                    away = not await self._catch_up(annotate)
                if self.last is None:
                    self.last = await self._database.run(billing_reports.last)
                if await self._due():
                    report = await self.reconcile("nightly")
                    annotate(findings=len(report.findings), error=report.error)
            except StoreUnavailable as error:
                log.warning("comparing with Stripe waits for the database: %s", error)
            await trio.sleep(BEAT_SECONDS)

    async def _catch_up(self, annotate: Callable[..., None]) -> bool:
        try:
            missed = await self.catch_up()
        except DriverError as error:
            annotate(error=error.message)
            return False
        annotate(missed=missed, caught_up=self._caught_up)
        return True

    async def _due(self) -> bool:
        whole = await self._database.run(billing_reports.last, complete=True)
        last = await self._database.run(billing_reports.last)
        now = self._now()
        # One of the future was made by a clock that was set back since.
        late = whole is None or abs(now - whole.ended_at) >= NIGHTLY
        return late and (last is None or abs(now - last.ended_at) >= AGAIN)

    async def _receive(self, batch: Sequence[BillingEvent], now: datetime) -> int:
        """In one transaction: of thousands that are known already each would be one for nothing."""
        return await self._database.run(
            lambda connection: sum(billing_events.receive(connection, event, now) for event in batch)
        )

    async def catch_up(self) -> int:
        """Puts into the inbox what happened and never came; how many events. Raises DriverError."""
        if self._stripe is None:
            return 0
        now = self._now()
        known = await self._known_until()
        # From a clock that was set back since, nobody knows when that was.
        since = now - KEPT_BY_STRIPE if known > now else max(known - OVERLAP, now - KEPT_BY_STRIPE)
        came, batch = 0, list[BillingEvent]()
        async for event in self._stripe.events_since(since):
            batch.append(event)
            if len(batch) == BATCH:
                came += await self._receive(batch, now)
                batch = []
        came += await self._receive(batch, now)
        if came:
            log.info("%d events of billing had not come by themselves", came)
        self._caught_up = now
        return came

    async def _known_until(self) -> datetime:
        """All that happened before then came. What came since says nothing of what was lost before it."""
        if self._caught_up is not None:
            return self._caught_up
        whole = await self._database.run(billing_reports.last, complete=True)
        return whole.started_at if whole is not None else self._now() - CATCH_UP

    async def reconcile(self, why: str, *, dry_run: bool = False) -> Report:
        """What was found, with what was repaired; one at a time. In a dry run nothing is changed or kept. `error`
        says that Stripe could not be asked. Raises StoreUnavailable."""
        async with self._alone:
            started_at = self._now()
            repaired: list[Finding] = []
            error: str | None = None
            try:
                error = await self._compare(repaired, dry_run=dry_run)
                if not dry_run:
                    # What was repaired stays known also where an event cannot be read.
                    await self.catch_up()
            except DriverError as problem:
                error = error or problem.message
            repaired += await self._settle(dry_run=dry_run)
            compared_at = None if error is not None else self._now()
            _, left = await self.judged(compared_at)
            # What was looked at and repaired is not left; in a dry run it is both.
            known = {(finding.kind, finding.account_id) for finding in repaired}
            left = [finding for finding in left if (finding.kind, finding.account_id) not in known]
            found = [finding.as_dict() for finding in (*repaired, *left)]
            report = self.last = Report(why, started_at, self._now(), error, found)
            if not dry_run:
                await self._database.run(billing_reports.add, report)
            return report

    async def judged(self, compared_at: datetime | None = None) -> tuple[Books, list[Finding]]:
        """The books, and all that is wrong or proposed in them. Raises StoreUnavailable."""
        books = await self.books(compared_at)
        # Of 5,000 customers it takes a fifth of a second, in which nobody else would be served.
        return books, await trio.to_thread.run_sync(findings, books)

    async def books(self, compared_at: datetime | None = None) -> Books:
        """All that is known now; nothing is asked of Stripe. Raises StoreUnavailable."""
        machines = self._machines()

        def read(connection: sa.Connection) -> Books:
            _, oldest, problem = billing_events.waiting(connection)
            last = billing_reports.last(connection, complete=True)
            return Books(
                accounts={account.id: account for account in accounts.all_accounts(connection)},
                customers=billing_customers.all_customers(connection),
                subscriptions=subscriptions.all_subscriptions(connection),
                machines=machines,
                plans=self._plans,
                disputes=billing_reports.all_disputes(connection),
                orders=billing_orders.open_since(connection, self._now()),
                inbox_oldest=oldest,
                inbox_error=problem,
                compared_at=compared_at or (last.ended_at if last is not None else None),
                selling=self._stripe is not None,
                now=self._now(),
            )

        return await self._database.run(read)

    async def _compare(self, found: list[Finding], *, dry_run: bool) -> str | None:
        """Looks at every customer of whom Stripe's list says something else than what is known, and adds that to
        `found`. What was wrong with one who could not be looked at: that keeps nobody else from it."""
        if self._stripe is None or self._looks is None:
            return None
        started_at = self._now()
        there: dict[str, list[Subscription]] = defaultdict(list)
        async for subscription in self._stripe.all_subscriptions(started_at):
            there[subscription.customer_id].append(subscription)
        here: dict[str, list[Subscription]] = defaultdict(list)
        for subscription in await self._database.run(subscriptions.all_subscriptions):
            here[subscription.customer_id].append(subscription)
        customers = await self._database.run(billing_customers.all_customers)
        error: str | None = None
        for customer_id in sorted(there.keys() | here.keys()):
            # What is over may be forgotten there, with a customer that was deleted.
            listed = {one.id for one in there[customer_id]}
            present = [one for one in here[customer_id] if one.id in listed or one.status is not ENDED]
            # A look by a clock that was ahead said what will be, and not what is.
            seen = all(one.looked_at <= started_at + OVERLAP for one in present)
            if seen and _same(there[customer_id], present):
                continue
            known = customers.get(customer_id)
            if known is None and await self._is_foreign(customer_id):
                continue
            finding = Finding(
                Kind.DIFFERENT_AT_STRIPE,
                f"here {_words(here[customer_id])}, at Stripe {_words(there[customer_id])}",
                known.account_id if known is not None else None,
                customer_id,
                repair="would be looked at" if dry_run else "looked at, and written",
            )
            try:
                if not dry_run:
                    finding = replace(finding, account_id=(await self._looks.customer(customer_id)).account_id)
            except Invalid as problem:
                error = f"{customer_id}: {problem.message}"
                finding = replace(finding, repair=None)
            found.append(finding)
        return error

    async def _is_foreign(self, customer_id: str) -> bool:
        assert self._stripe is not None
        try:
            return (await self._stripe.customer(customer_id)).foreign
        except (NotFound, Invalid):
            # Whoever looks at it finds out what is wrong.
            return False

    async def _settle(self, *, dry_run: bool) -> list[Finding]:
        """What follows from what is known is written where it is not."""
        _, present = await self.judged()
        old = [one for one in present if one.kind is Kind.STANDING_IS_OLD]
        for finding in old:
            assert finding.account_id is not None
            if not dry_run:
                await self._standings.settle(finding.account_id)
        repair = "would be reckoned anew" if dry_run else "reckoned anew"
        return [replace(finding, repair=repair) for finding in old]


def _same(there: Iterable[Subscription], here: Iterable[Subscription]) -> bool:
    return {_essence(one) for one in there} == {_essence(one) for one in here}


def _essence(one: Subscription) -> tuple[object, ...]:
    """What a list of Stripe's tells of a subscription."""
    return (one.id, one.status, one.price_id, one.amount, one.currency, one.period_end, one.cancel_at, one.ended_at)


def _words(known: Iterable[Subscription]) -> str:
    return ", ".join(f"{one.id} {one.status} {one.price_id}" for one in known) or "nothing"
