"""What can be wrong with Stripe, as the library sees it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import trio
from stripe import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    HTTPXClient,
    RateLimitError,
    StripeClient,
)

from tests.simulators.stripe.shop import PRICES, check_out, subscribe
from zlh.simulators.stripe import KEY, Card, FaultName, SimulatedStripe, open_stripe


async def test_an_answer_that_was_lost_is_replayed(stripe: SimulatedStripe, client: StripeClient) -> None:
    stripe.cause(FaultName.LOST_ANSWER, times=1)
    options: Any = {"idempotency_key": "k1"}
    with pytest.raises(APIConnectionError):
        await client.v1.customers.create_async({"name": "Ada"}, options)
    again = await client.v1.customers.create_async({"name": "Ada"}, options)
    assert again.last_response is not None
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert [row["id"] for row in stripe.of("customer")] == [again.id]


async def test_the_library_s_own_retry_uses_the_same_key(stripe: SimulatedStripe) -> None:
    http = HTTPXClient(verify_ssl_certs=False)
    client = StripeClient(KEY, base_addresses={"api": stripe.url}, http_client=http, max_network_retries=1)
    stripe.cause(FaultName.LOST_ANSWER, times=1)
    await client.v1.customers.create_async({"name": "Ada"})
    await http.close_async()
    assert len(stripe.of("customer")) == 1
    assert stripe.calls["POST /v1/customers"] == 2


async def test_an_answer_to_a_cancellation_that_was_lost(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client)
    stripe.cause(FaultName.LOST_ANSWER, times=1)
    with pytest.raises(APIConnectionError):
        await client.v1.subscriptions.cancel_async(subscription.id)
    assert (await client.v1.subscriptions.retrieve_async(subscription.id)).status == "canceled"


@pytest.mark.parametrize(
    ("fault", "error", "status"),
    [
        (FaultName.BROKEN, APIError, 500),
        (FaultName.TOO_MANY, RateLimitError, 429),
        (FaultName.GARBAGE, APIError, 200),
        (FaultName.REFUSING, AuthenticationError, 401),
    ],
)
async def test_by_name(
    stripe: SimulatedStripe, client: StripeClient, fault: FaultName, error: type[Exception], status: int
) -> None:
    stripe.cause(fault)
    with pytest.raises(error) as refusal:
        await client.v1.customers.create_async()
    assert refusal.value.http_status == status  # type: ignore[attr-defined]
    stripe.calm()
    assert stripe.of("customer") == []
    await client.v1.customers.create_async()


async def test_what_broke_in_the_middle_stays_broken_for_its_key(
    stripe: SimulatedStripe, client: StripeClient
) -> None:
    stripe.cause(FaultName.HALF, count=0)
    options: Any = {"idempotency_key": "k1"}
    with pytest.raises(APIError):
        await client.v1.customers.create_async({}, options)
    stripe.calm()
    with pytest.raises(APIError) as refusal:
        await client.v1.customers.create_async({}, options)
    assert refusal.value.headers["idempotent-replayed"] == "true"  # type: ignore[index]


async def test_down_and_up_again(stripe: SimulatedStripe, client: StripeClient) -> None:
    customer = await client.v1.customers.create_async()
    stripe.cause(FaultName.DOWN)
    with pytest.raises(APIConnectionError), trio.fail_after(5):
        while True:
            await client.v1.customers.retrieve_async(customer.id)
    stripe.calm()
    with trio.fail_after(5):
        while True:
            try:
                await client.v1.customers.retrieve_async(customer.id)
            except APIConnectionError:
                await trio.lowlevel.checkpoint()
            else:
                break


async def test_slow(stripe: SimulatedStripe, client: StripeClient) -> None:
    stripe.cause(FaultName.SLOW, seconds=60, times=1)
    with trio.move_on_after(0.1) as scope:
        await client.v1.customers.create_async({}, {"idempotency_key": "k1"})
    assert scope.cancelled_caught
    assert stripe.of("customer") == []


async def test_each_request_is_counted_and_can_be_watched(stripe: SimulatedStripe, client: StripeClient) -> None:
    seen: list[int] = []
    stripe.on_call = lambda: seen.append(len(stripe.of("customer")))
    await client.v1.customers.create_async()
    await client.v1.customers.list_async()
    assert seen == [0, 1]
    assert stripe.calls == {"POST /v1/customers": 1, "GET /v1/customers": 1}


async def test_from_another_process(stripe: SimulatedStripe, client: StripeClient) -> None:
    async with httpx.AsyncClient(base_url=f"{stripe.url}/simulator", trust_env=False, verify=False) as control:

        async def do(command: str, **wish: Any) -> dict[str, Any]:
            answer = await control.post(f"/{command}", json=wish)
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

        customer = await client.v1.customers.create_async({"email": "ada@example.com"})
        session = await check_out(client, customer.id)
        paid = await do("pay", session=session.id)
        assert paid["status"] == "complete"
        begun = stripe.now()
        assert (await do("advance", seconds=3600))["now"] >= begun + 3600
        await do("advance", to=begun + 7200)
        assert begun + 7200 <= stripe.now() < begun + 7260
        await do("faults", fault="card_declined", customer=customer.id)
        assert stripe.account.cards.of(customer.id) is Card.DECLINED
        await do("cards", customer=customer.id, card="requires_action")
        assert stripe.account.cards.of(customer.id) is Card.REQUIRES_ACTION
        await do("portal", action="card", customer=customer.id)
        await do("portal", action="cancel", subscription=paid["subscription"])
        assert stripe.of("subscription")[0]["cancel_at"] is not None
        await do("portal", action="resume", subscription=paid["subscription"])
        assert (await do("disputes", customer=customer.id))["object"] == "dispute"
        await do("webhooks", held=True, duplicates=True)
        await do("endpoints", url="http://127.0.0.1:9/", secrets=["whsec_1", "whsec_2"])
        assert (await do("redeliver", days=1, types=["customer.created"]))["count"] == 1
        assert stripe.webhooks.pending == 2
        await do("faults", fault="too_many", times=1)
        with pytest.raises(RateLimitError):
            await client.v1.customers.list_async()
        state = (await control.get("/state")).json()
        assert state["objects"]["subscription"] == 1
        for command, wish, status in (
            ("advance", {}, 400),
            ("cards", {"customer": customer.id, "card": "stolen"}, 400),
            ("pay", {"session": "cs_nobody"}, 404),
            ("webhooks", {"lost": True}, 400),
            ("nothing", {}, 404),
        ):
            assert (await control.post(f"/{command}", json=wish)).status_code == status


async def test_one_restart_with_a_file_loses_nothing(tmp_path: Any) -> None:
    kept: dict[str, Any] = {"state": tmp_path / "stripe.json"}
    http = HTTPXClient(verify_ssl_certs=False)
    async with open_stripe(PRICES, **kept) as stripe:
        client = StripeClient(KEY, base_addresses={"api": stripe.url}, http_client=http)
        stripe.webhooks.add("http://127.0.0.1:9/", "whsec_1")
        stripe.webhooks.change(held=True)
        subscription = await subscribe(stripe, client)
        first = await client.v1.customers.create_async({}, {"idempotency_key": "k1"})
        clock = await client.v1.test_helpers.test_clocks.create_async({"frozen_time": 1_800_000_000})
        stripe.advance(43200)
        now, pending = stripe.now(), stripe.webhooks.pending
        before = stripe.account.export()["book"]
        port = stripe.port
    async with open_stripe(port=port, **kept) as stripe:
        assert stripe.account.export()["book"] == before
        assert abs(stripe.now() - now) < 60
        assert (stripe.now(clock.id), stripe.webhooks.pending) == (1_800_000_000, pending)
        again = await client.v1.customers.create_async({}, {"idempotency_key": "k1"})
        assert again.id == first.id
        stripe.advance(31 * 86400)
        renewed = await client.v1.subscriptions.retrieve_async(subscription.id, {"expand": ["latest_invoice"]})
        assert renewed.latest_invoice.billing_reason == "subscription_cycle"
    await http.close_async()
