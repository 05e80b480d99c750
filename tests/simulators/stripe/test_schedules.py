"""Schedules: another price from the end of the period on."""

from __future__ import annotations

from typing import Any

import pytest
from stripe import InvalidRequestError, StripeClient

from tests.simulators.stripe.shop import DOLLARS, PRO, STARTER, subscribe
from zlh.simulators.stripe import DAY, SimulatedStripe

HOUR = 3600


async def downgrade_later(client: StripeClient, subscription: Any, **more: Any) -> Any:
    """The way that Stripe's documents name: from the subscription, then both phases."""
    schedules = client.v1.subscription_schedules
    schedule = await schedules.create_async({"from_subscription": subscription.id})
    phase = schedule.phases[0]
    return await schedules.update_async(
        schedule.id,
        {
            "phases": [
                {
                    "items": [{"price": phase.items[0].price, "quantity": 1}],
                    "start_date": phase.start_date,
                    "end_date": phase.end_date,
                },
                {"items": [{"price": STARTER, "quantity": 1}], "proration_behavior": "none", **more},
            ],
        },
    )


async def test_a_downgrade_at_the_end_of_the_period(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client, PRO)
    schedule = await downgrade_later(client, subscription)
    item = subscription.items.data[0]
    assert (schedule.status, len(schedule.phases)) == ("active", 2)
    assert schedule.current_phase.end_date == schedule.phases[1].start_date == item.current_period_end
    attached = await client.v1.subscriptions.retrieve_async(subscription.id)
    assert (attached.schedule, attached.items.data[0].price.id) == (schedule.id, PRO)
    stripe.advance(item.current_period_end + HOUR - stripe.now())
    after = await client.v1.subscriptions.retrieve_async(subscription.id, {"expand": ["latest_invoice"]})
    assert (after.items.data[0].price.id, after.items.data[0].id) == (STARTER, item.id)
    assert [line.amount for line in after.latest_invoice.lines.data] == [900]
    stripe.advance(32 * DAY)
    over = await client.v1.subscription_schedules.retrieve_async(schedule.id)
    assert (over.status, over.released_subscription) == ("released", subscription.id)
    free = await client.v1.subscriptions.retrieve_async(subscription.id)
    assert (free.schedule, free.status, free.items.data[0].price.id) == (None, "active", STARTER)


async def test_released_nothing_changes(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client, PRO)
    schedule = await downgrade_later(client, subscription)
    released = await client.v1.subscription_schedules.release_async(schedule.id)
    assert (released.status, released.subscription) == ("released", None)
    stripe.advance(32 * DAY)
    after = await client.v1.subscriptions.retrieve_async(subscription.id)
    assert (after.schedule, after.items.data[0].price.id) == (None, PRO)
    with pytest.raises(InvalidRequestError, match="currently in the `released` status"):
        await client.v1.subscription_schedules.release_async(schedule.id)


async def test_an_upgrade_meanwhile_does_not_undo_the_schedule(stripe: SimulatedStripe, client: StripeClient) -> None:
    subscription = await subscribe(stripe, client)
    schedule = await downgrade_later(client, subscription)
    item = subscription.items.data[0]
    await client.v1.subscriptions.update_async(
        subscription.id, {"items": [{"id": item.id, "price": PRO}], "proration_behavior": "always_invoice"}
    )
    now = await client.v1.subscription_schedules.retrieve_async(schedule.id)
    assert [phase.items[0].price for phase in now.phases] == [PRO, STARTER]
    stripe.advance(item.current_period_end + HOUR - stripe.now())
    after = await client.v1.subscriptions.retrieve_async(subscription.id)
    assert after.items.data[0].price.id == STARTER


async def test_a_phase_can_change_the_metadata_and_end_the_subscription(
    stripe: SimulatedStripe, client: StripeClient
) -> None:
    subscription = await subscribe(stripe, client, PRO)
    schedule = await downgrade_later(
        client, subscription, metadata={"plan": "starter"}, duration={"interval": "month", "interval_count": 1}
    )
    await client.v1.subscription_schedules.update_async(schedule.id, {"end_behavior": "cancel"})
    stripe.advance(32 * DAY)
    assert (await client.v1.subscriptions.retrieve_async(subscription.id)).metadata.plan == "starter"
    stripe.advance(31 * DAY)
    assert (await client.v1.subscriptions.retrieve_async(subscription.id)).status == "canceled"
    assert (await client.v1.subscription_schedules.retrieve_async(schedule.id)).status == "completed"


async def test_a_scheduled_subscription_is_not_cancelled_directly_at_its_end(
    stripe: SimulatedStripe, client: StripeClient
) -> None:
    subscription = await subscribe(stripe, client, PRO)
    schedule = await downgrade_later(client, subscription)
    with pytest.raises(InvalidRequestError, match="managed by the subscription schedule"):
        await client.v1.subscriptions.update_async(subscription.id, {"cancel_at_period_end": True})
    with pytest.raises(InvalidRequestError, match="already attached to a schedule"):
        await client.v1.subscription_schedules.create_async({"from_subscription": subscription.id})
    await client.v1.subscriptions.cancel_async(subscription.id)
    assert (await client.v1.subscription_schedules.retrieve_async(schedule.id)).status == "canceled"


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        ({"items": [{"price": "price_nobody"}]}, "No such price"),
        ({"items": [{"price": DOLLARS}]}, "currency of a phase"),
        ({"items": []}, "Missing required param"),
        ({"items": [{"price": STARTER}], "end_date": 12}, "ends after it begins"),
        ({"items": [{"price": STARTER}], "start_date": 12}, "begins where the one before it ends"),
        ({"items": [{"price": STARTER}], "iterations": 1}, "unknown parameter"),
    ],
)
async def test_a_phase_that_cannot_be(
    stripe: SimulatedStripe, client: StripeClient, phase: dict[str, Any], message: str
) -> None:
    subscription = await subscribe(stripe, client, PRO)
    with pytest.raises(InvalidRequestError, match=message):
        await downgrade_later(client, subscription, **phase)
    schedule = (await client.v1.subscription_schedules.list_async({"customer": subscription.customer})).data[0]
    assert len(schedule.phases) == 1
