from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.accounts.house import House
from zlh.store import Database, Vault


@pytest.fixture
async def house(postgres_url: str) -> AsyncIterator[House]:
    vault = Vault([Vault.new_key()])
    database = Database(postgres_url, pool_size=4, vault=vault)
    try:
        yield House(database, vault)
    finally:
        await database.aclose()
