"""A simulated Stripe that runs, and the official library that asks it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from stripe import HTTPXClient, StripeClient

from tests.simulators.stripe.shop import PRICES
from zlh.simulators.stripe import KEY, SimulatedStripe, open_stripe


@asynccontextmanager
async def open_client(stripe: SimulatedStripe, key: str = KEY) -> AsyncIterator[StripeClient]:
    # Certificates take a tenth of a second to load, and are not asked for.
    http = HTTPXClient(verify_ssl_certs=False)
    try:
        yield StripeClient(key, base_addresses={"api": stripe.url}, http_client=http)
    finally:
        await http.close_async()


@pytest.fixture
async def stripe() -> AsyncIterator[SimulatedStripe]:
    async with open_stripe(PRICES, webhook_pauses=(0.02, 0.04, 0.08, 0.16)) as stripe:
        yield stripe


@pytest.fixture
async def client(stripe: SimulatedStripe) -> AsyncIterator[StripeClient]:
    async with open_client(stripe) as client:
        yield client
