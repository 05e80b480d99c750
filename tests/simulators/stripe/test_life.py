"""What becomes of subscriptions when time passes: renewals, cards that fail, dunning, ends."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from stripe import CardError, InvalidRequestError, StripeClient

from tests.simulators.stripe.conftest import open_client
from tests.simulators.stripe.hook import SECRET, open_hook
from tests.simulators.stripe.shop import PRICES, STARTER, check_out, subscribe
from zlh.simulators.stripe import DAY, Card, Dunning, End, SimulatedStripe, open_stripe

MONTH = 31 * DAY
HOUR = 3600


async def again(client: StripeClient, subscription: Any, *expand: str) -> Any:
    return await client.v1.subscriptions.retrieve_async(subscription.id, {"expand": list(expand)})


def pass_to_renewal(stripe: SimulatedStripe, subscription: Any, seconds: int = HOUR) -> None:
    """The period ends, and so many seconds more."""
    end = subscription.items.data[0].current_period_end
    stripe.advance(end - stripe.now() + seconds)


async def test_a_renewal_is_a_draft_for_an_hour_then_paid(stripe: SimulatedStripe, client: StripeClient) -> None:
    first = await subscribe(stripe, client)
    pass_to_renewal(stripe, first, 60)
    between = await again(client, first, "latest_invoice")
    assert between.status == "active"
    assert between.items.data[0].current_period_start == first.items.data[0].current_period_end
    assert (between.latest_invoice.status, between.latest_invoice.billing_reason) == ("draft", "subscription_cycle")
    assert between.latest_invoice.automatically_finalizes_at == between.items.data[0].current_period_start + HOUR
    stripe.advance(HOUR)
    after = await again(client, first, "latest_invoice")
    assert (after.status, after.latest_invoice.status, after.latest_invoice.amount_paid) == ("active", "paid", 900)
    (line,) = after.latest_invoice.lines.data
    assert (line.period.start, line.period.end) == (
        after.items.data[0].current_period_start,
        after.items.data[0].current_period_end,
    )


async def test_time_passes_by_itself() -> None:
    async with (
        open_stripe(PRICES, invoice_wait=1) as stripe,
        open_client(stripe) as client,
        open_hook() as hook,
    ):
        subscription = await subscribe(stripe, client)
        pass_to_renewal(stripe, subscription, 0)
        stripe.webhooks.add(hook.url, SECRET, ["invoice.finalized"])
        await hook.until(1)


async def test_a_card_that_fails_is_tried_on_days_1_3_and_5_then_it_is_unpaid(
    stripe: SimulatedStripe, client: StripeClient
) -> None:
    subscription = await subscribe(stripe, client)
    stripe.set_card(subscription.customer, Card.DECLINED)
    pass_to_renewal(stripe, subscription)
    failed = await again(client, subscription, "latest_invoice")
    due = failed.items.data[0].current_period_start + HOUR
    assert (failed.status, failed.latest_invoice.status) == ("past_due", "open")
    assert (failed.latest_invoice.attempt_count, failed.latest_invoice.next_payment_attempt) == (1, due + DAY)
    assert (await client.v1.customers.retrieve_async(subscription.customer)).delinquent
    attempts = []
    for _ in range(6):
        stripe.advance(DAY)
        now = await again(client, subscription, "latest_invoice")
        attempts.append((now.status, now.latest_invoice.attempt_count))
    assert attempts == [
        ("past_due", 2),
        ("past_due", 2),
        ("past_due", 3),
        ("past_due", 3),
        ("unpaid", 4),
        ("unpaid", 4),
    ]
    assert [event["type"] for event in stripe.events].count("invoice.payment_failed") == 4


async def test_while_it_is_unpaid_renewals_are_drafts(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client)
    stripe.set_card(subscription.customer, Card.DECLINED)
    pass_to_renewal(stripe, subscription, 10 * DAY)
    stripe.advance(MONTH)
    unpaid = await again(client, subscription, "latest_invoice")
    assert (unpaid.status, unpaid.latest_invoice.status) == ("unpaid", "draft")
    owed = (await client.v1.invoices.list_async({"subscription": subscription.id, "status": "open"})).data
    stripe.set_card(subscription.customer, Card.WORKS)
    await client.v1.invoices.pay_async(owed[0].id)
    assert (await again(client, subscription)).status == "active"


async def test_a_new_card_and_the_invoice_paid_make_it_active(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client)
    stripe.set_card(subscription.customer, Card.DECLINED)
    pass_to_renewal(stripe, subscription)
    invoice = (await again(client, subscription)).latest_invoice
    with pytest.raises(CardError) as refusal:
        await client.v1.invoices.pay_async(invoice)
    assert (refusal.value.http_status, refusal.value.code) == (402, "card_declined")
    assert refusal.value.error is not None
    assert refusal.value.error.decline_code == "generic_decline"
    stripe.fix_card(subscription.customer)
    fixed = await again(client, subscription, "latest_invoice")
    assert (fixed.status, fixed.latest_invoice.status, fixed.latest_invoice.next_payment_attempt) == (
        "active",
        "paid",
        None,
    )
    assert not (await client.v1.customers.retrieve_async(subscription.customer)).delinquent
    with pytest.raises(InvalidRequestError, match="already paid"):
        await client.v1.invoices.pay_async(invoice)
    stripe.advance(6 * DAY)
    assert (await again(client, subscription)).status == "active"


async def test_a_manual_attempt_does_not_move_the_automatic_ones(
    stripe: SimulatedStripe, client: StripeClient
) -> None:
    subscription = await subscribe(stripe, client)
    stripe.set_card(subscription.customer, Card.DECLINED)
    pass_to_renewal(stripe, subscription)
    before = (await again(client, subscription, "latest_invoice")).latest_invoice
    with pytest.raises(CardError):
        await client.v1.invoices.pay_async(before.id)
    after = await client.v1.invoices.retrieve_async(before.id)
    assert (after.attempt_count, after.next_payment_attempt) == (1, before.next_payment_attempt)


async def test_a_bank_that_wants_a_confirmation_says_so(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client)
    stripe.set_card(subscription.customer, Card.REQUIRES_ACTION)
    pass_to_renewal(stripe, subscription)
    assert (await again(client, subscription)).status == "past_due"
    assert "invoice.payment_action_required" in [event["type"] for event in stripe.events]


@pytest.mark.parametrize("end", [End.CANCELED, End.PAST_DUE])
async def test_other_ends_of_dunning(end: End) -> None:
    async with open_stripe(PRICES, dunning=Dunning((2,), end)) as stripe, open_client(stripe) as client:
        subscription = await subscribe(stripe, client)
        stripe.set_card(subscription.customer, Card.DECLINED)
        pass_to_renewal(stripe, subscription, 3 * DAY)
        ended = await again(client, subscription)
        assert ended.status == end
        if end is End.CANCELED:
            assert ended.cancellation_details.reason == "payment_failed"
            assert [event["type"] for event in stripe.events][-1] == "customer.subscription.deleted"


async def test_cancel_at_period_end_ends_it_then(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client)
    end = subscription.items.data[0].current_period_end
    asked = await client.v1.subscriptions.update_async(subscription.id, {"cancel_at_period_end": True})
    assert (asked.status, asked.cancel_at_period_end, asked.cancel_at) == ("active", True, end)
    assert asked.canceled_at is not None
    pass_to_renewal(stripe, subscription)
    over = await again(client, subscription)
    assert (over.status, over.ended_at, over.canceled_at) == ("canceled", end, asked.canceled_at)
    assert len((await client.v1.invoices.list_async({"subscription": subscription.id})).data) == 1
    with pytest.raises(InvalidRequestError, match="canceled subscription can only update"):
        await client.v1.subscriptions.update_async(subscription.id, {"cancel_at_period_end": False})


async def test_whoever_takes_the_end_back_goes_on(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client)
    await client.v1.subscriptions.update_async(subscription.id, {"cancel_at_period_end": True})
    back = await client.v1.subscriptions.update_async(subscription.id, {"cancel_at_period_end": False})
    assert (back.cancel_at_period_end, back.cancel_at, back.canceled_at) == (False, None, None)
    pass_to_renewal(stripe, subscription)
    assert (await again(client, subscription)).status == "active"


async def test_in_the_portal_only_cancel_at_says_that_it_ends(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client)
    end = subscription.items.data[0].current_period_end
    stripe.cancel(subscription.id)
    canceled = await again(client, subscription)
    assert (canceled.cancel_at_period_end, canceled.cancel_at) == (False, end)
    stripe.resume(subscription.id)
    assert (await again(client, subscription)).cancel_at is None
    stripe.cancel(subscription.id)
    pass_to_renewal(stripe, subscription)
    assert (await again(client, subscription)).status == "canceled"


async def test_cancelling_at_once(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client)
    over = await client.v1.subscriptions.cancel_async(
        subscription.id, {"cancellation_details": {"comment": "too many mobs"}}
    )
    assert (over.status, over.ended_at) == ("canceled", stripe.now())
    assert over.cancellation_details.comment == "too many mobs"
    with pytest.raises(InvalidRequestError) as refusal:
        await client.v1.subscriptions.cancel_async(subscription.id)
    assert (refusal.value.http_status, refusal.value.code) == (404, "resource_missing")


async def test_a_deleted_customer_has_no_subscription(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client)
    gone = await client.v1.customers.delete_async(subscription.customer)
    assert gone.deleted
    assert (await again(client, subscription)).status == "canceled"
    told = [event["type"] for event in stripe.events][-2:]
    assert told == ["customer.subscription.deleted", "customer.deleted"]
    found = await client.v1.customers.retrieve_async(subscription.customer)
    assert found.to_dict() == {"id": subscription.customer, "object": "customer", "deleted": True}
    with pytest.raises(InvalidRequestError, match="No such customer"):
        await client.v1.customers.update_async(subscription.customer, {"name": "x"})
    with pytest.raises(InvalidRequestError, match="No such customer"):
        await check_out(client, subscription.customer)


async def test_an_incomplete_subscription_has_23_hours(stripe: SimulatedStripe, client: StripeClient) -> None:
    customer = await client.v1.customers.create_async()
    wish = {"customer": customer.id, "items": [{"price": STARTER}]}
    made = await client.v1.subscriptions.create_async({**wish, "expand": ["latest_invoice"]})
    assert (made.status, made.latest_invoice.status) == ("incomplete", "open")
    paid = await client.v1.subscriptions.create_async({**wish, "payment_behavior": "default_incomplete"})
    stripe.set_card(customer.id, Card.WORKS)
    await client.v1.invoices.pay_async(paid.latest_invoice)
    assert (await again(client, paid)).status == "active"
    stripe.advance(23 * HOUR)
    expired = await again(client, made, "latest_invoice")
    assert (expired.status, expired.latest_invoice.status) == ("incomplete_expired", "void")
    with pytest.raises(CardError):
        stripe.set_card(customer.id, Card.DECLINED)
        await client.v1.subscriptions.create_async({**wish, "payment_behavior": "error_if_incomplete"})


async def test_periods_keep_the_day_of_the_month(client: StripeClient, stripe: SimulatedStripe) -> None:
    begun = int(datetime(2027, 1, 31, 12, tzinfo=UTC).timestamp())
    clock = await client.v1.test_helpers.test_clocks.create_async({"frozen_time": begun})
    subscription = await subscribe(stripe, client, test_clock=clock.id)
    days = []
    for _ in range(5):
        end = subscription.items.data[0].current_period_end
        days.append(datetime.fromtimestamp(end, UTC).strftime("%m-%d %H:%M"))
        stripe.advance(end - stripe.now(clock.id) + HOUR, clock.id)
        subscription = await again(client, subscription)
    assert days == ["02-28 12:00", "03-31 12:00", "04-30 12:00", "05-31 12:00", "06-30 12:00"]


@pytest.mark.parametrize(
    ("behavior", "status"), [("void", "void"), ("mark_uncollectible", "uncollectible"), ("keep_as_draft", "draft")]
)
async def test_collection_can_pause_until_a_day(
    stripe: SimulatedStripe, client: StripeClient, behavior: str, status: str
) -> None:
    subscription = await subscribe(stripe, client)
    end = subscription.items.data[0].current_period_end
    await client.v1.subscriptions.update_async(
        subscription.id, {"pause_collection": {"behavior": behavior, "resumes_at": end + 5 * DAY}}
    )
    pass_to_renewal(stripe, subscription)
    paused = await again(client, subscription, "latest_invoice")
    assert (paused.status, paused.latest_invoice.status) == ("active", status)
    stripe.advance(5 * DAY)
    assert (await again(client, subscription)).pause_collection is None


async def test_pausing_and_resuming(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client)
    paused = await client.v1.subscriptions.pause_async(
        subscription.id, {"bill_for": {"unused_time_from": {"type": "none"}}}
    )
    assert (paused.status, paused.status_details.paused.subscription.type) == ("paused", "pause_requested")
    assert stripe.events[-1]["type"] == "customer.subscription.paused"
    stripe.advance(3 * MONTH)
    still = await again(client, subscription)
    assert (still.status, still.latest_invoice) == ("paused", subscription.latest_invoice)
    back = await client.v1.subscriptions.resume_async(subscription.id)
    assert (back.status, back.items.data[0].current_period_start) == ("active", stripe.now())
    assert back.latest_invoice != subscription.latest_invoice
    assert "customer.subscription.resumed" in [event["type"] for event in stripe.events]
    with pytest.raises(InvalidRequestError, match="only resume a paused"):
        await client.v1.subscriptions.resume_async(subscription.id)
