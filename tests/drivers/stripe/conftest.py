"""A simulated Stripe that runs, and our driver that asks it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.billing.till import PRICES
from zlh.drivers.stripe import StripeDriver
from zlh.simulators.stripe import KEY, SimulatedStripe, open_stripe


@pytest.fixture
async def far() -> AsyncIterator[SimulatedStripe]:
    async with open_stripe(PRICES) as far:
        yield far


@pytest.fixture
async def driver(far: SimulatedStripe) -> AsyncIterator[StripeDriver]:
    driver = StripeDriver(far.url, KEY, "zlh", seconds=5)
    yield driver
    await driver.aclose()
