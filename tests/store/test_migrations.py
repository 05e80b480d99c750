from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

from tests.postgres import PostgresServer
from tests.store.samples import NOW, add_account, owe
from zlh.model.accounts import Suspension
from zlh.store import accounts
from zlh.store.errors import StoreUnavailable
from zlh.store.migrate import migrate, newest, revision
from zlh.store.tables import metadata
from zlh.store.urls import sqlalchemy_url


def test_migrations_make_exactly_the_declared_tables(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_migrations_make_exactly_the_declared_checks(engine: sa.Engine) -> None:
    """Alembic does not compare check constraints; their names and number are compared here."""
    found = {
        (table, check["name"])
        for table in metadata.tables
        for check in sa.inspect(engine).get_check_constraints(table)
    }
    declared = {
        (table.name, str(constraint.name))
        for table in metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, sa.CheckConstraint)
    }
    assert found == declared


def test_migrating_from_empty_and_again(postgres_server: PostgresServer) -> None:
    name = postgres_server.create("template1")
    url = postgres_server.url(name)
    assert migrate(url) == newest()
    assert migrate(url) == newest()
    postgres_server.drop(name)


def test_a_suspension_of_before_is_an_operators(postgres_server: PostgresServer) -> None:
    """And who was suspended by anybody stays so for a control plane of before."""
    name = postgres_server.create("template1")
    migrate(postgres_server.url(name))
    engine = sa.create_engine(sqlalchemy_url(postgres_server.url(name)))
    version = import_module("zlh.store.migrations.versions.0010_suspensions")
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        account_id = add_account(connection).id
        owe(connection, account_id, suspended_at=NOW)
        version.downgrade()
        assert connection.execute(sa.text("SELECT suspended_at FROM accounts")).scalar_one() == NOW
        version.upgrade()
        account = accounts.by_id(connection, account_id)
        assert account is not None
        assert (account.suspended_at, account.suspended_by) == (NOW, (Suspension.OPERATOR,))
    engine.dispose()
    postgres_server.drop(name)


def test_several_processes_may_migrate_at_once(postgres_server: PostgresServer) -> None:
    name = postgres_server.create("template1")
    url = postgres_server.url(name)
    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(migrate, [url] * 4)) == {newest()}
    engine = sa.create_engine(sqlalchemy_url(url))
    with engine.connect() as connection:
        assert revision(connection) == newest()
    engine.dispose()
    postgres_server.drop(name)


def test_a_database_that_is_away_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable):
        migrate("postgresql://nobody@127.0.0.1:1/none?connect_timeout=2")
