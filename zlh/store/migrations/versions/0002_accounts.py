"""Accounts made complete: API keys, shares, second factors, e-mail, the audit record."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

# Rows are never changed and never deleted, but completed once (what was not known is added, what was said stays), and
# forgotten by the retention, which says so first.
APPEND_ONLY = """
CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.outcome IS NULL AND NEW.outcome IS NOT NULL
        AND (NEW.id, NEW.at, NEW.action, NEW.credential, NEW.address, NEW.agent, NEW.request_id,
            coalesce(OLD.actor_id, NEW.actor_id), coalesce(OLD.subject_id, NEW.subject_id),
            coalesce(OLD.vmid, NEW.vmid), NEW.details || OLD.details)
            IS NOT DISTINCT FROM
            (OLD.id, OLD.at, OLD.action, OLD.credential, OLD.address, OLD.agent, OLD.request_id,
            NEW.actor_id, NEW.subject_id, NEW.vmid, NEW.details) THEN
        RETURN NEW;
    ELSIF TG_OP = 'DELETE' AND current_setting('zlh.retention', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the audit record is append-only';
END $$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE FUNCTION audit_is_not_truncated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit record is append-only';
END $$;
CREATE TRIGGER audit_is_not_truncated BEFORE TRUNCATE ON audit EXECUTE FUNCTION audit_is_not_truncated();
"""


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.BigInteger(), nullable=True),
        sa.Column("subject_id", sa.BigInteger(), nullable=True),
        sa.Column("vmid", sa.Integer(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("status", sa.SmallInteger(), nullable=True),
        sa.Column("credential", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), server_default="", nullable=False),
        sa.Column("agent", sa.Text(), server_default="", nullable=False),
        sa.Column("request_id", sa.Text(), server_default="", nullable=False),
        sa.Column("details", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.CheckConstraint("outcome IN ('done', 'refused', 'failed')", name=op.f("ck_audit_outcome")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_actor_id_id", "audit", ["actor_id", "id"], unique=False)
    op.create_index(op.f("ix_audit_at"), "audit", ["at"], unique=False)
    op.create_index("ix_audit_subject_id_id", "audit", ["subject_id", "id"], unique=False)
    op.create_index("ix_audit_vmid_id", "audit", ["vmid", "id"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("given_up_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_index(op.f("ix_outbox_due_at"), "outbox", ["due_at"], unique=False)
    op.create_table(
        "spent_tokens",
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_spent_tokens")),
    )
    op.create_index(op.f("ix_spent_tokens_expires_at"), "spent_tokens", ["expires_at"], unique=False)
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.Text(collation="C"), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_address", sa.Text(), server_default="", nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("cardinality(scopes) > 0", name=op.f("ck_api_keys_scopes")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_api_keys_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_api_keys_token_hash")),
    )
    op.create_index(op.f("ix_api_keys_account_id"), "api_keys", ["account_id"], unique=False)
    op.create_table(
        "mail_links",
        sa.Column("token_hash", sa.Text(collation="C"), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("purpose IN ('verify', 'reset')", name=op.f("ck_mail_links_purpose")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_mail_links_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_mail_links")),
    )
    op.create_index(op.f("ix_mail_links_account_id"), "mail_links", ["account_id"], unique=False)
    op.create_table(
        "recovery_codes",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("code_hash", sa.Text(collation="C"), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_recovery_codes_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("account_id", "code_hash", name=op.f("pk_recovery_codes")),
    )
    op.create_table(
        "second_factors",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_second_factors_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_second_factors")),
    )
    op.create_table(
        "shares",
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("vmid", sa.Integer(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("email_key", sa.Text(), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=True),
        sa.Column("permissions", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_by", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("cardinality(permissions) > 0", name=op.f("ck_shares_permissions")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_shares_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["created_by"], ["accounts.id"], name=op.f("fk_shares_created_by")),
        sa.ForeignKeyConstraint(
            ["vmid"], ["containers.vmid"], name=op.f("fk_shares_vmid"), ondelete="CASCADE", onupdate="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shares")),
        sa.UniqueConstraint("vmid", "email_key", name=op.f("uq_shares_vmid_email_key")),
    )
    op.create_index(op.f("ix_shares_account_id"), "shares", ["account_id"], unique=False)
    op.create_index(op.f("ix_shares_email_key"), "shares", ["email_key"], unique=False)
    op.add_column("accounts", sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("accounts", sa.Column("email_verified_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("accounts", sa.Column("second_factor_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("sessions", sa.Column("operator_id", sa.BigInteger(), nullable=True))
    op.add_column("sessions", sa.Column("reason", sa.Text(), nullable=True))
    op.add_column("sessions", sa.Column("read_only", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_index(op.f("ix_sessions_operator_id"), "sessions", ["operator_id"], unique=False)
    op.drop_index(op.f("ix_sessions_account_id"), table_name="sessions")
    op.create_index("ix_sessions_account_id_created_at", "sessions", ["account_id", "created_at"], unique=False)
    op.create_foreign_key(op.f("fk_sessions_operator_id"), "sessions", "accounts", ["operator_id"], ["id"])
    op.add_column("signing_keys", sa.Column("signs_at", sa.DateTime(timezone=True), nullable=True))
    # A key that a newer one took over from is retired by that alone; withdrawn is one that somebody else may have.
    op.alter_column("signing_keys", "retired_at", new_column_name="withdrawn_at")
    op.execute("UPDATE signing_keys SET signs_at = created_at, withdrawn_at = NULL")
    op.alter_column("signing_keys", "signs_at", nullable=False)
    # Nobody asked for it so far; whoever is here keeps what it has.
    op.execute("UPDATE accounts SET email_verified_at = created_at")
    op.execute(APPEND_ONLY)


def downgrade() -> None:
    op.alter_column("signing_keys", "withdrawn_at", new_column_name="retired_at")
    op.drop_column("signing_keys", "signs_at")
    op.drop_constraint(op.f("fk_sessions_operator_id"), "sessions", type_="foreignkey")
    op.drop_index("ix_sessions_account_id_created_at", table_name="sessions")
    op.create_index(op.f("ix_sessions_account_id"), "sessions", ["account_id"], unique=False)
    op.drop_index(op.f("ix_sessions_operator_id"), table_name="sessions")
    op.drop_column("sessions", "read_only")
    op.drop_column("sessions", "reason")
    op.drop_column("sessions", "operator_id")
    op.drop_column("accounts", "second_factor_at")
    op.drop_column("accounts", "email_verified_at")
    op.drop_column("accounts", "disabled_at")
    op.drop_index(op.f("ix_shares_email_key"), table_name="shares")
    op.drop_index(op.f("ix_shares_account_id"), table_name="shares")
    op.drop_table("shares")
    op.drop_table("second_factors")
    op.drop_table("recovery_codes")
    op.drop_index(op.f("ix_mail_links_account_id"), table_name="mail_links")
    op.drop_table("mail_links")
    op.drop_index(op.f("ix_api_keys_account_id"), table_name="api_keys")
    op.drop_table("api_keys")
    op.drop_index(op.f("ix_spent_tokens_expires_at"), table_name="spent_tokens")
    op.drop_table("spent_tokens")
    op.drop_index(op.f("ix_outbox_due_at"), table_name="outbox")
    op.drop_table("outbox")
    op.drop_index("ix_audit_vmid_id", table_name="audit")
    op.drop_index("ix_audit_subject_id_id", table_name="audit")
    op.drop_index(op.f("ix_audit_at"), table_name="audit")
    op.drop_index("ix_audit_actor_id_id", table_name="audit")
    op.drop_table("audit")
    op.execute("DROP FUNCTION audit_is_append_only(); DROP FUNCTION audit_is_not_truncated();")
