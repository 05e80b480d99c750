"""A shop for tests: a simulated Stripe, a database, and all of billing between them, on Stripe's clock.

async with open_till(postgres_url) as till:
    ada = await till.account("ada")
    await till.buy(ada, "starter")
    await till.pass_time(days=32)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.store.samples import reserve
from zlh.billing import BillingServices, Machine, Selling, open_billing
from zlh.billing.desk import Desk
from zlh.billing.inbox import Inbox
from zlh.drivers.stripe import StripeDriver
from zlh.model.accounts import Account, Role
from zlh.model.audit import Act
from zlh.model.billing import BillingEvent, Subscription
from zlh.model.containers import Container, Power
from zlh.settings import load_plans
from zlh.simulators.stripe import KEY, Price, SimulatedStripe, open_stripe
from zlh.store import Database, Vault, accounts, billing_events, subscriptions
from zlh.store.tables import outbox

PLANS = load_plans(Path(__file__).parents[2] / "config" / "plans.toml")
PRICES = [
    *(Price(plan.stripe_price, plan.price_cents, lookup=plan.name) for plan in PLANS.values() if plan.for_sale),
    Price("price_of_old", 700),
    Price("price_dollars", 900, currency="usd"),
]
_KINDS = sa.select(outbox.c.kind).order_by(outbox.c.id)
SECRETS = ("whsec_new", "whsec_old")


@dataclass
class Till:
    """`told` are the accounts that were told of, `acts` what was noted for the audit record; `power` is what
    containers are seen to have."""

    stripe: SimulatedStripe
    database: Database
    driver: StripeDriver
    billing: BillingServices
    told: list[Account] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    power: dict[int, Power] = field(default_factory=dict)
    rows: list[Container] = field(default_factory=list)
    _read: int = 0

    @property
    def desk(self) -> Desk:
        assert self.billing.desk is not None
        return self.billing.desk

    @property
    def inbox(self) -> Inbox:
        assert self.billing.inbox is not None
        return self.billing.inbox

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.stripe.now(), UTC)

    async def account(self, name: str, *, plan: str | None = None, role: Role = Role.CUSTOMER) -> Account:
        def write(connection: sa.Connection) -> Account:
            return accounts.create(
                connection,
                email=f"{name}@example.com",
                username=name,
                password_hash="x",
                now=self.now(),
                role=role,
                plan=plan,
                email_verified_at=self.now(),
            )

        return await self.database.run(write)

    async def again(self, account: Account) -> Account:
        """The account as it is now."""
        found = await self.database.run(accounts.by_id, account.id)
        assert found is not None
        return found

    async def container(self, owner: Account) -> Container:
        """One that runs."""

        def write(connection: sa.Connection) -> Container:
            return reserve(connection, owner.id, now=self.now())[0]

        row = await self.database.run(write)
        self.rows.append(row)
        self.power[row.vmid] = Power.ON
        return row

    def machines(self) -> list[Machine]:
        return [Machine(row, self.power[row.vmid]) for row in self.rows]

    async def subscriptions(self, account: Account) -> list[Subscription]:
        return await self.database.run(subscriptions.of_account, account.id)

    async def letters(self) -> list[str]:
        """The kinds of all that was written to customers, the oldest first."""
        return await self.database.run(lambda connection: list(connection.execute(_KINDS).scalars()))

    # What happens at Stripe, and what comes of it here

    async def open_page(self, account: Account, plan: str) -> str:
        """The id of the checkout session that the customer is sent to."""
        url = await self.desk.subscribe(account, plan)
        return next(one["id"] for one in self.stripe.of("checkout.session") if one["url"] == url)

    async def buy(self, account: Account, plan: str = "starter") -> Account:
        """Paid for, and known here."""
        self.stripe.pay(await self.open_page(account, plan))
        await self.deliver()
        return await self.again(account)

    async def deliver(self, events: Iterable[dict[str, Any]] | None = None) -> None:
        """What Stripe told since the last time (or `events`) arrives, and is worked on."""
        if events is None:
            fresh = self.stripe.events
            events, self._read = fresh[self._read :], len(fresh)
        for event in events:
            await self.database.run(billing_events.receive, as_received(event), self.now())
        while await self.inbox.round():
            pass

    def lose(self) -> None:
        """What Stripe told since the last time never arrives."""
        self._read = len(self.stripe.events)

    async def pass_time(self, *, deliver: bool = True, **time: float) -> None:
        """In steps, so that what is due happens when it is due, here as there."""
        left = timedelta(**time).total_seconds()
        while left > 0:
            step = min(left, 24 * 3600.0)
            self.stripe.advance(step)
            left -= step
            if deliver:
                await self.deliver()
            while await self.billing.timekeeper.round():
                pass


def as_received(event: dict[str, Any]) -> BillingEvent:
    subject = event["data"]["object"]
    customer = subject["id"] if subject["object"] == "customer" else subject.get("customer")
    made = datetime.fromtimestamp(event["created"], UTC)
    return BillingEvent(event["id"], event["type"], made, subject["id"], customer)


@asynccontextmanager
async def open_till(postgres_url: str, *, mail: bool = True, **stripe: Any) -> AsyncIterator[Till]:
    database = Database(postgres_url, pool_size=4, vault=Vault([Vault.new_key()]))
    async with open_stripe(PRICES, **stripe) as far:
        driver = StripeDriver(far.url, KEY, "zlh", seconds=5)
        till = Till(far, database, driver, None)  # type: ignore[arg-type]
        till.billing = open_billing(
            database,
            PLANS,
            till.machines,
            Selling(driver, SECRETS, "zlh", "https://portal/paid", "https://portal/not", "https://portal/billing"),
            told=till.told.append,
            note=lambda act, _ending: till.acts.append(act),
            mail=mail,
            portal_url="https://portal/billing",
            now=till.now,
        )
        try:
            yield till
        finally:
            await driver.aclose()
            await database.aclose()
