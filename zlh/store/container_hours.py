"""The ledger of hours that containers ran, and the intervals that are open. Every function runs in the caller's
transaction. Rows of the ledger are added and never changed: a trigger sees to that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from zlh.model.container_hours import Interval, OpenInterval, Running
from zlh.model.containers import ContainerType
from zlh.store.billing_tables import container_hours, running_containers

_LOCK: Final = 0x7A6C6472


@dataclass(frozen=True, slots=True)
class Row:
    """One of the ledger; `id` rises with time of writing."""

    id: int
    interval: Interval


def hold(connection: sa.Connection) -> bool:
    """Whether this transaction is the one that writes; of several processes one is."""
    return bool(connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(_LOCK))).scalar_one())


def open_intervals(connection: sa.Connection) -> dict[int, OpenInterval]:
    """By vmid."""
    return {
        row.vmid: OpenInterval(_running(row._mapping), row.started_at, row.seen_at)
        for row in connection.execute(sa.select(running_containers))
    }


def counted(connection: sa.Connection, now: datetime) -> dict[int, datetime]:
    """Until when the rows of a vmid reach that end after `now`; there are none unless time went backwards."""
    query = (
        sa.select(container_hours.c.vmid, sa.func.max(container_hours.c.ended_at).label("until"))
        # No row is longer than an hour, and it is the beginning that is indexed.
        .where(container_hours.c.started_at > now - timedelta(hours=1), container_hours.c.ended_at > now)
        .group_by(container_hours.c.vmid)
    )
    return {row.vmid: row.until for row in connection.execute(query)}


def write(connection: sa.Connection, closed: Iterable[Interval], present: Iterable[OpenInterval]) -> None:
    """Adds what is closed, and replaces all that is open. An interval that is there already is not added twice."""
    rows = [_columns(one.what) | {"started_at": one.started_at, "ended_at": one.ended_at} for one in closed]
    if rows:
        statement = insert(container_hours).on_conflict_do_nothing(index_elements=["vmid", "started_at"])
        connection.execute(statement, rows)
    connection.execute(sa.delete(running_containers))
    values = [_columns(one.what) | {"started_at": one.started_at, "seen_at": one.seen_at} for one in present]
    if values:
        connection.execute(sa.insert(running_containers), values)


def page(
    connection: sa.Connection,
    since: datetime,
    until: datetime,
    *,
    account_id: int | None = None,
    after: int = 0,
    limit: int = 1000,
) -> Iterator[Row]:
    """Intervals that began in that time, in the order of their writing, after the row with the id `after`."""
    query = (
        sa.select(container_hours)
        .where(container_hours.c.started_at >= since, container_hours.c.started_at < until)
        .where(container_hours.c.id > after)
        .order_by(container_hours.c.id)
        .limit(limit)
    )
    if account_id is not None:
        query = query.where(container_hours.c.account_id == account_id)
    for row in connection.execute(query):
        yield Row(row.id, Interval(_running(row._mapping), row.started_at, row.ended_at))


def _running(row: sa.RowMapping) -> Running:
    return Running(row["vmid"], row["account_id"], ContainerType(row["ctype"]), row["plan"])


def _columns(what: Running) -> dict[str, object]:
    return {"vmid": what.vmid, "account_id": what.account_id, "ctype": what.ctype.value, "plan": what.plan}
