"""Public ports of the routing edge, and the games that they lead to: given out here, and released with the
container's row. Every function runs in the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from zlh.model.errors import AbsentError
from zlh.store.tables import containers, public_ports

Given = tuple[str, tuple[int, ...]]
"""Protocol ("tcp" or "udp") and ports, one for each of the container's, in its order."""


def everybodys(connection: sa.Connection) -> dict[int, Given]:
    """By vmid."""
    given: dict[int, Given] = {}
    columns = (public_ports.c.vmid, public_ports.c.proto, public_ports.c.port)
    for vmid, proto, port in connection.execute(sa.select(*columns).order_by(*_IN_ORDER)):
        given[vmid] = (proto, (*given.get(vmid, (proto, ()))[1], port))
    return given


def assign(connection: sa.Connection, vmid: int, proto: str, count: int, pool: range) -> tuple[int, ...] | None:
    """`count` ports of `pool` in a row: those that the container has, or the lowest free ones; None where there are
    not so many. Raises AbsentError where there is no such container."""
    # Whoever else gives this container its ports waits here.
    row = connection.execute(sa.select(containers.c.vmid).where(containers.c.vmid == vmid).with_for_update())
    if row.first() is None:
        raise AbsentError(f"there is no container {vmid}")
    present = _of(connection, vmid)
    if present is not None and fits(present, proto, count, pool):
        return present[1]
    while True:
        release(connection, vmid)
        first = lowest_run(_taken(connection, proto, pool), pool, count)
        if first is None:
            return None
        values = [{"proto": proto, "port": first + place, "vmid": vmid, "position": place} for place in range(count)]
        # Waits for whoever is about to take one of them, and goes without those that were taken.
        taken = insert(public_ports).values(values).on_conflict_do_nothing().returning(public_ports.c.port)
        if len(connection.execute(taken).all()) == count:
            return tuple(range(first, first + count))


def fits(given: Given, proto: str, count: int, pool: range) -> bool:
    """Whether those are what a container that needs `count` of `pool` may keep."""
    first = given[1][0]
    inside = first in pool and first + count - 1 in pool
    return inside and given == (proto, tuple(range(first, first + count)))


def release(connection: sa.Connection, vmid: int) -> None:
    connection.execute(sa.delete(public_ports).where(public_ports.c.vmid == vmid))


def lowest_run(taken: Collection[int], pool: range, count: int) -> int | None:
    """The first of `count` free ports in a row; None where there are not so many."""
    first = pool.start
    for port in pool:
        if port in taken:
            first = port + 1
        elif port - first + 1 == count:
            return first
    return None


_IN_ORDER = (public_ports.c.vmid, public_ports.c.position)


def _of(connection: sa.Connection, vmid: int) -> Given | None:
    columns = (public_ports.c.proto, public_ports.c.port)
    rows = connection.execute(sa.select(*columns).where(public_ports.c.vmid == vmid).order_by(*_IN_ORDER)).all()
    return (rows[0].proto, tuple(row.port for row in rows)) if rows else None


def _taken(connection: sa.Connection, proto: str, pool: range) -> set[int]:
    inside = public_ports.c.port.between(pool.start, pool.stop - 1)
    return set(connection.scalars(sa.select(public_ports.c.port).where(public_ports.c.proto == proto, inside)))
