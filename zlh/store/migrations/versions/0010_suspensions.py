"""Operators and billing suspend apart from each other; an unpaid account has a grace; data can be fetched."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    # Whatever was suspended so far, an operator suspended.
    op.alter_column("accounts", "suspended_at", new_column_name="operator_suspended_at")
    op.add_column("accounts", sa.Column("billing_suspended_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "accounts",
        sa.Column(
            "suspended_at",
            sa.DateTime(timezone=True),
            sa.Computed("LEAST(operator_suspended_at, billing_suspended_at)", persisted=True),
            nullable=True,
        ),
    )
    op.add_column("accounts", sa.Column("suspends_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("containers", sa.Column("retrieval_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column("containers", sa.Column("retrieval_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("containers", sa.Column("game_held", sa.Boolean(), server_default=sa.text("false"), nullable=False))


def downgrade() -> None:
    op.drop_column("containers", "game_held")
    op.drop_column("containers", "retrieval_until")
    op.drop_column("containers", "retrieval_since")
    op.drop_column("accounts", "suspends_at")
    # Who was suspended stays so, whoever did it.
    op.execute("UPDATE accounts SET operator_suspended_at = suspended_at WHERE suspended_at IS NOT NULL")
    op.drop_column("accounts", "suspended_at")
    op.drop_column("accounts", "billing_suspended_at")
    op.alter_column("accounts", "operator_suspended_at", new_column_name="suspended_at")
