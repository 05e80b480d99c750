"""Stripe is away, from the start of the API on and in the middle: nothing else is, and what was paid arrives."""

from __future__ import annotations

import httpx
import pytest
import trio

from tests.faults.scenes import a_game, crashes, provisioned
from tests.faults.selling import let_go, open_selling, page
from tests.faults.world import World, open_world
from zlh.simulators.stripe import FaultName

pytestmark = pytest.mark.faults

SOON = 30.0


async def refusal(world: World, path: str) -> tuple[int, str]:
    async with world.client() as client:
        answer = await client.post(f"/api/billing/{path}", json={})
    return answer.status_code, answer.json()["code"]


async def active(world: World) -> None:
    with trio.fail_after(SOON):
        while (await world.call("GET", "/api/billing"))["status"] != "active":  # noqa: ASYNC110
            await trio.sleep(0.1)


async def test_an_api_that_starts_without_stripe_does_all_that_needs_none() -> None:
    async with open_world() as world, open_selling(world) as stripe:
        stripe.cause(FaultName.DOWN)
        pid = await world.start()
        operator = await world.make_operator()
        await world.register("ada")
        await world.call("GET", "/api/ready")
        assert (await world.call("GET", "/api/billing"))["selling"] is True
        assert len((await world.call("GET", "/api/billing/plans"))["plans"]) == 3
        assert await refusal(world, "checkout") == (503, "stripe_unavailable")
        # It is carried on by whoever asks for the same once Stripe is back.
        stripe.calm()
        stripe.pay(await page(world, stripe))
        await active(world)
        await provisioned(world, "paid")
        assert await crashes(world, operator) == []
        await world.kill(pid)


async def test_what_is_paid_while_stripe_cannot_be_asked_counts_once_it_can() -> None:
    async with open_world() as world, open_selling(world) as stripe:
        pid = await world.start()
        operator = await world.make_operator()
        await world.register("ada")
        session = await page(world, stripe)
        stripe.cause(FaultName.BROKEN)
        stripe.pay(session)
        # The events are taken, and wait; nothing of what they say is believed.
        with trio.fail_after(SOON):
            await stripe.webhooks.quiet()
        assert (await world.call("GET", "/api/billing"))["status"] is None
        with pytest.raises(httpx.HTTPStatusError, match="402"):
            await world.call("POST", "/api/instances", a_game("early"))
        # A restart does not lose them either.
        await world.kill(pid)
        await let_go(world)
        pid = await world.start()
        stripe.calm()
        await active(world)
        assert len(stripe.of("subscription")) == 1
        assert await crashes(world, operator) == []
        await world.kill(pid)
