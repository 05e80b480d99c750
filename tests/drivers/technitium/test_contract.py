from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.drivers.dns_contract import DnsContract
from tests.drivers.dns_far import TechnitiumFar, technitium_far


@pytest.fixture
async def far() -> AsyncIterator[TechnitiumFar]:
    async with technitium_far() as far:
        yield far


class TestTechnitium(DnsContract):
    pass
