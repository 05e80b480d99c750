"""Carries out orders at Stripe, each as often as it takes and once: it looks what is there before it tells, and tells
with a key that is the order's own."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
import trio

from zlh.billing.looks import Looks
from zlh.drivers.errors import Conflict, DriverError, NotFound, Refused
from zlh.drivers.stripe import StripeDriver
from zlh.model.accounts import Account
from zlh.model.billing import Subscription
from zlh.model.billing_orders import Order, OrderKind, OrderState
from zlh.store import StoreUnavailable, accounts, billing_customers, billing_orders
from zlh.store.billing_customers import KnownCustomer
from zlh.store.database import Database

log = logging.getLogger("zlh.billing")

BATCH: Final = 20
LEASE: Final = timedelta(minutes=1)
BEAT_SECONDS: Final = 15.0
AGAIN: Final = timedelta(seconds=30)
PAGE_LIFE: Final = timedelta(hours=1)
"""Of a checkout page; Stripe allows half an hour at least and a day at most."""

PATIENCE: Final = timedelta(minutes=25)
"""An order that Stripe did not hear of within this time is given up: nobody waits for it any more."""


class Carrier:
    """`success_url` and `cancel_url` are the Portal's pages after a checkout."""

    def __init__(
        self,
        database: Database,
        stripe: StripeDriver,
        looks: Looks,
        *,
        installation: str,
        success_url: str,
        cancel_url: str,
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._stripe = stripe
        self._looks = looks
        self._installation = installation
        self._success_url = success_url
        self._cancel_url = cancel_url
        self._now = now
        self._work: Mapping[OrderKind, Callable[[Order], Awaitable[dict[str, Any]]]] = {
            OrderKind.SUBSCRIBE: self._subscribe,
            OrderKind.SWITCH: self._switch,
            OrderKind.SWITCH_LATER: self._switch_later,
            OrderKind.CANCEL: self._cancel,
            OrderKind.RESUME: self._resume,
        }

    async def carry_out(self, order: Order) -> Order:
        """The order as it is then: done, whoever did it. Raises Refused, Conflict and NotFound where it is over and
        nothing was changed, other DriverErrors and StoreUnavailable where it stays open and goes on by itself."""
        try:
            found = await self._work[order.kind](order)
        except (Refused, Conflict, NotFound) as error:
            ended = await self._finish(order, OrderState.REFUSED, {}, error.message)
            if ended.state is not OrderState.DONE:
                raise
        else:
            ended = await self._finish(order, OrderState.DONE, found, None)
            if ended.state is not OrderState.DONE:
                raise Conflict(ended.error or "it was given up meanwhile")
        await self._look_after(order)
        return ended

    async def run(self, annotate: Callable[..., None]) -> None:
        """Goes on with orders that nobody carries on any more; runs until cancelled."""
        while True:
            try:
                annotate(carried_on=await self.round())
            except StoreUnavailable as error:
                log.warning("orders of billing wait for the database: %s", error)
            await trio.sleep(BEAT_SECONDS)

    async def round(self) -> int:
        """Goes on with those that are due; how many there were. Raises StoreUnavailable."""
        taken = await self._database.run(billing_orders.take, self._now(), most=BATCH, lease=LEASE)
        for order in taken:
            await self._go_on(order)
        return len(taken)

    async def _go_on(self, order: Order) -> None:
        try:
            await self.carry_out(order)
        except (Refused, Conflict, NotFound) as error:
            log.warning("order %s (%s) ended: %s", order.id, order.kind, error.message)
        except DriverError as error:
            await self._database.run(billing_orders.put_off, order, self._now() + AGAIN, error.message)
        else:
            log.info("order %s (%s) was carried on and is done", order.id, order.kind)

    async def _finish(self, order: Order, state: OrderState, found: Mapping[str, Any], error: str | None) -> Order:
        now = self._now()

        def write(connection: sa.Connection) -> Order:
            return billing_orders.finish(connection, order, state, now, found=found, error=error)

        return await self._database.run(write)

    async def _look_after(self, order: Order) -> None:
        """What follows for the account, at once; a webhook would bring it a moment later."""
        try:
            await self._looks.account(order.account_id)
        except DriverError as error:
            log.info("what followed from order %s is not seen yet: %s", order.id, error.message)

    # One kind each

    async def _subscribe(self, order: Order) -> dict[str, Any]:
        self._refuse_late(order)
        account = await self._database.run(accounts.by_id, order.account_id)
        assert account is not None
        session = await self._stripe.open_checkout(
            account.id,
            await self._customer(account),
            order.arguments["price"],
            success_url=self._success_url,
            cancel_url=self._cancel_url,
            expires_at=order.created_at + PAGE_LIFE,
            key=order.key("session"),
        )
        if session.url is None:
            raise Conflict("the page is closed already")
        return {"session": session.id, "url": session.url, "expires_at": session.expires_at.isoformat()}

    async def _customer(self, account: Account) -> str:
        """Stripe's customer of the account, made where there is none. The key is the account's: two orders make
        one, unless the account has another address or name since. Then there may be two, of which the account keeps
        one: with one key for both, Stripe would refuse the second for a day."""
        # Counted first: who goes on with the same order beside us may make one between the two questions.
        number = await self._database.run(billing_customers.count_of, account.id)
        known = await self._database.run(billing_customers.of_account, account.id)
        if known is not None:
            return known.id
        made = await self._stripe.create_customer(
            account.id,
            account.email,
            account.username,
            key=f"{self._installation}-{account.id}-{int(account.created_at.timestamp())}-customer-{number}"
            f"-{_digest(account)}",
        )

        def write(connection: sa.Connection) -> KnownCustomer | None:
            billing_customers.add(connection, made.id, account.id, self._now())
            return billing_customers.of_account(connection, account.id)

        added = await self._database.run(write)
        if added is None:
            raise Conflict("the customer was deleted at Stripe meanwhile")
        return added.id

    async def _switch(self, order: Order) -> dict[str, Any]:
        present, price = await self._present(order), order.arguments["price"]
        if present.price_id != price:
            self._refuse_late(order)
            if present.price_id != order.arguments["from"]:
                raise Conflict("the plan was changed meanwhile")
            at = datetime.fromtimestamp(order.arguments["at"], UTC)
            await self._stripe.change_price(present, price, at, key=order.key("switch"))
        # A change that was chosen before for the end of the period; where the payment fails it stays as well.
        if present.schedule_id is not None:
            await self._stripe.stay_at_price(present.schedule_id, key=order.key("stay"))
        return {}

    async def _switch_later(self, order: Order) -> dict[str, Any]:
        present, price = await self._present(order), order.arguments["price"]
        if price in (present.next_price_id, present.price_id):
            return {}
        self._refuse_late(order)
        await self._stripe.change_price_later(present, price, key=order.key("later"))
        return {}

    async def _cancel(self, order: Order) -> dict[str, Any]:
        present = await self._present(order)
        if present.cancel_at is not None:
            return {}
        if present.schedule_id is not None:
            await self._stripe.stay_at_price(present.schedule_id, key=order.key("stay"))
        await self._stripe.let_end(present.id, key=order.key("cancel"))
        return {}

    async def _resume(self, order: Order) -> dict[str, Any]:
        present = await self._present(order)
        if present.schedule_id is not None:
            await self._stripe.stay_at_price(present.schedule_id, key=order.key("stay"))
        if present.cancel_at is not None:
            await self._stripe.let_go_on(present.id, key=order.key("resume"))
        return {}

    async def _present(self, order: Order) -> Subscription:
        """The subscription that the order is about, as Stripe says now. Raises Conflict where it is over."""
        seen = await self._looks.account(order.account_id)
        for one in seen.subscriptions if seen is not None else ():
            if one.id == order.arguments["subscription"] and one.status.live:
                return one
        raise Conflict("the subscription is over")

    def _refuse_late(self, order: Order) -> None:
        if self._now() - order.created_at > PATIENCE:
            raise Conflict("Stripe was away for too long, and nothing was changed")


def _digest(account: Account) -> str:
    """Of what Stripe is told of the account's person."""
    told = f"{account.email}\n{account.username}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(told).hexdigest()[:16]
