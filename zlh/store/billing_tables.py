"""The tables of billing: what Stripe was seen to say, what was asked of it, and the hours that containers ran."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Sequence,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from zlh.model.billing import SubscriptionStatus
from zlh.model.billing_orders import OrderKind, OrderState
from zlh.model.containers import ContainerType
from zlh.store.tables import ID, TIME, metadata, one_of

# Counts looks at Stripe: what a look found is written only where no later look was written before it.
billing_looks = Sequence("billing_looks", metadata=metadata)

# Stripe's customers. `account_id` is None for one that is nobody's here. `look` is the number of the last look.
billing_customers = Table(
    "billing_customers",
    metadata,
    Column("id", ID, primary_key=True),
    Column("account_id", BigInteger, ForeignKey("accounts.id"), index=True),
    Column("look", BigInteger, nullable=False, server_default="0"),
    Column("looked_at", TIME),
    Column("created_at", TIME, nullable=False),
    Column("deleted_at", TIME),
    Index(
        "uq_billing_customers_account_id_present",
        "account_id",
        unique=True,
        postgresql_where=text("deleted_at IS NULL"),
    ),
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("id", ID, primary_key=True),
    Column("customer_id", ID, ForeignKey("billing_customers.id"), nullable=False, index=True),
    Column("status", Text, nullable=False),
    Column("item_id", Text, nullable=False),
    Column("price_id", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("period_start", TIME, nullable=False),
    Column("period_end", TIME, nullable=False),
    Column("looked_at", TIME, nullable=False),
    Column("unpaid_since", TIME),
    Column("cancel_at", TIME),
    Column("ended_at", TIME),
    Column("schedule_id", Text),
    Column("next_price_id", Text),
    one_of("status", SubscriptionStatus),
)

# Webhooks by the id of their event, stored before they are answered. Who works on one has it until `due_at`.
billing_events = Table(
    "billing_events",
    metadata,
    Column("id", ID, primary_key=True),
    Column("type", Text, nullable=False),
    Column("subject_id", Text, nullable=False),
    Column("customer_id", Text),
    Column("created_at", TIME, nullable=False),
    Column("received_at", TIME, nullable=False, index=True),
    Column("due_at", TIME, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("done_at", TIME),
    Column("last_error", Text),
    Index("ix_billing_events_due_at_open", "due_at", postgresql_where=text("done_at IS NULL")),
)

# What customers asked of Stripe, written before Stripe is told: its id makes the idempotency keys.
billing_orders = Table(
    "billing_orders",
    metadata,
    Column("id", ID, primary_key=True),
    Column("account_id", BigInteger, ForeignKey("accounts.id"), nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("arguments", JSONB, nullable=False),
    Column("result", JSONB, nullable=False),
    Column("error", Text),
    Column("created_at", TIME, nullable=False),
    Column("updated_at", TIME, nullable=False),
    Column("due_at", TIME, nullable=False),
    one_of("kind", OrderKind),
    one_of("state", OrderState),
    Index("uq_billing_orders_account_id_open", "account_id", unique=True, postgresql_where=text("state = 'open'")),
)

billing_disputes = Table(
    "billing_disputes",
    metadata,
    Column("id", ID, primary_key=True),
    Column("customer_id", Text),
    Column("amount", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", TIME, nullable=False),
)

# What comparing money and machines found, the whole of it each time.
billing_reports = Table(
    "billing_reports",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("why", Text, nullable=False),
    Column("started_at", TIME, nullable=False),
    Column("ended_at", TIME, nullable=False),
    Column("error", Text),
    Column("findings", JSONB, nullable=False),
)

# The hours that containers ran, one row an interval; a trigger (migration 0011) refuses changes.
container_hours = Table(
    "container_hours",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("account_id", BigInteger, nullable=False),
    Column("vmid", Integer, nullable=False),
    Column("ctype", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("started_at", TIME, nullable=False, index=True),
    Column("ended_at", TIME, nullable=False),
    CheckConstraint("ended_at > started_at", name="interval"),
    UniqueConstraint("vmid", "started_at"),
    one_of("ctype", ContainerType),
    Index("ix_container_hours_account_id_started_at", "account_id", "started_at"),
)

# The intervals that are not over: since when, and until when they were seen to run.
running_containers = Table(
    "running_containers",
    metadata,
    Column("vmid", Integer, primary_key=True, autoincrement=False),
    Column("account_id", BigInteger, nullable=False),
    Column("ctype", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("started_at", TIME, nullable=False),
    Column("seen_at", TIME, nullable=False),
)
