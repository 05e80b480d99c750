"""What we made at other systems, or were about to: written before it is made, deleted after it was seen to be gone.
Every function runs in the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from zlh.model.edge import Entry
from zlh.store.tables import edge_entries

AT_ONCE = 5000
"""Keys in one statement: PostgreSQL takes 65,535 parameters, and a key has three."""


def of_target(connection: sa.Connection, target: str) -> list[Entry]:
    columns = (edge_entries.c.vmid, edge_entries.c.kind, edge_entries.c.name, edge_entries.c.value)
    return [Entry(*row) for row in connection.execute(sa.select(*columns).where(edge_entries.c.target == target))]


def claim(connection: sa.Connection, target: str, entries: Iterable[Entry], now: datetime) -> None:
    """An entry that was claimed for another container is this one's from now on."""
    values = [
        {
            "target": target,
            "kind": entry.kind,
            "name": entry.name,
            "value": entry.value,
            "vmid": entry.vmid,
            "claimed_at": now,
        }
        for entry in entries
    ]
    if not values:
        return
    statement = insert(edge_entries)
    key = [edge_entries.c.target, edge_entries.c.kind, edge_entries.c.name, edge_entries.c.value]
    connection.execute(
        statement.on_conflict_do_update(index_elements=key, set_={"vmid": statement.excluded.vmid}), values
    )


def release(connection: sa.Connection, target: str, keys: Sequence[tuple[str, str, str]]) -> None:
    key = sa.tuple_(edge_entries.c.kind, edge_entries.c.name, edge_entries.c.value)
    for start in range(0, len(keys), AT_ONCE):
        some = list(keys[start : start + AT_ONCE])
        connection.execute(sa.delete(edge_entries).where(edge_entries.c.target == target, key.in_(some)))
