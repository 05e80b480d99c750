"""After how many idle minutes a dev container's IDE is stopped; no row: never. Every function runs in the caller's
transaction."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from zlh.model.errors import AbsentError
from zlh.store.tables import containers, idle_stops


def all_minutes(connection: sa.Connection) -> dict[int, int]:
    """By vmid."""
    return {row.vmid: row.minutes for row in connection.execute(sa.select(idle_stops))}


def get(connection: sa.Connection, vmid: int) -> int | None:
    """None: never."""
    query = sa.select(idle_stops.c.minutes).where(idle_stops.c.vmid == vmid)
    minutes: int | None = connection.execute(query).scalar()
    return minutes


def put(connection: sa.Connection, vmid: int, minutes: int | None) -> None:
    """Raises AbsentError where there is no container."""
    row = sa.select(containers.c.vmid).where(containers.c.vmid == vmid).with_for_update(read=True, key_share=True)
    if connection.execute(row).first() is None:
        raise AbsentError("there is no such server")
    if minutes is None:
        connection.execute(sa.delete(idle_stops).where(idle_stops.c.vmid == vmid))
        return
    statement = insert(idle_stops).values(vmid=vmid, minutes=minutes)
    connection.execute(statement.on_conflict_do_update(index_elements=["vmid"], set_={"minutes": minutes}))
