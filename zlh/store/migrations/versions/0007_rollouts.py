"""Rollouts: updating the agents of many containers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "rollouts",
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("max_failures", sa.Integer(), nullable=False),
        sa.Column("actor_id", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cancel_asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('running', 'paused', 'succeeded', 'failed', 'cancelled')", name=op.f("ck_rollouts_state")
        ),
        sa.CheckConstraint("active = (state IN ('running', 'paused'))", name=op.f("ck_rollouts_active")),
        sa.CheckConstraint("active = (finished_at IS NULL)", name=op.f("ck_rollouts_finished")),
        sa.ForeignKeyConstraint(["actor_id"], ["accounts.id"], name=op.f("fk_rollouts_actor_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollouts")),
    )
    op.create_index("uq_rollouts_active", "rollouts", ["active"], unique=True, postgresql_where=sa.text("active"))
    op.create_table(
        "rollout_items",
        sa.Column("rollout_id", sa.Text(collation="C"), nullable=False),
        sa.Column("vmid", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("current", sa.Text(), nullable=True),
        sa.Column("target", sa.Text(), nullable=True),
        sa.Column("was_ready", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'updating', 'succeeded', 'failed', 'skipped')", name=op.f("ck_rollout_items_state")
        ),
        sa.ForeignKeyConstraint(
            ["rollout_id"], ["rollouts.id"], name=op.f("fk_rollout_items_rollout_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("rollout_id", "vmid", name=op.f("pk_rollout_items")),
    )


def downgrade() -> None:
    op.drop_table("rollout_items")
    op.drop_table("rollouts")
