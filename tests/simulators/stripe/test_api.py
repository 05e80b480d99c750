"""How the API is asked: keys, idempotency, pages of lists, expansion, and what it says to what is wrong."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import stripe as library
import trio
from stripe import APIError, AuthenticationError, IdempotencyError, InvalidRequestError, StripeClient

from tests.simulators.stripe.conftest import open_client
from tests.simulators.stripe.shop import PRO, STARTER, check_out, subscribe
from zlh.simulators.stripe import DAY, KEY, VERSION, Card, FaultName, SimulatedStripe


def test_it_is_of_the_library_s_version() -> None:
    assert library.api_version == VERSION


async def test_only_the_key_is_let_in(stripe: SimulatedStripe) -> None:
    async with open_client(stripe, "sk_test_0123456789abcdef") as stranger:
        with pytest.raises(AuthenticationError, match=r"Invalid API Key provided: sk_test_\*+cdef") as refusal:
            await stranger.v1.customers.list_async()
    assert refusal.value.http_status == 401
    async with httpx.AsyncClient(base_url=stripe.url, trust_env=False, verify=False) as plain:
        answer = await plain.get("/v1/customers")
        assert answer.status_code == 401
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert (await plain.get("/v1/customers", auth=(KEY, ""))).status_code == 200


async def test_answers_say_which_request_they_answer(client: StripeClient) -> None:
    customer = await client.v1.customers.create_async()
    assert customer.last_response is not None
    assert customer.last_response.request_id.startswith("req_")
    with pytest.raises(InvalidRequestError) as refusal:
        await client.v1.customers.retrieve_async("cus_nobody")
    assert refusal.value.request_id is not None
    assert (refusal.value.http_status, refusal.value.code, refusal.value.param) == (404, "resource_missing", "id")
    assert refusal.value.user_message == "No such customer: 'cus_nobody'"


async def test_an_address_that_there_is_not(client: StripeClient) -> None:
    with pytest.raises(InvalidRequestError, match="Unrecognized request URL") as refusal:
        await client.v1.coupons.list_async()
    assert refusal.value.http_status == 404


@pytest.mark.parametrize(
    ("wish", "param", "code"),
    [
        ({"emial": "a@b.example"}, "emial", "parameter_unknown"),
        ({"email": "nobody"}, "email", "email_invalid"),
        ({"name": "x" * 513}, "name", None),
        ({"metadata": {"k" * 41: "v"}}, f"metadata[{'k' * 41}]", None),
        ({"test_clock": "clock_none"}, "test_clock", "resource_missing"),
    ],
)
async def test_what_is_wrong_is_named(client: StripeClient, wish: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        await client.v1.customers.create_async(wish)  # type: ignore[arg-type]
    assert (refusal.value.http_status, refusal.value.param, refusal.value.code) == (400, param, code)


# Idempotency


async def test_the_same_key_and_parameters_are_answered_as_before(
    stripe: SimulatedStripe, client: StripeClient
) -> None:
    first = await client.v1.customers.create_async({"name": "Ada"}, {"idempotency_key": "k1"})
    await client.v1.customers.update_async(first.id, {"name": "Grace"})
    again = await client.v1.customers.create_async({"name": "Ada"}, {"idempotency_key": "k1"})
    assert (again.id, again.name) == (first.id, "Ada")
    assert again.last_response is not None
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert first.last_response is not None
    assert "Idempotent-Replayed" not in first.last_response.headers
    assert again.last_response.headers["Original-Request"] == first.last_response.request_id
    assert len(stripe.of("customer")) == 1


async def test_the_same_key_for_something_else_is_refused(client: StripeClient) -> None:
    made = await client.v1.customers.create_async({"name": "Ada"}, {"idempotency_key": "k1"})
    with pytest.raises(IdempotencyError, match="same parameters") as refusal:
        await client.v1.customers.create_async({"name": "Grace"}, {"idempotency_key": "k1"})
    assert refusal.value.http_status == 400
    with pytest.raises(IdempotencyError, match="same endpoint"):
        await client.v1.customers.update_async(made.id, {"name": "Ada"}, {"idempotency_key": "k1"})


async def test_a_key_that_is_being_used_is_409(stripe: SimulatedStripe, client: StripeClient) -> None:
    stripe.cause(FaultName.SLOW, seconds=0.3, times=1)

    async def ask() -> None:
        await client.v1.customers.create_async({}, {"idempotency_key": "k1"})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        with trio.fail_after(5):
            while stripe.calls["POST /v1/customers"] == 0:
                await trio.lowlevel.checkpoint()
        with pytest.raises(APIError) as refusal:
            await client.v1.customers.create_async({}, {"idempotency_key": "k1"})
        assert refusal.value.http_status == 409
        assert refusal.value.error is not None
        assert refusal.value.error.code == "idempotency_key_in_use"
    assert len(stripe.of("customer")) == 1


async def test_what_was_not_executed_can_be_tried_with_the_same_key(client: StripeClient) -> None:
    options: Any = {"idempotency_key": "k1"}
    with pytest.raises(InvalidRequestError):
        await client.v1.customers.create_async({"email": "nobody"}, options)
    assert (await client.v1.customers.create_async({"email": "a@b.example"}, options)).email == "a@b.example"


async def test_a_declined_card_is_declined_again_with_the_same_key(
    stripe: SimulatedStripe, client: StripeClient
) -> None:
    subscription = await subscribe(stripe, client)
    stripe.set_card(subscription.customer, Card.DECLINED)
    wish: Any = {
        "items": [{"id": subscription.items.data[0].id, "price": PRO}],
        "proration_behavior": "always_invoice",
        "payment_behavior": "error_if_incomplete",
    }
    for _ in range(2):
        with pytest.raises(library.CardError) as refusal:
            await client.v1.subscriptions.update_async(subscription.id, wish, {"idempotency_key": "k1"})
        stripe.set_card(subscription.customer, Card.WORKS)
    assert refusal.value.headers["idempotent-replayed"] == "true"  # type: ignore[index]
    await client.v1.subscriptions.update_async(subscription.id, wish, {"idempotency_key": "k2"})


async def test_keys_are_forgotten_after_a_day(stripe: SimulatedStripe, client: StripeClient) -> None:
    first = await client.v1.customers.create_async({}, {"idempotency_key": "k1"})
    stripe.advance(DAY + 1)
    assert (await client.v1.customers.create_async({}, {"idempotency_key": "k1"})).id != first.id


# Lists


async def test_pages_follow_each_other_newest_first(client: StripeClient) -> None:
    made = [(await client.v1.customers.create_async({"name": str(i)})).id for i in range(23)]
    first = await client.v1.customers.list_async()
    assert (len(first.data), first.has_more, first.url) == (10, True, "/v1/customers")
    second = await client.v1.customers.list_async({"limit": 10, "starting_after": first.data[-1].id})
    back = await client.v1.customers.list_async({"limit": 10, "ending_before": second.data[0].id})
    assert [row.id for row in back.data] == [row.id for row in first.data]
    seen = [row.id async for row in (await client.v1.customers.list_async({"limit": 7})).auto_paging_iter()]
    assert seen == made[::-1]


@pytest.mark.parametrize(
    "wish", [{"limit": 0}, {"limit": 101}, {"starting_after": "cus_nobody"}, {"limit": "many"}, {"lmit": 3}]
)
async def test_a_page_that_cannot_be(client: StripeClient, wish: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        await client.v1.customers.list_async(wish)  # type: ignore[arg-type]


async def test_customers_are_found_by_their_email_as_it_is_written(client: StripeClient) -> None:
    ada = await client.v1.customers.create_async({"email": "Ada@example.com"})
    await client.v1.customers.create_async({"email": "bob@example.com"})
    assert [row.id for row in (await client.v1.customers.list_async({"email": "Ada@example.com"})).data] == [ada.id]
    assert (await client.v1.customers.list_async({"email": "ada@example.com"})).data == []
    await client.v1.customers.delete_async(ada.id)
    assert (await client.v1.customers.list_async({"email": "Ada@example.com"})).data == []


async def test_subscriptions_are_listed_by_status_customer_and_price(
    stripe: SimulatedStripe, client: StripeClient
) -> None:
    subscriptions = client.v1.subscriptions
    first, second = await subscribe(stripe, client), await subscribe(stripe, client, PRO)
    await subscriptions.cancel_async(first.id)

    async def ids(**wish: Any) -> list[str]:
        return [row.id async for row in (await subscriptions.list_async({"limit": 1, **wish})).auto_paging_iter()]

    assert await ids() == [second.id]
    assert await ids(status="all") == [second.id, first.id]
    assert await ids(status="canceled") == await ids(status="ended") == [first.id]
    assert await ids(price=PRO) == [second.id]
    assert await ids(customer=first.customer) == []
    assert await ids(customer=first.customer, status="all") == [first.id]


async def test_what_has_a_test_clock_is_only_listed_where_it_is_asked_for(
    stripe: SimulatedStripe, client: StripeClient
) -> None:
    clock = await client.v1.test_helpers.test_clocks.create_async({"frozen_time": stripe.now()})
    subscription = await subscribe(stripe, client, test_clock=clock.id)
    assert (await client.v1.customers.list_async()).data == []
    assert (await client.v1.subscriptions.list_async({"status": "all"})).data == []
    for wish in ({"test_clock": clock.id}, {"customer": subscription.customer}):
        assert len((await client.v1.subscriptions.list_async(wish)).data) == 1


async def test_events_are_listed_by_type_and_time_for_thirty_days(
    stripe: SimulatedStripe, client: StripeClient
) -> None:
    events = client.v1.events
    old = await client.v1.customers.create_async()
    begun = stripe.now()
    stripe.advance(20 * DAY)
    await subscribe(stripe, client)

    async def types(**wish: Any) -> list[str]:
        return [event.type for event in (await events.list_async({"limit": 100, **wish})).data]

    assert (await types())[0] == "checkout.session.completed"
    assert await types(types=["customer.created", "invoice.paid"]) == [
        "invoice.paid",
        "customer.created",
        "customer.created",
    ]
    assert await types(type="invoice.*") == (await types(type="invoice.*", created={"gt": begun}))
    assert await types(created={"lte": begun}) == ["customer.created"]
    (first,) = (await events.list_async({"created": {"lte": begun}})).data
    assert first.data.object.id == old.id
    stripe.advance(11 * DAY)
    assert await types(created={"lte": begun}) == []
    with pytest.raises(InvalidRequestError, match="No such event"):
        await events.retrieve_async(first.id)


async def test_prices_and_products(client: StripeClient) -> None:
    (price,) = (await client.v1.prices.list_async({"lookup_keys": ["starter"], "expand": ["data.product"]})).data
    assert (price.id, price.unit_amount, price.currency, price.product.name) == (STARTER, 900, "eur", "Starter")
    assert price.recurring.interval == "month"
    assert (await client.v1.products.retrieve_async(price.product.id)).default_price == STARTER
    with pytest.raises(InvalidRequestError, match="No such price"):
        await client.v1.prices.retrieve_async("price_nobody")


# Expansion


async def test_ids_become_objects_where_they_are_wanted(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client)
    shown = await client.v1.subscriptions.retrieve_async(
        subscription.id,
        {"expand": ["customer", "latest_invoice.payments.data.payment.payment_intent", "default_payment_method"]},
    )
    assert shown.customer.email == "ada@example.com"
    assert shown.default_payment_method.card.last4 == "4242"
    intent = shown.latest_invoice.payments.data[0].payment.payment_intent
    assert (intent.status, intent.amount) == ("succeeded", 900)
    (row,) = (await client.v1.subscriptions.list_async({"expand": ["data.customer", "data.latest_invoice"]})).data
    assert (row.customer.id, row.latest_invoice.status) == (subscription.customer, "paid")
    customer = await client.v1.customers.retrieve_async(subscription.customer, {"expand": ["subscriptions"]})
    assert [one.id for one in customer.subscriptions.data] == [subscription.id]
    session = (await client.v1.checkout.sessions.list_async({"expand": ["data.line_items"]})).data[0]
    assert session.line_items.data[0].price.id == STARTER
    assert not hasattr(subscription, "payments")


async def test_what_cannot_be_expanded_is_said(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client)
    with pytest.raises(InvalidRequestError, match=r"cannot be expanded \(plan\)"):
        await client.v1.subscriptions.retrieve_async(subscription.id, {"expand": ["plan"]})


# Disputes


async def test_a_dispute_leads_to_the_customer(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client)
    opened = stripe.dispute(subscription.customer)
    assert stripe.events[-1]["type"] == "charge.dispute.created"
    dispute = await client.v1.disputes.retrieve_async(opened["id"], {"expand": ["charge.customer"]})
    assert (dispute.status, dispute.amount) == ("needs_response", 900)
    assert dispute.charge.customer.id == subscription.customer
    charge = await client.v1.charges.retrieve_async(dispute.charge.id)
    assert (charge.disputed, charge.customer) == (True, subscription.customer)


async def test_a_customer_s_invoices(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client)
    await check_out(client, subscription.customer)
    (invoice,) = (await client.v1.invoices.list_async({"customer": subscription.customer, "status": "paid"})).data
    assert invoice.number.endswith("-0001")
    (line,) = (await client.v1.invoices.line_items.list_async(invoice.id)).data
    assert (line.amount, line.pricing.price_details.price) == (900, STARTER)
    with pytest.raises(InvalidRequestError, match="already finalized"):
        await client.v1.invoices.finalize_invoice_async(invoice.id)
    with pytest.raises(InvalidRequestError, match="only void open invoices"):
        await client.v1.invoices.void_invoice_async(invoice.id)
