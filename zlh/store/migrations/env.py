"""Alembic runs this for every command; the connection comes from `zlh.store.migrate`, never from a file."""

from __future__ import annotations

from alembic import context

from zlh.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
