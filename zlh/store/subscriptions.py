"""Subscriptions as Stripe was last seen to have them. Every function runs in the caller's transaction."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from zlh.model.billing import Subscription, SubscriptionStatus
from zlh.store.billing_tables import billing_customers, subscriptions


def put(connection: sa.Connection, customer_id: str, present: Iterable[Subscription]) -> None:
    """All that Stripe has of the customer; whoever ends is among them, and stays."""
    for subscription in present:
        values = dataclasses.asdict(subscription) | {"status": subscription.status.value, "customer_id": customer_id}
        statement = insert(subscriptions).values(values)
        changed = {name: value for name, value in values.items() if name != "id"}
        connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=changed))


def of_account(connection: sa.Connection, account_id: int) -> list[Subscription]:
    """The oldest first."""
    owned = sa.select(billing_customers.c.id).where(billing_customers.c.account_id == account_id)
    return _load(connection, subscriptions.c.customer_id.in_(owned))


def of_customer(connection: sa.Connection, customer_id: str) -> list[Subscription]:
    return _load(connection, subscriptions.c.customer_id == customer_id)


def all_subscriptions(connection: sa.Connection) -> list[Subscription]:
    return _load(connection, sa.true())


def _load(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> list[Subscription]:
    query = sa.select(subscriptions).where(condition).order_by(subscriptions.c.created_at, subscriptions.c.id)
    return [_subscription(row._mapping) for row in connection.execute(query)]


def _subscription(row: sa.RowMapping) -> Subscription:
    values: dict[str, Any] = dict(row)
    return Subscription(**(values | {"status": SubscriptionStatus(values["status"])}))
