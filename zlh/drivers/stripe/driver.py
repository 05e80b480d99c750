"""What we ask of Stripe. Whatever changes something there takes an idempotency key: asked twice, it is done once."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

import stripe
import trio
from stripe import HTTPXClient, StripeClient

from zlh.drivers.errors import Conflict, DriverError, Invalid, NotFound, Refused, Unreachable
from zlh.drivers.stripe.wire import (
    ACCOUNT,
    INSTALLATION,
    CheckoutShape,
    CustomerShape,
    DisputeShape,
    EventShape,
    InvoiceShape,
    ListShape,
    PageShape,
    PreviewShape,
    ScheduleShape,
    SubscriptionShape,
    read,
)
from zlh.model.billing import BillingEvent, Checkout, Customer, Dispute, Preview, Subscription

PAGE: Final = 25
"""Stripe gives a hundred at once; the library takes a tenth of a second to read those, and nobody else is served
meanwhile."""

CALL_SECONDS: Final = 30.0
SCHEDULED: Final = ("active", "not_started")

log = logging.getLogger("zlh.billing")

# What the library logs at INFO names customers' objects; at DEBUG, bodies.
logging.getLogger("stripe").setLevel(logging.WARNING)


class StripeDriver:
    """Amounts are minor units, times UTC. Every call raises DriverErrors: Unreachable (`may_have_happened`: ask again
    with the same key), Refused (`details["code"]` is Stripe's word, such as card_declined), NotFound, Conflict,
    Invalid. `installation` marks what we make; `seconds` bounds one call with all its tries."""

    def __init__(self, url: str, key: str, installation: str, *, seconds: float = CALL_SECONDS) -> None:
        self._http = HTTPXClient(timeout=seconds)
        self._client = StripeClient(
            key, base_addresses={"api": url.rstrip("/")}, http_client=self._http, max_network_retries=2
        )
        self._installation = installation
        self._seconds = seconds

    async def aclose(self) -> None:
        await self._http.close_async()  # type: ignore[no-untyped-call]

    # Customers

    async def create_customer(self, account_id: int, email: str, name: str, *, key: str) -> Customer:
        marks = {ACCOUNT: str(account_id), INSTALLATION: self._installation}
        params: Any = {"email": email, "name": name, "metadata": marks}
        options: Any = {"idempotency_key": key}
        answer = await self._ask(self._client.v1.customers.create_async(params, options))
        return read(CustomerShape, answer).model(self._installation)

    async def customer(self, customer_id: str) -> Customer:
        """One that was deleted says so."""
        answer = await self._ask(self._client.v1.customers.retrieve_async(customer_id))
        return read(CustomerShape, answer).model(self._installation)

    # Subscriptions

    async def subscriptions(self, customer_id: str, looked_at: datetime) -> list[Subscription]:
        """All of a customer's, ended ones too, with what they owe and what they change to."""
        params: Any = {"customer": customer_id, "status": "all", "limit": PAGE}
        shapes = [shape async for shape in self._pages(self._client.v1.subscriptions, params, SubscriptionShape)]
        return [await self._whole(shape, looked_at) for shape in shapes]

    async def all_subscriptions(self, looked_at: datetime) -> AsyncIterator[Subscription]:
        """Everybody's but other installations', ended ones too; what they owe and change to is not asked for."""
        params: Any = {"status": "all", "limit": PAGE}
        async for shape in self._pages(self._client.v1.subscriptions, params, SubscriptionShape):
            if not shape.foreign(self._installation):
                yield shape.model(looked_at)

    async def change_price(self, subscription: Subscription, price_id: str, at: datetime, *, key: str) -> None:
        """Now, with a proration as of `at` that is invoiced and paid at once. Where it is not paid, nothing changes:
        raises Refused with the status 402."""
        params: Any = {
            "items": [{"id": subscription.item_id, "price": price_id}],
            "proration_behavior": "always_invoice",
            "proration_date": int(at.timestamp()),
            "payment_behavior": "error_if_incomplete",
        }
        await self._update(subscription.id, params, key)

    async def let_end(self, subscription_id: str, *, key: str) -> None:
        """With its period."""
        await self._update(subscription_id, {"cancel_at_period_end": True}, key)

    async def let_go_on(self, subscription_id: str, *, key: str) -> None:
        """Takes back that it ends, however that was said: Stripe's own pages name a day, and leave the other
        alone."""
        answer = await self._ask(self._client.v1.subscriptions.retrieve_async(subscription_id))
        present = read(SubscriptionShape, answer)
        if present.cancel_at_period_end:
            await self._update(subscription_id, {"cancel_at_period_end": False}, key)
        elif present.cancel_at is not None:
            await self._update(subscription_id, {"cancel_at": ""}, key)

    async def _update(self, subscription_id: str, params: Any, key: str) -> None:
        options: Any = {"idempotency_key": key}
        await self._ask(self._client.v1.subscriptions.update_async(subscription_id, params, options))

    async def preview(self, subscription: Subscription, price_id: str, at: datetime) -> Preview:
        """What `change_price` would cost."""
        params: Any = {
            "customer": subscription.customer_id,
            "subscription": subscription.id,
            "subscription_details": {
                "items": [{"id": subscription.item_id, "price": price_id}],
                "proration_behavior": "always_invoice",
                "proration_date": int(at.timestamp()),
            },
        }
        answer = await self._ask(self._client.v1.invoices.create_preview_async(params))
        return read(PreviewShape, answer).model(at)

    async def change_price_later(self, subscription: Subscription, price_id: str, *, key: str) -> None:
        """At the end of the period. Tried again, it goes on where it was."""
        schedule_id = subscription.schedule_id
        if schedule_id is None:
            begin: Any = {"from_subscription": subscription.id}
            options: Any = {"idempotency_key": f"{key}-schedule"}
            made = await self._ask(self._client.v1.subscription_schedules.create_async(begin, options))
            schedule_id = read(ScheduleShape, made).id
        params: Any = {
            "end_behavior": "release",
            "proration_behavior": "none",
            "phases": [
                {
                    "items": [{"price": subscription.price_id, "quantity": 1}],
                    "start_date": int(subscription.period_start.timestamp()),
                    "end_date": int(subscription.period_end.timestamp()),
                },
                {
                    "items": [{"price": price_id, "quantity": 1}],
                    "start_date": int(subscription.period_end.timestamp()),
                },
            ],
        }
        phases: Any = {"idempotency_key": f"{key}-phases"}
        await self._ask(self._client.v1.subscription_schedules.update_async(schedule_id, params, phases))

    async def stay_at_price(self, schedule_id: str, *, key: str) -> None:
        """Takes a change at the end of the period back; no-op for one that is over."""
        options: Any = {"idempotency_key": key}
        schedule = read(
            ScheduleShape, await self._ask(self._client.v1.subscription_schedules.retrieve_async(schedule_id))
        )
        if schedule.status in SCHEDULED:
            await self._ask(self._client.v1.subscription_schedules.release_async(schedule_id, None, options))

    async def _whole(self, shape: SubscriptionShape, looked_at: datetime) -> Subscription:
        plain = shape.model(looked_at)
        unpaid_since = await self._unpaid_since(plain.id) if plain.status.owing else None
        next_price = None
        if shape.schedule is not None and plain.status.live:
            answer = await self._ask(self._client.v1.subscription_schedules.retrieve_async(shape.schedule))
            schedule = read(ScheduleShape, answer)
            next_price = schedule.next_price(plain.period_end) if schedule.status in SCHEDULED else None
        return shape.model(looked_at, unpaid_since=unpaid_since, next_price_id=next_price)

    async def _unpaid_since(self, subscription_id: str) -> datetime | None:
        params: Any = {"subscription": subscription_id, "status": "open", "limit": PAGE}
        pages = self._pages(self._client.v1.invoices, params, InvoiceShape)
        made = [invoice.created async for invoice in pages if invoice.amount_remaining > 0]
        return min(made, default=None)

    # Pages for people

    async def open_checkout(
        self,
        account_id: int,
        customer_id: str,
        price_id: str,
        *,
        success_url: str,
        cancel_url: str,
        expires_at: datetime,
        key: str,
    ) -> Checkout:
        marks = {ACCOUNT: str(account_id), INSTALLATION: self._installation}
        params: Any = {
            "mode": "subscription",
            "customer": customer_id,
            "client_reference_id": str(account_id),
            "line_items": [{"price": price_id, "quantity": 1}],
            "metadata": marks,
            "subscription_data": {"metadata": marks},
            "success_url": success_url,
            "cancel_url": cancel_url,
            "expires_at": int(expires_at.timestamp()),
        }
        options: Any = {"idempotency_key": key}
        answer = await self._ask(self._client.v1.checkout.sessions.create_async(params, options))
        return read(CheckoutShape, answer).model()

    async def checkout(self, session_id: str) -> Checkout:
        answer = await self._ask(self._client.v1.checkout.sessions.retrieve_async(session_id))
        return read(CheckoutShape, answer).model()

    async def close_checkout(self, session_id: str) -> None:
        """Nobody can pay there any more. Raises Refused or Conflict where somebody did, or it is closed already."""
        await self._ask(self._client.v1.checkout.sessions.expire_async(session_id))

    async def portal(self, customer_id: str, return_url: str) -> str:
        """The address of a page of Stripe's on which the customer sees invoices and changes the means of payment."""
        params: Any = {"customer": customer_id, "return_url": return_url}
        answer = await self._ask(self._client.v1.billing_portal.sessions.create_async(params))
        return read(PageShape, answer).url

    # What happened

    async def events_since(self, at: datetime) -> AsyncIterator[BillingEvent]:
        """The newest first; Stripe keeps them for 30 days."""
        params: Any = {"created": {"gte": int(at.timestamp())}, "limit": PAGE}
        async for shape in self._pages(self._client.v1.events, params, EventShape):
            yield shape.model()

    async def dispute(self, dispute_id: str) -> Dispute:
        answer = await self._ask(self._client.v1.disputes.retrieve_async(dispute_id, {"expand": ["charge"]}))
        charge = answer.get("charge")
        customer = charge.get("customer") if isinstance(charge, Mapping) else None
        return read(DisputeShape, answer).model(customer if isinstance(customer, str) else None)

    # How it is asked

    async def _pages(self, service: Any, params: Any, shape: type[Any]) -> AsyncIterator[Any]:
        """Everything of a list, page by page."""
        wanted = dict(params)
        while True:
            page = await self._ask(service.list_async(wanted))
            listed = read(ListShape, page)
            found = [read(shape, item) for item in listed.data]
            for item in found:
                yield item
            if not listed.has_more or not found:
                return
            wanted["starting_after"] = found[-1].id

    async def _ask(self, call: Awaitable[Any]) -> dict[str, Any]:
        async with _translated(), _bounded(self._seconds):
            answer = await call
        if not isinstance(answer, stripe.StripeObject):
            raise Invalid("Stripe's answer is no object", may_have_happened=True)
        document: dict[str, Any] = answer.to_dict()
        return document


@asynccontextmanager
async def _bounded(seconds: float) -> AsyncIterator[None]:
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise Unreachable(f"Stripe did not answer within {seconds:g} s", may_have_happened=True) from None


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    """The library's exceptions as ours. Its messages may tell what we sent; only Stripe's codes are passed on."""
    try:
        yield
    except stripe.APIConnectionError as error:
        cause = type(error.__cause__).__name__ if error.__cause__ is not None else "no connection"
        raise Unreachable(f"Stripe is not reachable: {cause}", may_have_happened=True) from None
    except (stripe.AuthenticationError, stripe.PermissionError):
        # Ours to mend, and no reason to believe anything about anybody.
        raise Unreachable("Stripe does not accept our key") from None
    except (stripe.RateLimitError, stripe.IdempotencyError) as error:
        if isinstance(error, stripe.IdempotencyError) and error.http_status != 409:
            raise Conflict("an idempotency key was used for something else") from None
        raise Unreachable("Stripe asks for patience", may_have_happened=True) from None
    except stripe.StripeError as error:
        raise _judged(error) from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # The library stumbles over errors of proxies that look a little like Stripe's.
        log.warning("the library could not read what Stripe answered: %s", type(error).__name__)
        raise Unreachable("Stripe answers nothing that can be read", may_have_happened=True) from None


def _judged(error: stripe.StripeError) -> DriverError:
    status, code = error.http_status or 0, error.code or ""
    if status >= 500 or status < 400:
        return Unreachable(f"Stripe answers {status or 'nothing that can be read'}", may_have_happened=True)
    if code == "resource_missing":
        return NotFound("Stripe does not have it")
    if status == 404:
        # Of whoever stands before Stripe, or of another address: nothing that Stripe says of what we asked for.
        return Unreachable("what answers in Stripe's place has no such address")
    if status == 409:
        return Unreachable("Stripe is still at it", may_have_happened=True)
    words = "the payment failed" if status == 402 else "Stripe refuses"
    return Refused(f"{words}: {code or status}", status=status, details={"code": code} if code else None)
