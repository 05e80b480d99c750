"""Brings the database to the newest shape. Safe to run at every start and by several processes at once."""

from __future__ import annotations

import threading
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

from zlh.store.errors import StoreUnavailable
from zlh.store.faults import Fault, judge
from zlh.store.urls import sqlalchemy_url

# Any number will do, as long as nobody else uses it: "zlh" in ASCII.
ADVISORY_LOCK = 0x7A6C68

# Alembic keeps what it works on in globals of the process: two threads would take it from each other.
_ONE_AT_A_TIME = threading.Lock()


def migrate(url: str) -> str:
    """Runs what is missing in one transaction, under a lock that others wait for; returns the revision reached.

    Blocks: call it from a thread. Raises StoreUnavailable where PostgreSQL is not there.
    """
    engine = sa.create_engine(sqlalchemy_url(url), poolclass=sa.NullPool)
    try:
        with _ONE_AT_A_TIME, engine.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK)))
            command.upgrade(_config(connection), "head")
            return revision(connection) or ""
    except DBAPIError as error:
        if judge(error) is Fault.BUG:
            raise
        raise StoreUnavailable("the database is not reachable") from error


def revision(connection: sa.Connection) -> str | None:
    """The revision that this database is at; None before the first migration."""
    return MigrationContext.configure(connection).get_current_revision()


def newest() -> str:
    """The revision that this program needs."""
    head = ScriptDirectory.from_config(_config(None)).get_current_head()
    assert head is not None
    return head


def _config(connection: sa.Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
