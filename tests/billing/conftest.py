from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.billing.till import Till, open_till


@pytest.fixture
async def till(postgres_url: str) -> AsyncIterator[Till]:
    async with open_till(postgres_url) as till:
        yield till
