"""Single-use tokens that were used, for as long as they would be good; every process sees the same ones."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from zlh.store.tables import spent_tokens


def spend(connection: sa.Connection, token_id: str, expires_at: datetime) -> bool:
    """True the first time, false ever after: also where two try at the same moment, and after a restart."""
    values = {"id": token_id, "expires_at": expires_at}
    statement = insert(spent_tokens).values(values).on_conflict_do_nothing().returning(spent_tokens.c.id)
    return connection.execute(statement).first() is not None


def purge(connection: sa.Connection, before: datetime) -> int:
    """Forgets tokens that expired before then; returns how many."""
    return connection.execute(sa.delete(spent_tokens).where(spent_tokens.c.expires_at < before)).rowcount
