"""Checkout: a session is opened, a person pays or does not, and a subscription is there or not."""

from __future__ import annotations

import httpx
import pytest
from stripe import InvalidRequestError, StripeClient

from tests.simulators.stripe.shop import DOLLARS, PRO, STARTER, check_out, subscribe
from zlh.simulators.stripe import DAY, Card, SimulatedStripe, Wrong


async def test_whoever_pays_has_a_subscription_with_what_was_said_of_it(
    stripe: SimulatedStripe, client: StripeClient
) -> None:
    customer = await client.v1.customers.create_async({"email": "ada@example.com", "metadata": {"user": "7"}})
    session = await check_out(
        client,
        customer.id,
        client_reference_id="7",
        metadata={"operation": "op1"},
        subscription_data={"metadata": {"user": "7"}},
    )
    assert (session.status, session.payment_status, session.subscription) == ("open", "unpaid", None)
    assert session.url == f"{stripe.url}/c/pay/{session.id}"
    assert session.expires_at == session.created + DAY

    stripe.pay(session.id)

    done = await client.v1.checkout.sessions.retrieve_async(session.id, {"expand": ["subscription.latest_invoice"]})
    assert (done.status, done.payment_status, done.url) == ("complete", "paid", None)
    assert (done.client_reference_id, done.metadata.to_dict()) == ("7", {"operation": "op1"})
    subscription = done.subscription
    assert (subscription.status, subscription.customer) == ("active", customer.id)
    assert subscription.metadata.to_dict() == {"user": "7"}
    item = subscription.items.data[0]
    assert (item.price.id, item.price.unit_amount, item.quantity) == (STARTER, 900, 1)
    assert item.current_period_start == subscription.created < item.current_period_end
    invoice = subscription.latest_invoice
    assert (invoice.status, invoice.amount_paid, invoice.billing_reason) == ("paid", 900, "subscription_create")
    assert invoice.parent.subscription_details.subscription == subscription.id
    assert [line.amount for line in invoice.lines.data] == [900]


async def test_a_declined_card_leaves_the_session_open(stripe: SimulatedStripe, client: StripeClient) -> None:
    customer = await client.v1.customers.create_async()
    session = await check_out(client, customer.id)
    stripe.decline(session.id)
    assert (await client.v1.checkout.sessions.retrieve_async(session.id)).status == "open"
    assert (await client.v1.subscriptions.list_async({"customer": customer.id})).data == []
    with pytest.raises(Wrong, match="declined"):
        stripe.pay(session.id, Card.DECLINED)


async def test_without_a_customer_one_is_made(stripe: SimulatedStripe, client: StripeClient) -> None:
    session = await check_out(client, None, customer_email="bob@example.com")
    done = stripe.pay(session.id)
    assert (await client.v1.customers.retrieve_async(done["customer"])).email == "bob@example.com"


async def test_sessions_expire_by_themselves_and_by_request(stripe: SimulatedStripe, client: StripeClient) -> None:
    customer = await client.v1.customers.create_async()
    soon = await check_out(client, customer.id, expires_at=stripe.now() + 1800)
    later = await check_out(client, customer.id)
    stripe.advance(1801)
    assert (await client.v1.checkout.sessions.retrieve_async(soon.id)).status == "expired"
    assert (await client.v1.checkout.sessions.retrieve_async(later.id)).status == "open"
    await client.v1.checkout.sessions.expire_async(later.id)
    with pytest.raises(InvalidRequestError, match="status of expired"):
        await client.v1.checkout.sessions.expire_async(later.id)
    with pytest.raises(Wrong, match="expired"):
        stripe.pay(later.id)
    assert [event["type"] for event in stripe.events].count("checkout.session.expired") == 2


async def test_sessions_are_found_by_customer_subscription_and_status(
    stripe: SimulatedStripe, client: StripeClient
) -> None:
    subscription = await subscribe(stripe, client)
    sessions = client.v1.checkout.sessions
    await check_out(client, subscription.customer)
    assert len((await sessions.list_async({"customer": subscription.customer})).data) == 2
    assert len((await sessions.list_async({"subscription": subscription.id})).data) == 1
    (row,) = (await sessions.list_async({"customer": subscription.customer, "status": "open"})).data
    assert row.subscription is None
    (item,) = (await sessions.line_items.list_async(row.id)).data
    assert (item.price.id, item.amount_total) == (STARTER, 900)


@pytest.mark.parametrize(
    ("wish", "param"),
    [
        ({"line_items": [{"price": "price_nobody", "quantity": 1}]}, "line_items[0][price]"),
        ({"line_items": [{"price": STARTER}]}, "line_items[0][quantity]"),
        ({"line_items": []}, "line_items"),
        ({"customer": "cus_nobody"}, "customer"),
        ({"customer_email": "a@b.example"}, "customer_email"),
        ({"success_url": "portal.example"}, "success_url"),
        ({"expires_at": 12}, "expires_at"),
        ({"payment_method_types": ["card"]}, "payment_method_types"),
        ({"subscription_data": {"metadat": {}, "trial": "x"}}, "subscription_data[trial]"),
        ({"line_items": [{"price": STARTER, "quantity": 1}, {"price": DOLLARS, "quantity": 1}]}, "line_items"),
    ],
)
async def test_what_is_wrong_is_refused_by_its_name(client: StripeClient, wish: dict, param: str) -> None:
    wish = {"customer": (await client.v1.customers.create_async()).id, **wish}
    with pytest.raises(InvalidRequestError) as refusal:
        await check_out(client, wish.pop("customer"), **wish)
    assert refusal.value.http_status == 400
    assert refusal.value.param == param


async def test_a_customer_has_one_currency(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client)
    with pytest.raises(InvalidRequestError, match="combine currencies"):
        await check_out(client, subscription.customer, DOLLARS)
    # Nothing else hinders a second subscription.
    second = await check_out(client, subscription.customer, PRO)
    stripe.pay(second.id)
    assert len((await client.v1.subscriptions.list_async({"customer": subscription.customer})).data) == 2


async def test_the_order_of_what_is_told(stripe: SimulatedStripe, client: StripeClient) -> None:
    await subscribe(stripe, client)
    told = [event["type"] for event in stripe.events if event["type"] != "customer.updated"]
    assert told == [
        "customer.created",
        "payment_method.attached",
        "invoice.created",
        "customer.subscription.created",
        "invoice.finalized",
        "invoice.paid",
        "invoice.payment_succeeded",
        "customer.subscription.updated",
        "checkout.session.completed",
    ]
    created = next(event for event in stripe.events if event["type"] == "customer.subscription.created")
    updated = next(event for event in stripe.events if event["type"] == "customer.subscription.updated")
    assert created["data"]["object"]["status"] == "incomplete"
    assert updated["data"]["object"]["status"] == "active"
    assert updated["data"]["previous_attributes"] == {"status": "incomplete"}


async def test_a_page_to_come_back_to_changes_nothing(stripe: SimulatedStripe) -> None:
    before = stripe.state()["objects"]
    async with httpx.AsyncClient(base_url=stripe.url, trust_env=False) as browser:
        for query, words in (("?checkout=success", "was made"), ("?checkout=cancelled", "Nothing"), ("", "Back")):
            answer = await browser.get(f"/returned{query}")
            assert (answer.status_code, words in answer.text) == (200, True)
        assert "<script>" not in (await browser.get("/returned?checkout=<script>")).text
    assert stripe.state()["objects"] == before
