"""Restoring a backup is an operation."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.drop_constraint(op.f("ck_operations_kind"), "operations", type_="check")
    op.create_check_constraint(
        op.f("ck_operations_kind"),
        "operations",
        "kind IN ('provision', 'teardown', 'start_host', 'stop_host', 'restart_host', 'upgrade', 'restore')",
    )
