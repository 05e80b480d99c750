"""Orders of customers at Stripe. Every function runs in the caller's transaction.

An account has one open at a time."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from zlh.model.billing_orders import Order, OrderKind, OrderState
from zlh.model.errors import ConflictError
from zlh.store.billing_tables import billing_orders as orders


def begin(
    connection: sa.Connection,
    account_id: int,
    kind: OrderKind,
    arguments: Mapping[str, Any],
    now: datetime,
    *,
    lease: timedelta,
) -> Order:
    """An order that asks for the same is carried on, whoever does; for anything else raises ConflictError
    "order_in_progress". The account is to be locked."""
    present = open_of(connection, account_id)
    if present is not None:
        if (present.kind, dict(present.arguments)) != (kind, dict(arguments)):
            raise ConflictError(
                "another change of this account's plan is under way; try again in a moment",
                code="order_in_progress",
                retry_after=5,
            )
        return _update(connection, present.id, due_at=now + lease)
    values = {
        "id": f"or-{int(now.timestamp() * 1000):011x}-{secrets.token_hex(8)}",
        "account_id": account_id,
        "kind": kind.value,
        "state": OrderState.OPEN.value,
        "arguments": dict(arguments),
        "result": {},
        "created_at": now,
        "updated_at": now,
        "due_at": now + lease,
    }
    row = connection.execute(sa.insert(orders).values(values).returning(orders)).one()
    return _order(row._mapping)


def open_of(connection: sa.Connection, account_id: int) -> Order | None:
    query = sa.select(orders).where(orders.c.account_id == account_id, orders.c.state == OrderState.OPEN.value)
    row = connection.execute(query).first()
    return None if row is None else _order(row._mapping)


def last_done(connection: sa.Connection, account_id: int, kind: OrderKind) -> Order | None:
    """The newest of that kind that was carried out."""
    query = (
        sa.select(orders)
        .where(orders.c.account_id == account_id, orders.c.kind == kind.value)
        .where(orders.c.state == OrderState.DONE.value)
        .order_by(orders.c.id.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    return None if row is None else _order(row._mapping)


def get(connection: sa.Connection, order_id: str) -> Order | None:
    row = connection.execute(sa.select(orders).where(orders.c.id == order_id)).first()
    return None if row is None else _order(row._mapping)


def finish(
    connection: sa.Connection,
    order: Order,
    state: OrderState,
    now: datetime,
    *,
    found: Mapping[str, Any],
    error: str | None,
) -> Order:
    """Adds what was found to what is known of it. No-op for one that is finished: of two who carry it out, the first
    is right."""
    values = {"state": state.value, "error": error, "result": {**order.result, **found}, "updated_at": now}
    statement = sa.update(orders).where(orders.c.id == order.id, orders.c.state == OrderState.OPEN.value)
    row = connection.execute(statement.values(**values).returning(orders)).first()
    if row is not None:
        return _order(row._mapping)
    present = get(connection, order.id)
    assert present is not None
    return present


def take(connection: sa.Connection, now: datetime, *, most: int, lease: timedelta) -> list[Order]:
    """Open ones that nobody carries on any more."""
    due = (
        sa.select(orders.c.id)
        .where(orders.c.state == OrderState.OPEN.value, orders.c.due_at <= now)
        .order_by(orders.c.id)
        .limit(most)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    statement = sa.update(orders).where(orders.c.id == due.c.id).values(due_at=now + lease).returning(orders)
    return [_order(row._mapping) for row in connection.execute(statement)]


def put_off(connection: sa.Connection, order: Order, due_at: datetime, error: str) -> None:
    connection.execute(
        sa.update(orders)
        .where(orders.c.id == order.id, orders.c.state == OrderState.OPEN.value)
        .values(due_at=due_at, error=error)
    )


def open_since(connection: sa.Connection, before: datetime) -> list[Order]:
    """Those that were begun before then and are open still."""
    query = sa.select(orders).where(orders.c.state == OrderState.OPEN.value, orders.c.created_at < before)
    return [_order(row._mapping) for row in connection.execute(query.order_by(orders.c.id))]


def _update(connection: sa.Connection, order_id: str, **values: Any) -> Order:
    statement = sa.update(orders).where(orders.c.id == order_id).values(**values).returning(orders)
    return _order(connection.execute(statement).one()._mapping)


def _order(row: sa.RowMapping) -> Order:
    values: dict[str, Any] = dict(row)
    return Order(**(values | {"kind": OrderKind(values["kind"]), "state": OrderState(values["state"])}))
