"""What is published where, the public ports that lead to games, and names that customers chose."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("containers", sa.Column("label", sa.Text()))
    op.create_unique_constraint(op.f("uq_containers_label"), "containers", ["label"])
    op.create_table(
        "edge_entries",
        sa.Column("target", sa.Text(collation="C"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("vmid", sa.Integer(), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("target", "kind", "name", "value", name=op.f("pk_edge_entries")),
    )
    op.create_table(
        "public_ports",
        sa.Column("proto", sa.Text(), nullable=False),
        sa.Column("port", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("vmid", sa.Integer(), nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.CheckConstraint("port BETWEEN 1 AND 65535", name=op.f("ck_public_ports_port")),
        sa.CheckConstraint("proto IN ('tcp', 'udp')", name=op.f("ck_public_ports_proto")),
        sa.ForeignKeyConstraint(
            ["vmid"], ["containers.vmid"], name=op.f("fk_public_ports_vmid"), onupdate="CASCADE", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("proto", "port", name=op.f("pk_public_ports")),
        sa.UniqueConstraint("vmid", "position", name=op.f("uq_public_ports_vmid_position")),
    )


def downgrade() -> None:
    op.drop_table("public_ports")
    op.drop_table("edge_entries")
    op.drop_constraint(op.f("uq_containers_label"), "containers")
    op.drop_column("containers", "label")
