"""Webhooks: signed as the library verifies it, until they are taken; on demand twice, in any order, later, never."""

from __future__ import annotations

import pytest
import trio
from stripe import StripeClient

from tests.simulators.stripe.hook import OLD_SECRET, SECRET, Hook, open_hook
from tests.simulators.stripe.shop import PRICES, STARTER, check_out, subscribe
from zlh.simulators.stripe import DAY, VERSION, SimulatedStripe, open_stripe


@pytest.fixture
async def hook(stripe: SimulatedStripe):
    async with open_hook() as hook:
        stripe.webhooks.add(hook.url, SECRET)
        yield hook


async def make(client: StripeClient, count: int) -> list[str]:
    """So many customers, one after the other; each is one event."""
    return [(await client.v1.customers.create_async({"name": f"customer {i}"})).id for i in range(count)]


async def quiet(stripe: SimulatedStripe) -> None:
    with trio.fail_after(10):
        await stripe.webhooks.quiet()


async def test_events_come_in_order_and_are_what_the_api_shows(
    stripe: SimulatedStripe, client: StripeClient, hook: Hook
) -> None:
    subscription = await subscribe(stripe, client)
    await quiet(stripe)
    assert hook.types == [event["type"] for event in stripe.events]
    assert hook.ids == [event["id"] for event in stripe.events]
    (created,) = [event for event in hook.got if event.type == "customer.subscription.created"]
    assert (created.object, created.livemode, created.api_version) == ("event", False, VERSION)
    assert (created.data.object.id, created.data.object.object) == (subscription.id, "subscription")
    assert (await client.v1.events.retrieve_async(created.id)).data.object.id == subscription.id


async def test_an_event_says_which_request_caused_it(client: StripeClient, hook: Hook) -> None:
    await client.v1.customers.create_async({}, {"idempotency_key": "op-1-step-1"})
    await hook.until(1)
    assert hook.got[0].request.idempotency_key == "op-1-step-1"
    assert hook.got[0].request.id.startswith("req_")


async def test_every_secret_signs(stripe: SimulatedStripe, client: StripeClient) -> None:
    async with open_hook(SECRET) as new, open_hook(OLD_SECRET) as old, open_hook("whsec_another") as stranger:
        for hook in (new, old):
            stripe.webhooks.add(hook.url, [OLD_SECRET, SECRET])
        stripe.webhooks.add(stranger.url, SECRET)
        await make(client, 1)
        await new.until(1)
        await old.until(1)
        await quiet(stripe)
    assert new.headers[0].count(",v1=") == 2
    assert stranger.got == []
    assert stranger.forged == 1 + len(stripe.webhooks.pauses)


async def test_only_the_wanted_types_are_posted(stripe: SimulatedStripe, client: StripeClient) -> None:
    async with open_hook() as hook:
        stripe.webhooks.add(hook.url, SECRET, ["invoice.*", "checkout.session.completed"])
        await subscribe(stripe, client)
        await quiet(stripe)
        assert set(hook.types) == {
            "invoice.created",
            "invoice.finalized",
            "invoice.paid",
            "invoice.payment_succeeded",
            "checkout.session.completed",
        }


async def test_what_is_not_taken_is_posted_again(stripe: SimulatedStripe, client: StripeClient, hook: Hook) -> None:
    hook.answers = [500, 503, 200]
    await make(client, 1)
    await hook.until(1)
    await quiet(stripe)
    assert hook.types == ["customer.created"]
    assert stripe.webhooks.attempts == 3


async def test_others_do_not_wait_for_what_is_not_taken(
    stripe: SimulatedStripe, client: StripeClient, hook: Hook
) -> None:
    hook.answers = [500, 500, 500]
    first, second = await make(client, 2)
    await hook.until(2)
    assert {event.data.object.id for event in hook.got} == {first, second}
    await quiet(stripe)


async def test_after_the_last_attempt_it_is_given_up(
    stripe: SimulatedStripe, client: StripeClient, hook: Hook
) -> None:
    hook.status = 500
    await make(client, 1)
    await quiet(stripe)
    assert stripe.webhooks.attempts == 1 + len(stripe.webhooks.pauses)
    assert stripe.webhooks.given_up == 1
    assert (await client.v1.events.list_async()).data[0].type == "customer.created"


async def test_nobody_listening_is_like_an_answer_that_is_not_2xx(
    stripe: SimulatedStripe, client: StripeClient
) -> None:
    stripe.webhooks.add("http://127.0.0.1:9/hook", SECRET)
    await make(client, 1)
    await quiet(stripe)
    assert stripe.webhooks.given_up == 1


async def test_time_that_is_advanced_brings_the_next_attempt() -> None:
    async with open_stripe(PRICES, webhook_pauses=(3600.0,)) as stripe, open_hook() as hook:
        stripe.webhooks.add(hook.url, SECRET)
        hook.answers = [500, 200]
        session = stripe.account.customers.make({"email": "ada@example.com"}, {})
        with trio.fail_after(10):
            await hook.asked.wait()
        assert hook.got == []
        stripe.advance(2 * 3600)
        await hook.until(1)
        assert hook.got[0].data.object.id == session["id"]


async def test_duplicates(stripe: SimulatedStripe, client: StripeClient, hook: Hook) -> None:
    stripe.webhooks.change(duplicates=True)
    await make(client, 2)
    await hook.until(4)
    first, again, second, also = hook.ids
    assert (first, second) == (again, also)
    assert first != second


async def test_disorder_loses_nothing() -> None:
    async with open_stripe(PRICES, seed=7) as stripe, open_hook() as hook:
        stripe.webhooks.add(hook.url, SECRET)
        stripe.webhooks.change(disorder=0.05)
        for _ in range(12):
            stripe.account.customers.make({}, {})
        await hook.until(12)
        told = [event["id"] for event in stripe.events]
        assert sorted(hook.ids) == sorted(told)
        assert hook.ids != told


async def test_held_until_released(stripe: SimulatedStripe, client: StripeClient, hook: Hook) -> None:
    stripe.webhooks.change(held=True)
    await make(client, 3)
    await quiet(stripe)
    assert hook.got == []
    assert stripe.webhooks.pending == 3
    stripe.webhooks.change(held=False)
    await hook.until(3)


async def test_dropped_is_a_gap_that_the_list_of_events_fills(
    stripe: SimulatedStripe, client: StripeClient, hook: Hook
) -> None:
    await make(client, 1)
    await hook.until(1)
    stripe.webhooks.change(dropped=True)
    (lost,) = await make(client, 1)
    stripe.webhooks.change(dropped=False)
    await make(client, 1)
    await hook.until(2)
    await quiet(stripe)
    events = (await client.v1.events.list_async()).data
    assert lost in [event.data.object.id for event in events]
    assert lost not in [event.data.object.id for event in hook.got]


async def test_a_week_is_posted_again(stripe: SimulatedStripe, client: StripeClient, hook: Hook) -> None:
    await make(client, 2)
    stripe.advance(10 * DAY)
    await make(client, 3)
    await hook.until(5)
    assert stripe.redeliver(7) == 3
    await hook.until(8)
    assert hook.ids[5:] == hook.ids[2:5]
    assert stripe.redeliver(30, ["customer.updated"]) == 0


async def test_signatures_bear_the_time_of_the_request_and_can_be_wrong(
    stripe: SimulatedStripe, client: StripeClient, hook: Hook
) -> None:
    stripe.advance(100 * DAY)
    await make(client, 1)
    await hook.until(1)
    stripe.webhooks.change(skew=-400)
    await make(client, 1)
    await quiet(stripe)
    assert len(hook.got) == 1
    assert hook.forged == 1 + len(stripe.webhooks.pauses)


async def test_changes_carry_what_was_there_before(client: StripeClient, hook: Hook) -> None:
    customer = await client.v1.customers.create_async({"name": "Ada", "metadata": {"a": "1", "b": "2"}})
    await client.v1.customers.update_async(customer.id, {"name": "Grace", "metadata": {"b": "", "c": "3"}})
    await client.v1.customers.update_async(customer.id, {"name": "Grace"})
    await client.v1.customers.delete_async(customer.id)
    await hook.until(3)
    assert hook.types == ["customer.created", "customer.updated", "customer.deleted"]
    before = hook.got[1].data.previous_attributes.to_dict()
    assert before == {"name": "Ada", "metadata": {"b": "2", "c": None}}
    assert hook.got[1].data.object.metadata.to_dict() == {"a": "1", "c": "3"}


async def test_a_session_that_is_open_tells_nobody(stripe: SimulatedStripe, client: StripeClient, hook: Hook) -> None:
    await check_out(client, None, STARTER)
    await quiet(stripe)
    assert hook.got == []


async def test_what_waits_follows_the_one_endpoint(stripe: SimulatedStripe, client: StripeClient) -> None:
    """As of a seller who starts anew at another port."""
    async with open_hook() as gone, open_hook() as here:
        stripe.webhooks.only(gone.url, SECRET)
        stripe.webhooks.change(held=True)
        await make(client, 2)
        stripe.webhooks.only(here.url, SECRET)
        stripe.webhooks.change(held=False)
        await quiet(stripe)
        assert (gone.types, here.types) == ([], ["customer.created"] * 2)
