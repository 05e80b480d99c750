"""Billing: what Stripe was seen to say and was asked, what operators gave, and the hours that containers ran."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0011"
down_revision = "0010"

APPEND_ONLY = """
CREATE FUNCTION container_hours_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger of container hours is append-only';
END $$;
CREATE TRIGGER container_hours_are_append_only BEFORE UPDATE OR DELETE ON container_hours
    FOR EACH ROW EXECUTE FUNCTION container_hours_are_append_only();
CREATE TRIGGER container_hours_are_not_truncated BEFORE TRUNCATE ON container_hours
    EXECUTE FUNCTION container_hours_are_append_only();
"""


def upgrade() -> None:
    op.execute("CREATE SEQUENCE billing_looks")
    op.create_table(
        "billing_disputes",
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_billing_disputes")),
    )
    op.create_table(
        "billing_events",
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_billing_events")),
    )
    op.create_index(
        "ix_billing_events_due_at_open",
        "billing_events",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("done_at IS NULL"),
    )
    op.create_index(op.f("ix_billing_events_received_at"), "billing_events", ["received_at"], unique=False)
    op.create_table(
        "billing_reports",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("findings", JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_billing_reports")),
    )
    op.create_table(
        "container_hours",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("vmid", sa.Integer(), nullable=False),
        sa.Column("ctype", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("ctype IN ('game', 'dev')", name=op.f("ck_container_hours_ctype")),
        sa.CheckConstraint("ended_at > started_at", name=op.f("ck_container_hours_interval")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_container_hours")),
        sa.UniqueConstraint("vmid", "started_at", name=op.f("uq_container_hours_vmid_started_at")),
    )
    op.create_index(
        "ix_container_hours_account_id_started_at", "container_hours", ["account_id", "started_at"], unique=False
    )
    op.create_index(op.f("ix_container_hours_started_at"), "container_hours", ["started_at"], unique=False)
    op.create_table(
        "running_containers",
        sa.Column("vmid", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("ctype", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("vmid", name=op.f("pk_running_containers")),
    )
    op.create_table(
        "billing_customers",
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=True),
        sa.Column("look", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_billing_customers_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_billing_customers")),
    )
    op.create_index(op.f("ix_billing_customers_account_id"), "billing_customers", ["account_id"], unique=False)
    op.create_index(
        "uq_billing_customers_account_id_present",
        "billing_customers",
        ["account_id"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "billing_orders",
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("arguments", JSONB(), nullable=False),
        sa.Column("result", JSONB(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "kind IN ('subscribe', 'switch', 'switch_later', 'cancel', 'resume')", name=op.f("ck_billing_orders_kind")
        ),
        sa.CheckConstraint("state IN ('open', 'done', 'refused')", name=op.f("ck_billing_orders_state")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_billing_orders_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_billing_orders")),
    )
    op.create_index(op.f("ix_billing_orders_account_id"), "billing_orders", ["account_id"], unique=False)
    op.create_index(
        "uq_billing_orders_account_id_open",
        "billing_orders",
        ["account_id"],
        unique=True,
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_table(
        "subscriptions",
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("customer_id", sa.Text(collation="C"), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("price_id", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("period_end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("unpaid_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("schedule_id", sa.Text(), nullable=True),
        sa.Column("next_price_id", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "status IN ('incomplete', 'incomplete_expired', 'trialing', 'active', 'past_due', 'unpaid', 'paused', "
            "'canceled')",
            name=op.f("ck_subscriptions_status"),
        ),
        sa.ForeignKeyConstraint(["customer_id"], ["billing_customers.id"], name=op.f("fk_subscriptions_customer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscriptions")),
    )
    op.create_index(op.f("ix_subscriptions_customer_id"), "subscriptions", ["customer_id"], unique=False)
    op.add_column("accounts", sa.Column("granted_plan", sa.Text(), nullable=True))
    op.add_column("accounts", sa.Column("granted_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("accounts", sa.Column("granted_because", sa.Text(), server_default="", nullable=False))
    op.add_column("accounts", sa.Column("plan_exceptions", JSONB(), server_default=sa.text("'{}'"), nullable=False))
    op.add_column("accounts", sa.Column("billing_due_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(op.f("ix_accounts_billing_due_at"), "accounts", ["billing_due_at"], unique=False)
    # Whoever has a plan so far was given it.
    op.execute("UPDATE accounts SET granted_plan = plan WHERE plan IS NOT NULL")
    op.execute(APPEND_ONLY)


def downgrade() -> None:
    op.drop_index(op.f("ix_accounts_billing_due_at"), table_name="accounts")
    op.drop_column("accounts", "billing_due_at")
    op.drop_column("accounts", "plan_exceptions")
    op.drop_column("accounts", "granted_because")
    op.drop_column("accounts", "granted_until")
    op.drop_column("accounts", "granted_plan")
    op.drop_index(op.f("ix_subscriptions_customer_id"), table_name="subscriptions")
    op.drop_table("subscriptions")
    op.drop_index(
        "uq_billing_orders_account_id_open", table_name="billing_orders", postgresql_where=sa.text("state = 'open'")
    )
    op.drop_index(op.f("ix_billing_orders_account_id"), table_name="billing_orders")
    op.drop_table("billing_orders")
    op.drop_index(
        "uq_billing_customers_account_id_present",
        table_name="billing_customers",
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.drop_index(op.f("ix_billing_customers_account_id"), table_name="billing_customers")
    op.drop_table("billing_customers")
    op.drop_table("running_containers")
    op.drop_index(op.f("ix_container_hours_started_at"), table_name="container_hours")
    op.drop_index("ix_container_hours_account_id_started_at", table_name="container_hours")
    op.drop_table("container_hours")
    op.drop_table("billing_reports")
    op.drop_index(op.f("ix_billing_events_received_at"), table_name="billing_events")
    op.drop_index(
        "ix_billing_events_due_at_open", table_name="billing_events", postgresql_where=sa.text("done_at IS NULL")
    )
    op.drop_table("billing_events")
    op.drop_table("billing_disputes")
    op.execute("DROP FUNCTION container_hours_are_append_only()")
    op.execute("DROP SEQUENCE billing_looks")
