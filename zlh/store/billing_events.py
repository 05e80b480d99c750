"""The inbox of webhooks. Every function runs in the caller's transaction; new events nudge the channel "billing".

An event is stored before it is answered, once however often it comes. Whoever works on it has it for a while (its
lease); who dies with it leaves it to the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from zlh.model.billing import BillingEvent
from zlh.store.billing_tables import billing_events as events
from zlh.store.notify import BILLING, notify

LONGEST_ERROR = 500


@dataclass(frozen=True, slots=True)
class DueEvent:
    """One that was taken for the `attempts`th time."""

    id: str
    type: str
    subject_id: str
    customer_id: str | None
    created_at: datetime
    attempts: int


def receive(connection: sa.Connection, event: BillingEvent, now: datetime) -> bool:
    """False where it was here before."""
    values = {
        "id": event.id,
        "type": event.type,
        "subject_id": event.subject_id,
        "customer_id": event.customer_id,
        "created_at": event.created_at,
        "received_at": now,
        "due_at": now,
    }
    added = connection.execute(
        insert(events).values(values).on_conflict_do_nothing(index_elements=["id"]).returning(events.c.id)
    ).first()
    if added is None:
        return False
    notify(connection, BILLING, event.id)
    return True


def take(connection: sa.Connection, now: datetime, *, most: int, lease: timedelta) -> list[DueEvent]:
    """Those that have been due longest; nobody else is given them until the lease has passed."""
    due = (
        sa.select(events.c.id)
        .where(events.c.due_at <= now, events.c.done_at.is_(None))
        .order_by(events.c.due_at, events.c.id)
        .limit(most)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    statement = (
        sa.update(events)
        .where(events.c.id == due.c.id)
        .values(due_at=now + lease, attempts=events.c.attempts + 1)
        .returning(
            events.c.id,
            events.c.type,
            events.c.subject_id,
            events.c.customer_id,
            events.c.created_at,
            events.c.attempts,
        )
    )
    return sorted((DueEvent(*row) for row in connection.execute(statement)), key=lambda event: event.created_at)


def done(connection: sa.Connection, taken: DueEvent, now: datetime) -> None:
    connection.execute(sa.update(events).where(*_held(taken)).values(done_at=now, last_error=None))


def put_off(connection: sa.Connection, taken: DueEvent, due_at: datetime, error: str) -> None:
    statement = sa.update(events).where(*_held(taken)).values(due_at=due_at, last_error=error[:LONGEST_ERROR])
    connection.execute(statement)


def waiting(connection: sa.Connection) -> tuple[int, datetime | None, str | None]:
    """How many are not done, when the oldest of them came, and what was last wrong with one."""
    query = sa.select(sa.func.count(), sa.func.min(events.c.received_at), sa.func.max(events.c.last_error)).where(
        events.c.done_at.is_(None)
    )
    count, oldest, error = connection.execute(query).one()
    return count, oldest, error


def purge(connection: sa.Connection, before: datetime) -> int:
    """Forgets those that were done before then; returns how many."""
    return connection.execute(sa.delete(events).where(events.c.done_at < before)).rowcount


def _held(taken: DueEvent) -> tuple[sa.ColumnElement[bool], ...]:
    return events.c.id == taken.id, events.c.attempts == taken.attempts, events.c.done_at.is_(None)
