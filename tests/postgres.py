"""A real PostgreSQL for tests: one server per test session, one fresh migrated database per test.

`tests/conftest.py` offers the fixtures to every test:

    postgres_server   the running server of this session
    postgres_url      the address of a database of this test's own, migrated and empty (a copy of a template: 15 ms)
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from zlh.store.embedded import EmbeddedPostgres
from zlh.store.migrate import migrate
from zlh.store.urls import libpq_url

# Durability costs time and tests that crash the server check what survives with options of their own.
QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}
TEMPLATE = "zlh_template"


class PostgresServer:
    """The session's server, and databases in it."""

    def __init__(self, embedded: EmbeddedPostgres) -> None:
        self.embedded = embedded
        self._numbers = itertools.count(1)
        self._admin = psycopg.connect(libpq_url(embedded.url("postgres")), autocommit=True)
        self._admin.execute(f"CREATE DATABASE {TEMPLATE}")
        migrate(embedded.url(TEMPLATE))

    def create(self, template: str = TEMPLATE) -> str:
        """Makes a database by copy and returns its name; template "template1" gives one without tables."""
        name = f"test_{next(self._numbers)}"
        self._admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return name

    def drop(self, name: str) -> None:
        self._admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def url(self, name: str) -> str:
        return self.embedded.url(name)

    def close(self) -> None:
        self._admin.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    # Not under pytest's tmp_path: another pytest session closes that folder to PostgreSQL's own user.
    data_dir = Path(tempfile.mkdtemp(prefix="zlh-postgres-"))
    embedded = EmbeddedPostgres(data_dir, options=QUICK)
    embedded.start()
    try:
        server = PostgresServer(embedded)
        yield server
        server.close()
    finally:
        embedded.stop()
        shutil.rmtree(data_dir)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    name = postgres_server.create()
    yield postgres_server.url(name)
    postgres_server.drop(name)
