"""The tables. What a row means is told by the model type that it becomes; constraints say what can never be true.

Migrations are written by hand beside this file; a test compares what they make with what is declared here.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from zlh.model.accounts import Role
from zlh.model.containers import ContainerType, Lifecycle
from zlh.model.operations import OperationKind, OperationState, StepState
from zlh.model.ports import Visibility
from zlh.model.rollouts import ItemState, RolloutState
from zlh.model.schedules import Action, Outcome
from zlh.model.transfers import UploadState

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

# Ids that are compared and paged by: byte order, whatever the database's own collation is.
ID = Text(collation="C")
TIME = DateTime(timezone=True)

# Written out, never as bound parameters: the plan of a prepared statement proves the partial index by its words only.
UNFINISHED = text("state IN ('running', 'compensating')")


def one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


accounts = Table(
    "accounts",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("email", Text, nullable=False),
    Column("email_key", Text, nullable=False, unique=True),
    Column("username", Text, nullable=False),
    Column("username_key", Text, nullable=False, unique=True),
    Column("password_hash", Text, nullable=False),
    Column("role", Text, nullable=False),
    # What follows from what an operator gave and what is paid; `plan_exceptions` are limits of this account alone.
    Column("plan", Text),
    Column("granted_plan", Text),
    Column("granted_until", TIME),
    Column("granted_because", Text, nullable=False, server_default=""),
    Column("plan_exceptions", JSONB, nullable=False, server_default=text("'{}'")),
    # When time, or another look at Stripe, may change what follows.
    Column("billing_due_at", TIME, index=True),
    Column("display_name", Text, nullable=False, server_default=""),
    Column("first_name", Text, nullable=False, server_default=""),
    Column("last_name", Text, nullable=False, server_default=""),
    Column("billing_status", Text),
    # Each has one writer, so that a payment lifts nothing that an operator imposed, and the other way round.
    Column("operator_suspended_at", TIME),
    Column("billing_suspended_at", TIME),
    Column("suspended_at", TIME, Computed("LEAST(operator_suspended_at, billing_suspended_at)", persisted=True)),
    # When an unpaid account's grace ends; that by itself suspends nothing.
    Column("suspends_at", TIME),
    Column("disabled_at", TIME),
    Column("email_verified_at", TIME),
    Column("second_factor_at", TIME),
    Column("created_at", TIME, nullable=False),
    # An identifier with an @ is an e-mail address, one without is a user name: nobody can take another's for theirs.
    CheckConstraint("email_key LIKE '%@%'", name="email_has_at"),
    CheckConstraint("username_key NOT LIKE '%@%'", name="username_has_no_at"),
    one_of("role", Role),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", ID, primary_key=True),
    Column("account_id", BigInteger, ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False),
    Column("generation", Integer, nullable=False, server_default="0"),
    Column("created_at", TIME, nullable=False),
    Column("last_used_at", TIME, nullable=False),
    Column("rotated_at", TIME),
    Column("expires_at", TIME, nullable=False, index=True),
    Column("revoked_at", TIME),
    Column("revoked_because", Text),
    Column("address", Text, nullable=False, server_default=""),
    Column("agent", Text, nullable=False, server_default=""),
    # An operator in the account's place, why, and whether only to look.
    Column("operator_id", BigInteger, ForeignKey("accounts.id"), index=True),
    Column("reason", Text),
    Column("read_only", Boolean, nullable=False, server_default=text("false")),
    Index("ix_sessions_account_id_created_at", "account_id", "created_at"),
)

# Every refresh token that a session ever had, by its hash: a spent one that comes back betrays a theft.
refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("token_hash", ID, primary_key=True),
    Column("session_id", ID, ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("generation", Integer, nullable=False),
)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("kid", ID, primary_key=True),
    Column("private_pem", LargeBinary, nullable=False),
    Column("public_pem", Text, nullable=False),
    Column("created_at", TIME, nullable=False),
    # Published before it signs, so that whoever keeps a copy of the public keys knows it by then.
    Column("signs_at", TIME, nullable=False),
    Column("withdrawn_at", TIME),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", ID, primary_key=True),
    Column("account_id", BigInteger, ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("token_hash", ID, nullable=False, unique=True),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("expires_at", TIME),
    Column("last_used_at", TIME),
    Column("last_used_address", Text, nullable=False, server_default=""),
    Column("revoked_at", TIME),
    CheckConstraint("cardinality(scopes) > 0", name="scopes"),
)

# `last_step` is the time step of the last code that was accepted: none is accepted twice.
second_factors = Table(
    "second_factors",
    metadata,
    Column("account_id", BigInteger, ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("secret", LargeBinary, nullable=False),
    Column("last_step", BigInteger),
    Column("created_at", TIME, nullable=False),
)

recovery_codes = Table(
    "recovery_codes",
    metadata,
    Column("account_id", BigInteger, ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("code_hash", ID, primary_key=True),
    Column("used_at", TIME),
)

# What was sent by e-mail to be clicked: to verify an address, to choose a new password.
mail_links = Table(
    "mail_links",
    metadata,
    Column("token_hash", ID, primary_key=True),
    Column("account_id", BigInteger, ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("purpose", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("expires_at", TIME, nullable=False),
    Column("used_at", TIME),
    CheckConstraint("purpose IN ('verify', 'reset')", name="purpose"),
)

# Messages that are still to be sent; `sealed` holds subject and text, which may hold a link that is a secret.
outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("due_at", TIME, nullable=False, index=True),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("last_error", Text),
    Column("given_up_at", TIME),
)

# Ids of single-use tokens that were used, for as long as those tokens would be good.
spent_tokens = Table(
    "spent_tokens",
    metadata,
    Column("id", ID, primary_key=True),
    Column("expires_at", TIME, nullable=False, index=True),
)

containers = Table(
    "containers",
    metadata,
    Column("vmid", Integer, primary_key=True, autoincrement=False),
    Column("owner_id", BigInteger, ForeignKey("accounts.id"), nullable=False, index=True),
    Column("ctype", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("hostname", Text, nullable=False, unique=True),
    # What the owner calls it in DNS; without one it is the host name.
    Column("label", Text, unique=True),
    Column("software", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("variant", Text, nullable=False, server_default=""),
    Column("world", Text, nullable=False, server_default=""),
    Column("memory_mib", Integer, nullable=False),
    Column("cpu_cores", Integer, nullable=False),
    Column("disk_gib", Integer, nullable=False),
    Column("ports", ARRAY(Integer), nullable=False),
    Column("agent_token", LargeBinary, nullable=False),
    Column("desired_lifecycle", Text, nullable=False),
    Column("desired_power", Text, nullable=False),
    Column("suspended", Boolean, nullable=False),
    Column("retrieval_since", TIME),
    Column("retrieval_until", TIME),
    Column("game_held", Boolean, nullable=False, server_default=text("false")),
    Column("node", Text, nullable=False, server_default=""),
    Column("address", Text, unique=True),
    Column("provisioned", Boolean, nullable=False, server_default=text("false")),
    Column("agent_state", Text, nullable=False, server_default="unknown"),
    Column("agent_last_seen", TIME),
    Column("crash_count", Integer, nullable=False, server_default="0"),
    Column("last_crash_at", TIME),
    Column("created_at", TIME, nullable=False),
    Column("updated_at", TIME, nullable=False),
    CheckConstraint("vmid >= 100", name="vmid"),
    CheckConstraint("memory_mib > 0 AND cpu_cores > 0 AND disk_gib > 0", name="resources"),
    one_of("ctype", ContainerType),
    one_of("desired_lifecycle", Lifecycle),
    CheckConstraint("desired_power IN ('on', 'off')", name="desired_power"),
)

# `account_id` is set once an account with that verified address exists.
shares = Table(
    "shares",
    metadata,
    Column("id", ID, primary_key=True),
    Column("vmid", Integer, ForeignKey("containers.vmid", ondelete="CASCADE", onupdate="CASCADE"), nullable=False),
    Column("email", Text, nullable=False),
    Column("email_key", Text, nullable=False, index=True),
    Column("account_id", BigInteger, ForeignKey("accounts.id", ondelete="CASCADE"), index=True),
    Column("permissions", ARRAY(Text), nullable=False),
    Column("created_by", BigInteger, ForeignKey("accounts.id"), nullable=False),
    Column("created_at", TIME, nullable=False),
    UniqueConstraint("vmid", "email_key"),
    CheckConstraint("cardinality(permissions) > 0", name="permissions"),
)

# Which ports of a dev container can be reached from outside, and by whom.
forwarded_ports = Table(
    "forwarded_ports",
    metadata,
    Column("vmid", Integer, ForeignKey("containers.vmid", ondelete="CASCADE", onupdate="CASCADE"), primary_key=True),
    Column("port", Integer, primary_key=True, autoincrement=False),
    Column("visibility", Text, nullable=False),
    Column("label", Text, nullable=False, server_default=""),
    Column("created_at", TIME, nullable=False),
    CheckConstraint("port BETWEEN 1 AND 65535", name="port"),
    one_of("visibility", Visibility),
)

# After how long without use a dev container's IDE is stopped.
idle_stops = Table(
    "idle_stops",
    metadata,
    Column(
        "vmid",
        Integer,
        ForeignKey("containers.vmid", ondelete="CASCADE", onupdate="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("minutes", Integer, nullable=False),
    CheckConstraint("minutes BETWEEN 10 AND 10080", name="minutes"),
)

# What we made at targets of the edge, or were about to: there until it was seen to be gone, whatever became of its
# container.
edge_entries = Table(
    "edge_entries",
    metadata,
    Column("target", ID, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("vmid", Integer, nullable=False),
    Column("claimed_at", TIME, nullable=False),
)

# Which public port of the routing edge leads to which of a container's ports, by the place of that in its list.
public_ports = Table(
    "public_ports",
    metadata,
    Column("proto", Text, primary_key=True),
    Column("port", Integer, primary_key=True, autoincrement=False),
    Column("vmid", Integer, ForeignKey("containers.vmid", ondelete="CASCADE", onupdate="CASCADE"), nullable=False),
    Column("position", SmallInteger, nullable=False),
    UniqueConstraint("vmid", "position"),
    CheckConstraint("port BETWEEN 1 AND 65535", name="port"),
    CheckConstraint("proto IN ('tcp', 'udp')", name="proto"),
)

# The last vmid given out of each reserved range ("5000-5999"): the next one comes after it, not the one just freed.
vmid_cursors = Table(
    "vmid_cursors",
    metadata,
    Column("range", ID, primary_key=True),
    Column("last", Integer, nullable=False),
)

operations = Table(
    "operations",
    metadata,
    Column("id", ID, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("vmid", Integer, nullable=False, index=True),
    Column("owner_id", BigInteger, ForeignKey("accounts.id"), nullable=False, index=True),
    Column("actor_id", BigInteger, ForeignKey("accounts.id")),
    Column("state", Text, nullable=False),
    Column("queued", Boolean, nullable=False),
    Column("error", Text),
    Column("revision", Integer, nullable=False, server_default="0"),
    Column("arguments", JSONB, nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("updated_at", TIME, nullable=False),
    Column("finished_at", TIME),
    one_of("kind", OperationKind),
    one_of("state", OperationState),
    CheckConstraint("(finished_at IS NULL) = (state IN ('running', 'compensating'))", name="finished"),
    Index("uq_operations_vmid_unfinished", "vmid", unique=True, postgresql_where=UNFINISHED),
)

operation_steps = Table(
    "operation_steps",
    metadata,
    Column("operation_id", ID, ForeignKey("operations.id", ondelete="CASCADE"), primary_key=True),
    Column("position", SmallInteger, primary_key=True),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("started_at", TIME),
    Column("ended_at", TIME),
    Column("error", Text),
    Column("note", Text),
    Column("data", JSONB, nullable=False),
    UniqueConstraint("operation_id", "name"),
    one_of("state", StepState),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("account_id", BigInteger, ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_hash", Text, nullable=False),
    Column("status", SmallInteger),
    Column("body", LargeBinary),
    Column("claimed_at", TIME, nullable=False),
    Column("created_at", TIME, nullable=False, index=True),
    CheckConstraint("(status IS NULL) = (body IS NULL)", name="complete"),
)

# One at a time: the index lets only one of them be active.
rollouts = Table(
    "rollouts",
    metadata,
    Column("id", ID, primary_key=True),
    Column("state", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("version", Text),
    Column("batch", Integer, nullable=False),
    Column("max_failures", Integer, nullable=False),
    Column("actor_id", BigInteger, ForeignKey("accounts.id")),
    Column("error", Text),
    Column("created_at", TIME, nullable=False),
    Column("updated_at", TIME, nullable=False),
    Column("cancel_asked_at", TIME),
    Column("finished_at", TIME),
    one_of("state", RolloutState),
    CheckConstraint("active = (state IN ('running', 'paused'))", name="active"),
    CheckConstraint("active = (finished_at IS NULL)", name="finished"),
    Index("uq_rollouts_active", "active", unique=True, postgresql_where=text("active")),
)

rollout_items = Table(
    "rollout_items",
    metadata,
    Column("rollout_id", ID, ForeignKey("rollouts.id", ondelete="CASCADE"), primary_key=True),
    Column("vmid", Integer, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False),
    Column("current", Text),
    Column("target", Text),
    Column("was_ready", Boolean, nullable=False, server_default=text("false")),
    Column("reason", Text),
    Column("started_at", TIME),
    Column("told_at", TIME),
    Column("ended_at", TIME),
    one_of("state", ItemState),
)

schedules = Table(
    "schedules",
    metadata,
    Column("id", ID, primary_key=True),
    Column(
        "vmid",
        Integer,
        ForeignKey("containers.vmid", ondelete="CASCADE", onupdate="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("name", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("command", Text, nullable=False, server_default=""),
    Column("cron", Text, nullable=False),
    Column("zone", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("keep_last", SmallInteger, nullable=False, server_default="0"),
    Column("keep_daily", SmallInteger, nullable=False, server_default="0"),
    Column("keep_weekly", SmallInteger, nullable=False, server_default="0"),
    Column("keep_monthly", SmallInteger, nullable=False, server_default="0"),
    Column("author_id", BigInteger, ForeignKey("accounts.id"), nullable=False, index=True),
    Column("next_at", TIME, index=True),
    Column("created_at", TIME, nullable=False),
    Column("updated_at", TIME, nullable=False),
    one_of("action", Action),
    CheckConstraint("enabled OR next_at IS NULL", name="next_at"),
)

# Who works on a run has claimed it until then, and claims it anew; one that nobody has claimed waits for its turn.
schedule_runs = Table(
    "schedule_runs",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("schedule_id", ID, ForeignKey("schedules.id", ondelete="CASCADE"), nullable=False),
    Column("due_at", TIME, nullable=False),
    Column("by_hand", Boolean, nullable=False),
    Column("attempt", SmallInteger, nullable=False),
    Column("claimed_by", Text),
    Column("claimed_until", TIME),
    Column("started_at", TIME),
    Column("ended_at", TIME),
    Column("outcome", Text),
    Column("error", Text),
    Column("backup_id", Text),
    Column("deleted", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    one_of("outcome", Outcome),
    CheckConstraint("(outcome IS NULL) = (ended_at IS NULL)", name="ended"),
    CheckConstraint("(claimed_by IS NULL) = (claimed_until IS NULL)", name="claimed"),
    Index("ix_schedule_runs_schedule_id_id", "schedule_id", "id"),
    Index("uq_schedule_runs_schedule_id_open", "schedule_id", unique=True, postgresql_where=text("outcome IS NULL")),
)

# Which of a container's backups a schedule has made: retention touches no others.
schedule_backups = Table(
    "schedule_backups",
    metadata,
    Column("schedule_id", ID, ForeignKey("schedules.id", ondelete="CASCADE"), primary_key=True),
    Column("backup_id", Text, primary_key=True),
)

# How much of one has arrived only the agent knows.
uploads = Table(
    "uploads",
    metadata,
    Column("id", ID, primary_key=True),
    Column(
        "vmid",
        Integer,
        ForeignKey("containers.vmid", ondelete="CASCADE", onupdate="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("path", Text, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("expires_at", TIME, nullable=False, index=True),
    one_of("state", UploadState),
    CheckConstraint("length >= 0", name="length"),
)

# Who did what: `actor_id` was at the keyboard, `subject_id` is whose account or container it was. A row is written
# before the work and completed once after it; a trigger (migration 0002) refuses every other change.
audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("at", TIME, nullable=False, index=True),
    Column("action", Text, nullable=False),
    Column("actor_id", BigInteger),
    Column("subject_id", BigInteger),
    Column("vmid", Integer),
    Column("outcome", Text),
    Column("status", SmallInteger),
    Column("credential", Text, nullable=False),
    Column("address", Text, nullable=False, server_default=""),
    Column("agent", Text, nullable=False, server_default=""),
    Column("request_id", Text, nullable=False, server_default=""),
    Column("details", JSONB, nullable=False),
    Index("ix_audit_actor_id_id", "actor_id", "id"),
    Index("ix_audit_subject_id_id", "subject_id", "id"),
    Index("ix_audit_vmid_id", "vmid", "id"),
    CheckConstraint("outcome IN ('done', 'refused', 'failed')", name="outcome"),
)
