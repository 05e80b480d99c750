from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.api.world import World, open_world


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    async with open_world(postgres_url) as world:
        yield world
