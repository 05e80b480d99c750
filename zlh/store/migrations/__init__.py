"""Alembic's environment and the migrations, run by `zlh.store.migrate`."""
