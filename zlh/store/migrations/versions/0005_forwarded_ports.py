"""Forwarded ports of dev containers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "forwarded_ports",
        sa.Column("vmid", sa.Integer(), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("visibility", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("port BETWEEN 1 AND 65535", name=op.f("ck_forwarded_ports_port")),
        sa.CheckConstraint(
            "visibility IN ('private', 'signed_in', 'public')", name=op.f("ck_forwarded_ports_visibility")
        ),
        sa.ForeignKeyConstraint(
            ["vmid"],
            ["containers.vmid"],
            name=op.f("fk_forwarded_ports_vmid"),
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("vmid", "port", name=op.f("pk_forwarded_ports")),
    )


def downgrade() -> None:
    op.drop_table("forwarded_ports")
