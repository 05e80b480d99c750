"""Stripe's customers, and whose they are. Every function runs in the caller's transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from zlh.store.billing_tables import billing_customers as customers
from zlh.store.billing_tables import billing_looks


@dataclass(frozen=True, slots=True)
class KnownCustomer:
    id: str
    account_id: int | None
    looked_at: datetime | None
    deleted_at: datetime | None


def of_account(connection: sa.Connection, account_id: int) -> KnownCustomer | None:
    """The one that is not deleted."""
    return _one(connection, customers.c.account_id == account_id, customers.c.deleted_at.is_(None))


def get(connection: sa.Connection, customer_id: str) -> KnownCustomer | None:
    return _one(connection, customers.c.id == customer_id)


def all_customers(connection: sa.Connection) -> dict[str, KnownCustomer]:
    return {row.id: KnownCustomer(*row) for row in connection.execute(_SELECT)}


def count_of(connection: sa.Connection, account_id: int) -> int:
    """How many the account has had, deleted ones among them."""
    query = sa.select(sa.func.count()).select_from(customers).where(customers.c.account_id == account_id)
    return connection.execute(query).scalar_one()


def add(connection: sa.Connection, customer_id: str, account_id: int | None, now: datetime) -> KnownCustomer:
    """No-op for one that is known; an account gets it that has none, and nobody's becomes somebody's."""
    if account_id is not None and of_account(connection, account_id) is not None:
        account_id = None
    values = {"id": customer_id, "account_id": account_id, "created_at": now}
    connection.execute(insert(customers).values(values).on_conflict_do_nothing(index_elements=["id"]))
    if account_id is not None:
        adopt = sa.update(customers).where(customers.c.id == customer_id, customers.c.account_id.is_(None))
        connection.execute(adopt.values(account_id=account_id))
    found = get(connection, customer_id)
    assert found is not None
    return found


def begin_look(connection: sa.Connection) -> int:
    """The number of a look that begins: later ones have higher numbers."""
    return connection.execute(sa.select(billing_looks.next_value())).scalar_one()


def end_look(
    connection: sa.Connection, customer_id: str, look: int, looked_at: datetime, deleted_at: datetime | None
) -> bool:
    """Holds the customer until the transaction ends. False where a look that began later was written before: then
    what this one saw is not to be written."""
    statement = (
        sa.update(customers)
        .where(customers.c.id == customer_id, customers.c.look < look)
        .values(look=look, looked_at=looked_at, deleted_at=sa.func.coalesce(customers.c.deleted_at, deleted_at))
    )
    return connection.execute(statement).rowcount == 1


_SELECT = sa.select(customers.c.id, customers.c.account_id, customers.c.looked_at, customers.c.deleted_at)


def _one(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> KnownCustomer | None:
    row = connection.execute(_SELECT.where(*conditions)).first()
    return None if row is None else KnownCustomer(*row)
