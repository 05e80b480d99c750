"""A database with its pool, and plain connections, for the tests of the store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import sqlalchemy as sa

from tests.store.samples import VAULT
from zlh.store import Database
from zlh.store.urls import sqlalchemy_url


@pytest.fixture
async def db(postgres_url: str) -> AsyncIterator[Database]:
    database = Database(postgres_url, vault=VAULT)
    yield database
    await database.aclose()


@pytest.fixture
def engine(postgres_url: str) -> Iterator[sa.Engine]:
    """For what needs no event loop, and for what must run in threads of its own."""
    engine = sa.create_engine(
        sqlalchemy_url(postgres_url),
        connect_args={"options": "-c timezone=UTC -c statement_timeout=20000"},
        execution_options={"vault": VAULT},
        pool_size=20,
    )
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction that is rolled back when the test ends."""
    with engine.connect() as connection:
        yield connection
