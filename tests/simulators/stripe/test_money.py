"""What changes in the middle of a period cost, and that a preview says exactly that."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stripe import CardError, InvalidRequestError, StripeClient

from tests.simulators.stripe.conftest import open_client
from tests.simulators.stripe.shop import DOLLARS, PRO, STARTER, YEARLY, subscribe
from zlh.simulators.stripe import Card, Price, SimulatedStripe, open_stripe
from zlh.simulators.stripe.periods import around, later
from zlh.simulators.stripe.proration import Debit, Portion, charges_of, credits_of

HOUR = 3600


def half(subscription: Any) -> int:
    item = subscription.items.data[0]
    return (item.current_period_start + item.current_period_end) // 2


def to(subscription: Any, price: str, **more: Any) -> dict[str, Any]:
    return {"items": [{"id": subscription.items.data[0].id, "price": price}], **more}


async def preview(client: StripeClient, subscription: Any, price: str, **more: Any) -> Any:
    return await client.v1.invoices.create_preview_async(
        {"subscription": subscription.id, "subscription_details": to(subscription, price, **more)}
    )


async def change(client: StripeClient, subscription: Any, price: str, **more: Any) -> Any:
    wish = to(subscription, price, **more)
    return await client.v1.subscriptions.update_async(subscription.id, {**wish, "expand": ["latest_invoice"]})


def words(lines: Any) -> list[tuple[int, str]]:
    return [(line.amount, line.description) for line in lines.data]


async def test_an_upgrade_at_half_time_costs_half_the_difference(
    stripe: SimulatedStripe, client: StripeClient
) -> None:
    subscription = await subscribe(stripe, client)
    at = half(subscription)
    stripe.advance(at - stripe.now())
    shown = await preview(client, subscription, PRO, proration_date=at, proration_behavior="always_invoice")
    assert words(shown.lines) == [(1450, "Remaining time on Pro"), (-450, "Unused time on Starter")]
    assert (shown.total, shown.amount_due, shown.billing_reason) == (1000, 1000, "subscription_update")
    assert shown.parent.subscription_details.subscription_proration_date == at
    changed = await change(client, subscription, PRO, proration_date=at, proration_behavior="always_invoice")
    invoice = changed.latest_invoice
    assert (invoice.status, invoice.total, invoice.amount_paid) == ("paid", 1000, 1000)
    assert words(invoice.lines) == words(shown.lines)
    credit = invoice.lines.data[1].parent.subscription_item_details
    assert credit.proration
    assert credit.proration_details.credited_items.invoice == subscription.latest_invoice
    assert changed.items.data[0].price.id == PRO
    assert changed.items.data[0].current_period_end == subscription.items.data[0].current_period_end


async def test_a_preview_changes_nothing(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client)
    before = json.dumps(stripe.account.export())
    for behavior in ("always_invoice", "create_prorations"):
        await preview(client, subscription, PRO, proration_behavior=behavior)
    assert json.dumps(stripe.account.export()) == before


async def test_prorations_wait_for_the_renewal_unless_invoiced(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client)
    at = half(subscription)
    stripe.advance(at - stripe.now())
    shown = await preview(client, subscription, PRO, proration_date=at)
    assert [line.amount for line in shown.lines.data] == [1450, -450, 2900]
    changed = await change(client, subscription, PRO, proration_date=at)
    assert changed.latest_invoice.id == subscription.latest_invoice
    end = changed.items.data[0].current_period_end
    assert (shown.created, shown.billing_reason) == (end, "upcoming")
    stripe.advance(end + HOUR - stripe.now())
    renewed = await client.v1.subscriptions.retrieve_async(subscription.id, {"expand": ["latest_invoice"]})
    assert words(renewed.latest_invoice.lines) == words(shown.lines)
    assert renewed.latest_invoice.amount_paid == 3900


async def test_without_proration_nothing_is_billed_before_the_renewal(
    stripe: SimulatedStripe, client: StripeClient
) -> None:
    subscription = await subscribe(stripe, client)
    stripe.advance(half(subscription) - stripe.now())
    changed = await change(client, subscription, PRO, proration_behavior="none")
    assert changed.items.data[0].price.id == PRO
    stripe.advance(changed.items.data[0].current_period_end + HOUR - stripe.now())
    renewed = await client.v1.subscriptions.retrieve_async(subscription.id, {"expand": ["latest_invoice"]})
    assert renewed.latest_invoice.amount_paid == 2900


async def test_a_downgrade_leaves_credit_for_the_next_invoices(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client, PRO)
    stripe.advance(half(subscription) - stripe.now())
    changed = await change(
        client, subscription, STARTER, proration_date=half(subscription), proration_behavior="always_invoice"
    )
    invoice = changed.latest_invoice
    assert (invoice.total, invoice.amount_due, invoice.status) == (-1000, 0, "paid")
    assert (invoice.starting_balance, invoice.ending_balance) == (0, -1000)
    assert (await client.v1.customers.retrieve_async(subscription.customer)).balance == -1000
    stripe.advance(changed.items.data[0].current_period_end + HOUR - stripe.now())
    renewed = await client.v1.subscriptions.retrieve_async(subscription.id, {"expand": ["latest_invoice.payments"]})
    assert (renewed.latest_invoice.total, renewed.latest_invoice.amount_due) == (900, 0)
    assert renewed.latest_invoice.payments.data == []
    assert (await client.v1.customers.retrieve_async(subscription.customer)).balance == -100


async def test_what_is_too_little_for_a_charge_is_owed_with_the_next_invoice(client: StripeClient) -> None:
    async with open_stripe([Price("price_a", 1000), Price("price_b", 1040)]) as stripe, open_client(stripe) as client:
        subscription = await subscribe(stripe, client, "price_a")
        changed = await change(client, subscription, "price_b", proration_behavior="always_invoice")
        assert (changed.latest_invoice.amount_due, changed.latest_invoice.status) == (0, "paid")
        balance = (await client.v1.customers.retrieve_async(subscription.customer)).balance
        assert balance == changed.latest_invoice.total > 0


async def test_error_if_incomplete_changes_nothing_where_the_card_fails(
    stripe: SimulatedStripe, client: StripeClient
) -> None:
    subscription = await subscribe(stripe, client)
    stripe.advance(half(subscription) - stripe.now())
    stripe.set_card(subscription.customer, Card.DECLINED)
    told = len(stripe.events)
    with pytest.raises(CardError) as refusal:
        await change(
            client,
            subscription,
            PRO,
            proration_behavior="always_invoice",
            payment_behavior="error_if_incomplete",
        )
    assert (refusal.value.http_status, refusal.value.code) == (402, "card_declined")
    same = await client.v1.subscriptions.retrieve_async(subscription.id)
    assert same.to_dict() == subscription.to_dict()
    assert len(stripe.events) == told


@pytest.mark.parametrize("behavior", ["allow_incomplete", "default_incomplete"])
async def test_otherwise_it_is_changed_and_overdue(
    stripe: SimulatedStripe, client: StripeClient, behavior: str
) -> None:
    subscription = await subscribe(stripe, client)
    stripe.advance(half(subscription) - stripe.now())
    stripe.set_card(subscription.customer, Card.DECLINED)
    changed = await change(client, subscription, PRO, proration_behavior="always_invoice", payment_behavior=behavior)
    assert (changed.items.data[0].price.id, changed.status, changed.latest_invoice.status) == (
        PRO,
        "past_due",
        "open",
    )
    assert changed.latest_invoice.attempted is (behavior == "allow_incomplete")
    stripe.fix_card(subscription.customer)
    assert (await client.v1.subscriptions.retrieve_async(subscription.id)).status == "active"


async def test_pending_if_incomplete_waits_for_the_payment(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client)
    stripe.advance(half(subscription) - stripe.now())
    stripe.set_card(subscription.customer, Card.DECLINED)
    wish = {"proration_behavior": "always_invoice", "payment_behavior": "pending_if_incomplete"}
    waiting = await change(client, subscription, PRO, **wish)
    assert (waiting.status, waiting.items.data[0].price.id) == ("active", STARTER)
    assert waiting.pending_update.subscription_items[0].price.id == PRO
    assert waiting.latest_invoice.status == "open"
    stripe.fix_card(subscription.customer)
    applied = await client.v1.subscriptions.retrieve_async(subscription.id)
    assert (applied.items.data[0].price.id, applied.pending_update) == (PRO, None)
    assert stripe.events[-1]["type"] != "customer.subscription.pending_update_expired"


async def test_what_waits_too_long_is_dropped(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client)
    stripe.advance(half(subscription) - stripe.now())
    stripe.set_card(subscription.customer, Card.DECLINED)
    wish = {"proration_behavior": "always_invoice", "payment_behavior": "pending_if_incomplete"}
    waiting = await change(client, subscription, PRO, **wish)
    stripe.advance(23 * HOUR)
    dropped = await client.v1.subscriptions.retrieve_async(subscription.id)
    assert (dropped.items.data[0].price.id, dropped.pending_update, dropped.status) == (STARTER, None, "active")
    assert (await client.v1.invoices.retrieve_async(waiting.latest_invoice.id)).status == "void"
    # What had been paid can still be given back whole.
    shown = await preview(client, subscription, PRO, proration_behavior="always_invoice")
    assert shown.lines.data[1].description == "Unused time on Starter"


async def test_another_interval_begins_a_new_period(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client)
    at = half(subscription)
    stripe.advance(at - stripe.now())
    shown = await preview(client, subscription, YEARLY, proration_date=at)
    changed = await change(client, subscription, YEARLY, proration_date=at)
    assert [line.amount for line in changed.latest_invoice.lines.data] == [-450, 9900]
    assert shown.total == changed.latest_invoice.total
    item = changed.items.data[0]
    assert (item.current_period_start, item.current_period_end) == (at, later(at, "year", 1))


async def test_the_anchor_can_be_set_to_now(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client)
    stripe.advance(half(subscription) - stripe.now())
    changed = await client.v1.subscriptions.update_async(
        subscription.id, {"billing_cycle_anchor": {"type": "now"}, "proration_behavior": "none"}
    )
    assert changed.billing_cycle_anchor == changed.items.data[0].current_period_start == stripe.now()


async def test_an_item_without_its_id_is_another_item(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client)
    changed = await client.v1.subscriptions.update_async(subscription.id, {"items": [{"price": PRO}]})
    assert [item.price.id for item in changed.items.data] == [STARTER, PRO]
    fewer = await client.v1.subscriptions.update_async(
        subscription.id, {"items": [{"id": changed.items.data[0].id, "deleted": True}]}
    )
    assert [item.price.id for item in fewer.items.data] == [PRO]


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"items": [{"id": "si_nobody", "price": PRO}]}, "No such subscription item"),
        ({"items": [{"price": "price_nobody"}]}, "No such price"),
        ({"items": [{"price": STARTER}]}, "multiple subscription items with the same plan"),
        ({"items": [{"price": DOLLARS}]}, "expected currency"),
        ({"items": [{"price": PRO}], "proration_date": 12}, "outside of the current billing period"),
        ({"proration_behavior": "sometimes"}, "must be one of"),
        ({"cancel_at": 12}, "must be in the future"),
        ({"cancel_at": 4102444800, "cancel_at_period_end": True}, "cannot pass both"),
        ({"prices": [PRO]}, "unknown parameter"),
    ],
)
async def test_what_is_wrong_is_refused_and_changes_nothing(
    stripe: SimulatedStripe, client: StripeClient, wish: dict[str, Any], message: str
) -> None:
    subscription = await subscribe(stripe, client)
    with pytest.raises(InvalidRequestError, match=message):
        await client.v1.subscriptions.update_async(subscription.id, wish)  # type: ignore[arg-type]
    same = await client.v1.subscriptions.retrieve_async(subscription.id)
    assert same.to_dict() == subscription.to_dict()


steps = st.lists(
    st.tuples(st.floats(0, 0.9), st.integers(0, 3), st.sampled_from(["always_invoice", "create_prorations", "none"])),
    min_size=1,
    max_size=4,
)


@settings(max_examples=40)
@given(amounts=st.lists(st.integers(0, 100_000), min_size=4, max_size=4), steps=steps)
async def test_what_was_previewed_is_what_is_billed(amounts: list[int], steps: list[tuple[float, int, str]]) -> None:
    """However often the plan changes: the invoice of each change is its preview, so is the renewal's, and nobody pays
    more than the dearest plan for the whole time, or gets back more than was paid."""
    prices = [Price(f"price_{i}", amount) for i, amount in enumerate(amounts)]
    async with open_stripe(prices) as stripe, open_client(stripe) as client:
        subscription = await subscribe(stripe, client, "price_0")
        end = subscription.items.data[0].current_period_end
        billed = amounts[0]
        for share, number, behavior in steps:
            stripe.advance(int((end - stripe.now()) * share))
            at = stripe.now()
            wish = {"proration_behavior": behavior}
            if behavior != "none":
                wish["proration_date"] = at
            shown = await preview(client, subscription, f"price_{number}", **wish)
            changed = await change(client, subscription, f"price_{number}", **wish)
            assert changed.items.data[0].price.id == f"price_{number}"
            if behavior == "always_invoice" and changed.latest_invoice.id != subscription.latest_invoice:
                assert words(changed.latest_invoice.lines) == words(shown.lines)
                assert changed.latest_invoice.total == shown.total == sum(amount for amount, _ in words(shown.lines))
                billed += changed.latest_invoice.total
            subscription = await client.v1.subscriptions.retrieve_async(subscription.id)
        upcoming = await client.v1.invoices.create_preview_async({"subscription": subscription.id})
        stripe.advance(end + HOUR - stripe.now())
        renewed = await client.v1.subscriptions.retrieve_async(subscription.id, {"expand": ["latest_invoice"]})
        assert words(renewed.latest_invoice.lines) == words(upcoming.lines)
        assert (renewed.latest_invoice.total, renewed.latest_invoice.amount_due) == (
            upcoming.total,
            upcoming.amount_due,
        )
        billed += upcoming.total - upcoming.lines.data[-1].amount
        assert -len(steps) <= billed <= max(amounts) + len(steps)


@given(
    amount=st.integers(0, 10**9),
    start=st.integers(0, 2**31),
    length=st.integers(1, 10**8),
    parts=st.lists(st.integers(0, 10**8), min_size=2, max_size=2),
)
def test_a_credit_and_the_charge_for_the_same_time_cancel_out(
    amount: int, start: int, length: int, parts: list[int]
) -> None:
    end, at = start + length, start + min(*parts, length)
    whole = Debit("si_1", "price_1", 1, amount, start, end)
    charged = sum(one.amount for one in charges_of([Portion("si_1", "price_1", 1, amount)], at, start, end))
    credited = sum(one.amount for one in credits_of([whole], at))
    assert charged == -credited
    assert 0 <= charged <= amount


@given(
    anchor=st.integers(0, 2**32),
    interval=st.sampled_from(["day", "week", "month", "year"]),
    every=st.integers(1, 4),
    ahead=st.integers(0, 10**9),
)
def test_periods_follow_each_other_without_gaps(anchor: int, interval: str, every: int, ahead: int) -> None:
    start, end = around(anchor, interval, every, anchor + ahead)
    assert start <= anchor + ahead < end
    assert around(anchor, interval, every, end)[0] == end
    day = datetime.fromtimestamp(anchor, UTC).day
    if interval in ("month", "year"):
        assert datetime.fromtimestamp(start, UTC).day == day or day > 28
    assert (start - anchor) % 60 == 0
