"""Which dev containers' IDEs are stopped when nobody uses them, and after how long."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "idle_stops",
        sa.Column("vmid", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("minutes", sa.Integer(), nullable=False),
        sa.CheckConstraint("minutes BETWEEN 10 AND 10080", name=op.f("ck_idle_stops_minutes")),
        sa.ForeignKeyConstraint(
            ["vmid"], ["containers.vmid"], name=op.f("fk_idle_stops_vmid"), onupdate="CASCADE", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("vmid", name=op.f("pk_idle_stops")),
    )


def downgrade() -> None:
    op.drop_table("idle_stops")
