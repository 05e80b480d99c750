"""The ledger of hours that containers ran, and the intervals that are open. Every function runs in the caller's
transaction. Rows of the ledger are added and never changed: a trigger sees to that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from zlh.model.containers import ContainerType
from zlh.store.billing_tables import container_hours, running_containers

_LOCK: Final = 0x7A6C6472


@dataclass(frozen=True, slots=True)
class Open:
    vmid: int
    account_id: int
    ctype: ContainerType
    plan: str
    started_at: datetime
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class Row:
    """One interval; `id` rises with time of writing."""

    id: int
    account_id: int
    vmid: int
    ctype: ContainerType
    plan: str
    started_at: datetime
    ended_at: datetime


def hold(connection: sa.Connection) -> bool:
    """Whether this transaction is the one that writes; of several processes one is."""
    return bool(connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(_LOCK))).scalar_one())


def open_intervals(connection: sa.Connection) -> list[Open]:
    return [
        Open(row.vmid, row.account_id, ContainerType(row.ctype), row.plan, row.started_at, row.seen_at)
        for row in connection.execute(sa.select(running_containers))
    ]


def counted(connection: sa.Connection, now: datetime) -> dict[int, datetime]:
    """Until when the rows of a vmid reach that end after `now`; there are none unless time went backwards."""
    query = (
        sa.select(container_hours.c.vmid, sa.func.max(container_hours.c.ended_at).label("until"))
        # No row is longer than an hour, and it is the beginning that is indexed.
        .where(container_hours.c.started_at > now - timedelta(hours=1), container_hours.c.ended_at > now)
        .group_by(container_hours.c.vmid)
    )
    return {row.vmid: row.until for row in connection.execute(query)}


def write(connection: sa.Connection, closed: Iterable[Mapping[str, object]], present: Iterable[Open]) -> None:
    """Adds what is closed, and replaces all that is open. An interval that is there already is not added twice."""
    rows = list(closed)
    if rows:
        statement = insert(container_hours).on_conflict_do_nothing(index_elements=["vmid", "started_at"])
        connection.execute(statement, rows)
    connection.execute(sa.delete(running_containers))
    values = [
        {
            "vmid": one.vmid,
            "account_id": one.account_id,
            "ctype": one.ctype.value,
            "plan": one.plan,
            "started_at": one.started_at,
            "seen_at": one.seen_at,
        }
        for one in present
    ]
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
        yield Row(row.id, row.account_id, row.vmid, ContainerType(row.ctype), row.plan, row.started_at, row.ended_at)
