from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.drivers.dns_contract import DnsContract
from tests.drivers.dns_far import CloudflareFar, cloudflare_far


@pytest.fixture
async def far() -> AsyncIterator[CloudflareFar]:
    async with cloudflare_far() as far:
        yield far


class TestCloudflare(DnsContract):
    pass
