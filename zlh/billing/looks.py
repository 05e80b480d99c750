"""Looking at Stripe: what it has of a customer is fetched whole and written whole. Nothing that a webhook says is
ever believed, so it does not matter which of them come, how often, and in what order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import sqlalchemy as sa

from zlh.billing.standings import Settled, Standings
from zlh.drivers.errors import Invalid, NotFound
from zlh.drivers.stripe import StripeDriver
from zlh.model.billing import Customer, Subscription, SubscriptionStatus
from zlh.store import accounts, billing_customers, subscriptions
from zlh.store.database import Database

log = logging.getLogger("zlh.billing")

TRIES = 3

FORGOTTEN = "Stripe does not know a customer that it made: the key may be of another account, or another mode"
"""Customers that are deleted say so for ever. Whoever believed that an unknown one is gone would suspend everybody,
once with the key of another account."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look found. `account_id` is None for a customer that is nobody's here."""

    customer: Customer
    account_id: int | None
    subscriptions: tuple[Subscription, ...]


class Looks:
    """Everything may raise DriverErrors and StoreUnavailable: then nothing is known that was not known before."""

    def __init__(
        self, database: Database, stripe: StripeDriver, standings: Standings, now: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._stripe = stripe
        self._standings = standings
        self._now = now

    async def customer(self, customer_id: str) -> Seen:
        """What Stripe has of the customer, and with it all that follows for its account."""
        for _ in range(TRIES):
            number, ours = await self._database.run(_begin, customer_id)
            # From before the question: what it answers is at least as new.
            looked_at = self._now()
            found, present = await self._fetch(customer_id, looked_at, ours=ours)
            written = await self._database.run(partial(self._write, number, looked_at, found, present))
            if written is not None:
                seen, settled = written
                if settled is not None:
                    self._standings.announce(settled)
                return seen
        # Others look at this one all the time; what they wrote is newer than when this was asked for.
        known = await self._database.run(billing_customers.get, customer_id)
        present = await self._database.run(subscriptions.of_customer, customer_id)
        return Seen(Customer(customer_id, None), known.account_id if known else None, tuple(present))

    async def account(self, account_id: int) -> Seen | None:
        """The same by account; None where it is no customer."""
        known = await self._database.run(billing_customers.of_account, account_id)
        return None if known is None else await self.customer(known.id)

    async def _fetch(
        self, customer_id: str, looked_at: datetime, *, ours: bool
    ) -> tuple[Customer, list[Subscription]]:
        """`ours`: an account here pays as that customer. Raises Invalid where Stripe contradicts itself."""
        try:
            found = await self._stripe.customer(customer_id)
        except NotFound:
            if ours:
                raise Invalid(FORGOTTEN) from None
            found = Customer(customer_id, None, deleted=True)
        try:
            return found, await self._stripe.subscriptions(customer_id, looked_at)
        except NotFound:
            # It may have been deleted between the two questions.
            found = found if found.deleted else await self._stripe.customer(customer_id)
            if not found.deleted:
                raise Invalid(f"Stripe does not have all of {customer_id}") from None
            return found, []

    def _write(
        self,
        number: int,
        looked_at: datetime,
        found: Customer,
        present: list[Subscription],
        connection: sa.Connection,
    ) -> tuple[Seen, Settled | None] | None:
        """None where somebody who began later was quicker."""
        if found.foreign:
            return Seen(found, None, tuple(present)), None
        before = billing_customers.get(connection, found.id)
        known_owner = before.account_id if before is not None else None
        account_id = known_owner or _owner(connection, found)
        # Accounts are held before customers, everywhere.
        if account_id is not None:
            accounts.lock(connection, account_id)
        known = billing_customers.add(connection, found.id, account_id, looked_at)
        deleted_at = looked_at if found.deleted else None
        if not billing_customers.end_look(connection, found.id, number, looked_at, deleted_at):
            return None
        former = [] if known.account_id is None else subscriptions.of_account(connection, known.account_id)
        present = [*present, *_vanished(subscriptions.of_customer(connection, found.id), present, looked_at)]
        subscriptions.put(connection, found.id, present)
        settled = None
        if known.account_id is not None:
            settled = self._standings.write(connection, known.account_id, former)
        return Seen(found, known.account_id, tuple(present)), settled


def _begin(connection: sa.Connection, customer_id: str) -> tuple[int, bool]:
    known = billing_customers.get(connection, customer_id)
    ours = known is not None and known.account_id is not None and known.deleted_at is None
    return billing_customers.begin_look(connection), ours


def _owner(connection: sa.Connection, found: Customer) -> int | None:
    """The account that a customer of nobody's was made for: we died between making it and writing that, or somebody
    said so at Stripe since."""
    if found.account_id is None or found.deleted:
        return None
    return found.account_id if accounts.by_id(connection, found.account_id) is not None else None


def _vanished(
    former: Collection[Subscription], present: Collection[Subscription], now: datetime
) -> list[Subscription]:
    """What Stripe had of a customer and has no more: it went with a customer that was deleted."""
    there = {subscription.id for subscription in present}
    return [
        replace(one, status=SubscriptionStatus.CANCELED, ended_at=one.ended_at or now, looked_at=now)
        for one in former
        if one.id not in there and one.status is not SubscriptionStatus.CANCELED
    ]
