"""Schedules: what containers do by themselves, and what became of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"

TIME = sa.DateTime(timezone=True)
ID = sa.Text(collation="C")


def upgrade() -> None:
    op.create_table(
        "schedules",
        sa.Column("id", ID, nullable=False),
        sa.Column("vmid", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("command", sa.Text(), server_default="", nullable=False),
        sa.Column("cron", sa.Text(), nullable=False),
        sa.Column("zone", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("keep_last", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("keep_daily", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("keep_weekly", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("keep_monthly", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("author_id", sa.BigInteger(), nullable=False),
        sa.Column("next_at", TIME, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.CheckConstraint(
            "action IN ('backup', 'restart', 'start', 'stop', 'command')", name=op.f("ck_schedules_action")
        ),
        sa.CheckConstraint("enabled OR next_at IS NULL", name=op.f("ck_schedules_next_at")),
        sa.ForeignKeyConstraint(["author_id"], ["accounts.id"], name=op.f("fk_schedules_author_id")),
        sa.ForeignKeyConstraint(
            ["vmid"],
            ["containers.vmid"],
            name=op.f("fk_schedules_vmid"),
            ondelete="CASCADE",
            onupdate="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedules")),
    )
    op.create_index(op.f("ix_schedules_author_id"), "schedules", ["author_id"], unique=False)
    op.create_index(op.f("ix_schedules_next_at"), "schedules", ["next_at"], unique=False)
    op.create_index(op.f("ix_schedules_vmid"), "schedules", ["vmid"], unique=False)
    op.create_table(
        "schedule_runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("schedule_id", ID, nullable=False),
        sa.Column("due_at", TIME, nullable=False),
        sa.Column("by_hand", sa.Boolean(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column("claimed_by", sa.Text(), nullable=True),
        sa.Column("claimed_until", TIME, nullable=True),
        sa.Column("started_at", TIME, nullable=True),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("backup_id", sa.Text(), nullable=True),
        sa.Column("deleted", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.CheckConstraint(
            "outcome IN ('succeeded', 'failed', 'refused', 'skipped', 'missed', 'lost')",
            name=op.f("ck_schedule_runs_outcome"),
        ),
        sa.CheckConstraint("(outcome IS NULL) = (ended_at IS NULL)", name=op.f("ck_schedule_runs_ended")),
        sa.CheckConstraint("(claimed_by IS NULL) = (claimed_until IS NULL)", name=op.f("ck_schedule_runs_claimed")),
        sa.ForeignKeyConstraint(
            ["schedule_id"], ["schedules.id"], name=op.f("fk_schedule_runs_schedule_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedule_runs")),
    )
    op.create_index("ix_schedule_runs_schedule_id_id", "schedule_runs", ["schedule_id", "id"], unique=False)
    op.create_index(
        "uq_schedule_runs_schedule_id_open",
        "schedule_runs",
        ["schedule_id"],
        unique=True,
        postgresql_where=sa.text("outcome IS NULL"),
    )
    op.create_table(
        "schedule_backups",
        sa.Column("schedule_id", ID, nullable=False),
        sa.Column("backup_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["schedule_id"], ["schedules.id"], name=op.f("fk_schedule_backups_schedule_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("schedule_id", "backup_id", name=op.f("pk_schedule_backups")),
    )
