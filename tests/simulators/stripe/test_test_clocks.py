"""Test clocks: a customer's whole year in moments."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from stripe import InvalidRequestError, StripeClient

from tests.simulators.stripe.hook import SECRET, open_hook
from tests.simulators.stripe.shop import PRO, STARTER, subscribe
from zlh.simulators.stripe import DAY, Card, SimulatedStripe

START = int(datetime(2027, 1, 15, 9, 30, tzinfo=UTC).timestamp())


async def advance(client: StripeClient, clock: str, to: int) -> None:
    """As Stripe wants it done: at most two intervals at a time, and wait until it is ready."""
    clocks = client.v1.test_helpers.test_clocks
    answer = await clocks.advance_async(clock, {"frozen_time": to})
    assert (answer.status, answer.status_details.advancing.target_frozen_time) == ("advancing", to)
    with trio.fail_after(10):
        while (await clocks.retrieve_async(clock)).status != "ready":
            pass


async def test_a_year(stripe: SimulatedStripe, client: StripeClient) -> None:
    """Subscribe, upgrade, a card that fails, grace, paid again, cancelled."""
    clock = await client.v1.test_helpers.test_clocks.create_async({"frozen_time": START, "name": "a year"})
    async with open_hook() as hook:
        stripe.webhooks.add(hook.url, SECRET)
        subscription = await subscribe(stripe, client, test_clock=clock.id)
        name, customer = subscription.id, subscription.customer
        assert (subscription.created, subscription.test_clock) == (START, clock.id)

        async def month(number: int, hours: int = 2) -> Any:
            """So many hours into that month of the subscription."""
            moment = datetime(2027 + (number // 12), number % 12 + 1, 15, 9, 30, tzinfo=UTC)
            await advance(client, clock.id, int(moment.timestamp()) + hours * 3600)
            return await client.v1.subscriptions.retrieve_async(name, {"expand": ["latest_invoice"]})

        for number in (1, 2, 3):
            renewed = await month(number)
            assert (renewed.status, renewed.latest_invoice.amount_paid) == ("active", 900)
        await client.v1.subscriptions.update_async(
            name,
            {
                "items": [{"id": subscription.items.data[0].id, "price": PRO}],
                "proration_behavior": "always_invoice",
            },
        )
        assert (await month(4)).latest_invoice.amount_paid == 2900
        stripe.set_card(customer, Card.DECLINED)
        assert (await month(5)).status == "past_due"
        assert (await month(5, 24 * 6)).status == "unpaid"
        stripe.fix_card(customer)
        assert (await month(6)).status == "active"
        for number in range(7, 12):
            await month(number)
        await client.v1.subscriptions.update_async(name, {"cancel_at_period_end": True})
        ended = await month(12)
        assert (ended.status, datetime.fromtimestamp(ended.ended_at, UTC).isoformat()) == (
            "canceled",
            "2028-01-15T09:30:00+00:00",
        )
        paid = [row async for row in (await client.v1.invoices.list_async({"subscription": name})).auto_paging_iter()]
        assert [row.status for row in paid] == ["paid"] * 13
        assert sum(row.amount_paid for row in paid) == 4 * 900 + 8 * 2900 + paid[-5].amount_paid
        with trio.fail_after(10):
            await stripe.webhooks.quiet()
        assert hook.types.count("invoice.paid") == 13
        assert hook.types.count("invoice.payment_failed") == 4
        assert hook.types.count("customer.subscription.deleted") == 1
        # Time passed for that customer alone.
        assert abs(stripe.now() - (await client.v1.test_helpers.test_clocks.retrieve_async(clock.id)).created) < 60


async def test_a_clock_goes_forward_and_not_too_far(stripe: SimulatedStripe, client: StripeClient) -> None:
    clocks = client.v1.test_helpers.test_clocks
    clock = await clocks.create_async({"frozen_time": START})
    await subscribe(stripe, client, test_clock=clock.id)
    for moment, message in ((START, "must be after"), (START + 70 * DAY, "two intervals")):
        with pytest.raises(InvalidRequestError, match=message):
            await clocks.advance_async(clock.id, {"frozen_time": moment})
    await advance(client, clock.id, START + 20 * DAY)
    told = [event["type"] for event in stripe.events if "test_clock" in event["type"]]
    assert told == [f"test_helpers.test_clock.{word}" for word in ("created", "advancing", "ready")]


async def test_from_outside_it_goes_as_far_as_one_likes(stripe: SimulatedStripe, client: StripeClient) -> None:
    clock = await client.v1.test_helpers.test_clocks.create_async({"frozen_time": START})
    subscription = await subscribe(stripe, client, test_clock=clock.id)
    stripe.advance(365 * DAY, clock.id)
    assert stripe.now(clock.id) == START + 365 * DAY
    invoices = await client.v1.invoices.list_async({"subscription": subscription.id, "limit": 100})
    assert [invoice.status for invoice in invoices.data] == ["draft"] + ["paid"] * 12
    assert stripe.events[-1]["created"] == START + 365 * DAY


async def test_a_deleted_clock_takes_its_customers_with_it(stripe: SimulatedStripe, client: StripeClient) -> None:
    clock = await client.v1.test_helpers.test_clocks.create_async({"frozen_time": START})
    subscription = await subscribe(stripe, client, STARTER, test_clock=clock.id)
    assert (await client.v1.test_helpers.test_clocks.delete_async(clock.id)).deleted
    for ask, name in (
        (client.v1.customers.retrieve_async, subscription.customer),
        (client.v1.subscriptions.retrieve_async, subscription.id),
        (client.v1.test_helpers.test_clocks.retrieve_async, clock.id),
    ):
        with pytest.raises(InvalidRequestError, match="No such"):
            await ask(name)
