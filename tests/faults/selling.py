"""A simulated Stripe beside a world, in the test's own process, and what the API has to know of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
import trio

from tests.billing.till import PRICES
from tests.faults.world import World
from zlh.simulators.stripe import KEY, SimulatedStripe, open_stripe
from zlh.store.urls import libpq_url

SECRET = "whsec_of_the_world"
AGAIN_SECONDS = (0.2,) * 500
"""An API that died hears of everything as soon as there is another one."""


LET_GO = (
    "UPDATE billing_orders SET due_at = now() WHERE state = 'open'",
    "UPDATE billing_events SET due_at = now() WHERE done_at IS NULL",
)

T = TypeVar("T")


@asynccontextmanager
async def open_selling(world: World, **more: Any) -> AsyncIterator[SimulatedStripe]:
    """Before the world's first API. Who registers has no plan."""
    async with open_stripe(PRICES, webhook_pauses=AGAIN_SECONDS, **more) as stripe:
        stripe.webhooks.add(f"{world.api}/api/billing/webhook", SECRET)
        world.settings |= {
            "ZLH_ACCOUNTS_DEFAULT_PLAN": "",
            "ZLH_STRIPE_URL": stripe.url,
            "ZLH_STRIPE_SECRET_KEY": KEY,
            "ZLH_STRIPE_WEBHOOK_SECRET": SECRET,
        }
        yield stripe


async def page(world: World, stripe: SimulatedStripe, plan: str = "starter") -> str:
    """The checkout session that the present customer is sent to."""
    url = (await world.call("POST", "/api/billing/checkout", {"plan": plan}))["url"]
    return next(one["id"] for one in stripe.of("checkout.session") if one["url"] == url)


async def let_go(world: World) -> None:
    """The minutes are over for which a dead process holds what it worked on."""
    await in_database(world, lambda connection: [connection.execute(query.encode()) for query in LET_GO])


async def in_database(world: World, work: Callable[[Any], T]) -> T:
    """In a transaction of its own, beside the API."""

    def run() -> T:
        with psycopg.connect(libpq_url(world.settings["ZLH_DATABASE_URL"])) as connection:
            return work(connection)

    return await trio.to_thread.run_sync(run)
