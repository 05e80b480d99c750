"""Where customers order: subscribe, change the plan, let it end, take that back.

An order is recorded before Stripe is told, and its id makes the idempotency keys. Whoever dies in between leaves it
open; the next one asks Stripe the same again, which does it once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
import trio

from zlh.billing.carrier import Carrier
from zlh.billing.looks import Looks
from zlh.billing.problems import as_problem
from zlh.drivers.errors import DriverError
from zlh.drivers.stripe import StripeDriver
from zlh.model.accounts import Account
from zlh.model.billing import Preview, Subscription
from zlh.model.billing_orders import Order, OrderKind
from zlh.model.errors import ConflictError, InvalidError
from zlh.model.plans import Plan, Usage, exceeded_limits, plan_of_price, with_exceptions
from zlh.store import accounts, billing_customers, billing_orders, reservations
from zlh.store.database import Database

LEASE: Final = timedelta(minutes=1)
"""Longer than carrying one out takes, unless Stripe is slow: then two may be at it, and it is done once all the
same."""

CLOCKS_DIFFER: Final = timedelta(hours=1)
"""By our clock a page may be over that Stripe has open still: for so long after its end it is asked about."""

PREVIEW_GOOD: Final = timedelta(minutes=10)
TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a change of plan would mean. `exceeded` is what the containers have that the plan does not allow."""

    plan: Plan
    present: Plan | None
    preview: Preview
    exceeded: list[dict[str, Any]]
    period_end: datetime


class Desk:
    """Raises ProblemErrors: UnavailableError "stripe_unavailable" where Stripe does not answer (`details.order` goes
    on by itself where there is one), ConflictError where it is not possible now, InvalidError for a plan that nobody
    can have."""

    def __init__(
        self,
        database: Database,
        stripe: StripeDriver,
        looks: Looks,
        carrier: Carrier,
        plans: Mapping[str, Plan],
        *,
        return_url: str,
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._stripe = stripe
        self._looks = looks
        self._carrier = carrier
        self._plans = plans
        self._return_url = return_url
        self._now = now

    async def subscribe(self, account: Account, plan_name: str | None) -> str:
        """The address of the page on which the plan is paid; the same one for who asks twice. None: the cheapest."""
        plan = self._for_sale(plan_name)
        wish = {"plan": plan.name, "price": plan.stripe_price}
        for _ in range(TRIES):
            present = await self._present(account)
            if present is not None:
                raise self._subscribed(present)
            last = await self._database.run(billing_orders.last_done, account.id, OrderKind.SUBSCRIBE)
            url = await self._page_of_before(account, last, wish) or await self._open_page(account, last, wish)
            if url is not None:
                return url
        raise ConflictError(
            "pages for this account are opened all the time; try again in a moment",
            code="order_in_progress",
            retry_after=5,
        )

    async def portal(self, account: Account) -> str:
        """The address of Stripe's page with invoices and means of payment. Raises ConflictError "no_customer"."""
        customer = await self._database.run(billing_customers.of_account, account.id)
        if customer is None:
            raise ConflictError("there is nothing to show yet: choose a plan first", code="no_customer")
        with as_problem():
            return await self._stripe.portal(customer.id, self._return_url)

    async def forecast(self, account: Account, plan_name: str) -> Forecast:
        """What a change to the plan at this moment would cost and need."""
        plan = self._for_sale(plan_name)
        present = self._changeable(await self._present(account), plan)
        at = self._now().replace(microsecond=0)
        with as_problem():
            preview = await self._stripe.preview(present, plan.stripe_price, at)
        exceeded = await self._exceeded(account, plan)
        return Forecast(plan, plan_of_price(self._plans, present.price_id), preview, exceeded, present.period_end)

    async def switch(self, account: Account, plan_name: str, *, at: datetime | None, due_now: int | None) -> Order:
        """Changes the plan now, for what the forecast of the moment `at` said that is to be paid. Raises
        ConflictError "preview_changed", "in_use" (`details` say what is too much), PaymentRequiredError
        "payment_failed"."""
        plan = self._for_sale(plan_name)
        present = self._changeable(await self._present(account), plan)
        exceeded = await self._exceeded(account, plan)
        if exceeded:
            raise ConflictError(
                f"{plan.title or plan.name} is too small for what is in use: remove something first, or change at the"
                " end of the period",
                code="in_use",
                details={"plan": plan.name, "exceeded": exceeded},
            )
        if at is None or due_now is None or not abs(self._now() - at) < PREVIEW_GOOD:
            raise ConflictError("look at what it costs first", code="preview_needed")
        with as_problem():
            preview = await self._stripe.preview(present, plan.stripe_price, at)
        if preview.due_now != due_now:
            raise ConflictError("it costs something else by now; look again", code="preview_changed")
        wish = {
            "plan": plan.name,
            "price": plan.stripe_price,
            "subscription": present.id,
            "from": present.price_id,
            "at": int(at.timestamp()),
        }
        return await self._order(account, OrderKind.SWITCH, wish)

    async def switch_later(self, account: Account, plan_name: str) -> Order:
        """Changes the plan at the end of the period, whatever is in use then."""
        plan = self._for_sale(plan_name)
        present = self._changeable(await self._present(account), plan)
        if present.cancel_at is not None:
            raise ConflictError("the subscription is about to end; resume it first", code="ending")
        wish = {"plan": plan.name, "price": plan.stripe_price, "subscription": present.id, "from": present.price_id}
        return await self._order(account, OrderKind.SWITCH_LATER, wish)

    async def cancel(self, account: Account) -> Order:
        """Lets the subscription end with its period. Who asks twice is not told otherwise."""
        present = await self._needed(account)
        return await self._order(account, OrderKind.CANCEL, {"subscription": present.id})

    async def resume(self, account: Account) -> Order:
        """Takes back that it ends, or changes, with its period."""
        present = await self._needed(account)
        if present.cancel_at is None and present.next_price_id is None:
            raise ConflictError("the subscription goes on as it is", code="nothing_to_resume")
        return await self._order(account, OrderKind.RESUME, {"subscription": present.id})

    # How it is done

    async def _present(self, account: Account) -> Subscription | None:
        """The subscription that the account has, as Stripe says now."""
        with as_problem():
            seen = await self._looks.account(account.id)
        live = [one for one in seen.subscriptions if one.status.live] if seen is not None else []
        return max(live, key=lambda one: (not one.status.owing, one.created_at), default=None)

    async def _needed(self, account: Account) -> Subscription:
        present = await self._present(account)
        if present is None:
            raise ConflictError("there is no subscription", code="not_subscribed")
        return present

    def _for_sale(self, name: str | None) -> Plan:
        sold = [plan for plan in self._plans.values() if plan.for_sale]
        if name is None and sold:
            return min(sold, key=lambda plan: plan.price_cents)
        plan = self._plans.get(name or "")
        if plan is None or not plan.for_sale:
            raise InvalidError(f"there is no plan {name!r} for sale", code="unknown_plan")
        return plan

    def _changeable(self, present: Subscription | None, plan: Plan) -> Subscription:
        """Raises ConflictError where the subscription cannot become one of the plan."""
        if present is None:
            raise ConflictError("there is no subscription", code="not_subscribed")
        if present.status.owing:
            raise ConflictError("there is something to be paid first", code="payment_due")
        if present.currency != plan.currency:
            raise ConflictError(
                f"the subscription is paid in {present.currency.upper()}, the plan in {plan.currency.upper()}",
                code="currency_mismatch",
            )
        if plan.has_price(present.price_id):
            raise ConflictError("that is the plan already", code="same_plan")
        return present

    def _subscribed(self, present: Subscription) -> ConflictError:
        plan = plan_of_price(self._plans, present.price_id)
        return ConflictError(
            "there is a subscription already; change its plan instead",
            code="subscribed",
            details={"plan": plan.name if plan is not None else None, "status": present.status.value},
        )

    async def _exceeded(self, account: Account, plan: Plan) -> list[dict[str, Any]]:
        used: Usage = await self._database.run(reservations.usage, account.id)
        return exceeded_limits(with_exceptions(plan, account.plan_exceptions), used)

    async def _page_of_before(self, account: Account, last: Order | None, wish: Mapping[str, Any]) -> str | None:
        """Of a page that is open still there is only one: with two of them somebody could pay twice."""
        if last is None or datetime.fromisoformat(last.result["expires_at"]) + CLOCKS_DIFFER <= self._now():
            return None
        with as_problem():
            session = await self._stripe.checkout(last.result["session"])
        if session.complete:
            # It may have been paid since we looked; or what was paid there is over by now.
            present = await self._present(account)
            if present is not None:
                raise self._subscribed(present)
        if not session.open:
            return None
        if last.arguments == wish:
            return session.url
        try:
            await self._stripe.close_checkout(session.id)
        except DriverError as error:
            raise ConflictError(
                "another plan is being paid at this moment; look again", code="processing", retry_after=5
            ) from error
        return None

    async def _open_page(self, account: Account, last: Order | None, wish: Mapping[str, Any]) -> str | None:
        """None where another page was opened since `last`: somebody was quicker."""

        def begin(connection: sa.Connection) -> Order | None:
            accounts.lock(connection, account.id)
            if billing_orders.last_done(connection, account.id, OrderKind.SUBSCRIBE) != last:
                return None
            return billing_orders.begin(connection, account.id, OrderKind.SUBSCRIBE, wish, self._now(), lease=LEASE)

        order = await self._carried(begin)
        return None if order is None else str(order.result["url"])

    async def _order(self, account: Account, kind: OrderKind, wish: Mapping[str, Any]) -> Order:
        def begin(connection: sa.Connection) -> Order:
            accounts.lock(connection, account.id)
            return billing_orders.begin(connection, account.id, kind, wish, self._now(), lease=LEASE)

        order = await self._carried(begin)
        assert order is not None
        return order

    async def _carried(self, begin: Callable[[sa.Connection], Order | None]) -> Order | None:
        """Records what is wanted and carries it out, also where whoever asked goes away meanwhile."""
        with trio.CancelScope(shield=True):
            order = await self._database.run(begin)
            if order is None:
                return None
            with as_problem(order=order.id):
                done = await self._carrier.carry_out(order)
        return done
