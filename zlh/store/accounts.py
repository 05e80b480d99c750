"""Accounts. Every function runs in the caller's transaction; changes nudge the channel "accounts" with the id."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from zlh.model.accounts import Account, Role
from zlh.model.billing import BillingStatus
from zlh.model.errors import AbsentError, ConflictError, InvalidError
from zlh.model.names import comparison_key
from zlh.store import shares
from zlh.store.notify import ACCOUNTS, notify
from zlh.store.tables import accounts

_ADMINS_LOCK: Final = 0x7A6B6164
_FIELDS = [column for column in accounts.c if column.name not in ("email_key", "username_key")]


def create(
    connection: sa.Connection,
    *,
    email: str,
    username: str,
    password_hash: str,
    now: datetime,
    role: Role = Role.CUSTOMER,
    plan: str | None = None,
    display_name: str = "",
    first_name: str = "",
    last_name: str = "",
    email_verified_at: datetime | None = None,
) -> Account:
    """Raises ConflictError "taken" (`details` = {"fields": ["email", "username"]}, one or both), ignoring case and
    spelling, and InvalidError for an e-mail address without or a user name with an @. Where the address is verified
    from the start, the account gets what was shared with it.
    """
    keys = {"email": comparison_key(email), "username": comparison_key(username)}
    if "@" not in keys["email"]:
        raise InvalidError("an e-mail address has an @", details={"field": "email"})
    if "@" in keys["username"]:
        raise InvalidError("a user name has no @", details={"field": "username"})
    values = {
        "email": email.strip(),
        "email_key": keys["email"],
        "username": username.strip(),
        "username_key": keys["username"],
        "password_hash": password_hash,
        "role": role.value,
        "plan": plan,
        "granted_plan": plan,
        "billing_status": BillingStatus.ACTIVE.value if plan is not None else None,
        "display_name": display_name,
        "first_name": first_name,
        "last_name": last_name,
        "email_verified_at": email_verified_at,
        "created_at": now,
    }
    row = connection.execute(insert(accounts).values(values).on_conflict_do_nothing().returning(*_FIELDS)).first()
    if row is None:
        raise _taken(connection, keys)
    account = _account(row._mapping)
    if email_verified_at is not None:
        shares.bind(connection, account)
    return _changed(connection, account)


def by_id(connection: sa.Connection, account_id: int) -> Account | None:
    return _one(connection, accounts.c.id == account_id)


def by_identifier(connection: sa.Connection, identifier: str) -> Account | None:
    """Finds by e-mail address (whatever has an @) or by user name, ignoring case."""
    key = comparison_key(identifier)
    if "\0" in key:  # PostgreSQL's text has no room for it
        return None
    return _one(connection, (accounts.c.email_key if "@" in key else accounts.c.username_key) == key)


def all_accounts(connection: sa.Connection) -> list[Account]:
    """In the order of their ids."""
    return [_account(row._mapping) for row in connection.execute(sa.select(*_FIELDS).order_by(accounts.c.id))]


def count(connection: sa.Connection, role: Role | None = None) -> int:
    query = sa.select(sa.func.count()).select_from(accounts)
    if role is not None:
        query = query.where(accounts.c.role == role.value)
    return connection.execute(query).scalar_one()


def search(
    connection: sa.Connection,
    *,
    words: str = "",
    role: Role | None = None,
    before: int | None = None,
    limit: int | None = None,
) -> list[Account]:
    """The newest first. `words` is part of an e-mail address, a user name or a display name, ignoring case, or an id;
    `before` is the id of the last account of the page before."""
    query = sa.select(*_FIELDS).order_by(accounts.c.id.desc()).limit(limit)
    key = comparison_key(words)
    if "\0" in key:  # PostgreSQL's text has no room for it
        return []
    if key:
        named = (accounts.c.email_key, accounts.c.username_key, sa.func.lower(accounts.c.display_name))
        matches = [column.contains(key, autoescape=True) for column in named]
        if key.isascii() and key.isdigit() and len(key) <= 18:
            matches.append(accounts.c.id == int(key))
        query = query.where(sa.or_(*matches))
    if role is not None:
        query = query.where(accounts.c.role == role.value)
    if before is not None:
        query = query.where(accounts.c.id < before)
    return [_account(row._mapping) for row in connection.execute(query)]


def plans(connection: sa.Connection) -> dict[int, str | None]:
    """The names of everybody's plans, by account."""
    return {row.id: row.plan for row in connection.execute(sa.select(accounts.c.id, accounts.c.plan))}


def other_admins(connection: sa.Connection, account_id: int) -> int:
    """How many administrators can sign in and are not suspended, beside that account. Until the transaction ends
    nobody else can ask: of two administrators who leave at the same moment one stays."""
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADMINS_LOCK)))
    query = (
        sa.select(sa.func.count())
        .select_from(accounts)
        .where(
            accounts.c.role == Role.ADMIN.value,
            accounts.c.id != account_id,
            accounts.c.disabled_at.is_(None),
            accounts.c.suspended_at.is_(None),
        )
    )
    return connection.execute(query).scalar_one()


def set_entitlement(
    connection: sa.Connection,
    account_id: int,
    *,
    plan: str | None,
    billing_status: str | None,
    suspended_at: datetime | None,
    suspends_at: datetime | None,
    due_at: datetime | None,
) -> Account:
    """What follows from what is paid and given. A suspension that operators imposed stays. Raises AbsentError, as all
    that follow."""
    return _update(
        connection,
        account_id,
        plan=plan,
        billing_status=billing_status,
        billing_suspended_at=suspended_at,
        suspends_at=suspends_at,
        billing_due_at=due_at,
    )


def set_grant(
    connection: sa.Connection,
    account_id: int,
    *,
    plan: str | None,
    until: datetime | None,
    because: str,
    exceptions: Mapping[str, int],
) -> Account:
    """What an operator gives, in the place of what was given before; what follows is written by `set_entitlement`."""
    return _update(
        connection,
        account_id,
        granted_plan=plan,
        granted_until=until,
        granted_because=because,
        plan_exceptions=dict(exceptions),
    )


def billing_due(connection: sa.Connection, now: datetime, limit: int) -> list[int]:
    """Whose entitlement is to be reckoned anew, the longest due first."""
    query = (
        sa.select(accounts.c.id)
        .where(accounts.c.billing_due_at <= now)
        .order_by(accounts.c.billing_due_at)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def next_billing_due(connection: sa.Connection) -> datetime | None:
    found: datetime | None = connection.execute(sa.select(sa.func.min(accounts.c.billing_due_at))).scalar_one()
    return found


def put_off_billing(connection: sa.Connection, account_id: int, now: datetime, until: datetime) -> None:
    """What is due at `now` still; it could not be found out."""
    statement = (
        sa.update(accounts)
        .where(accounts.c.id == account_id, accounts.c.billing_due_at <= now)
        .values(billing_due_at=until)
    )
    connection.execute(statement)


def set_password_hash(connection: sa.Connection, account_id: int, password_hash: str) -> Account:
    return _update(connection, account_id, password_hash=password_hash)


def set_second_factor(connection: sa.Connection, account_id: int, at: datetime | None) -> Account:
    """When it was switched on; None: it is off."""
    return _update(connection, account_id, second_factor_at=at)


def set_email(connection: sa.Connection, account_id: int, email: str) -> Account:
    """Another address, which nobody has verified yet as the account's. Raises ConflictError "taken" where another
    account has it."""
    values = {"email": email.strip(), "email_key": comparison_key(email), "email_verified_at": None}
    try:
        with connection.begin_nested():
            return _update(connection, account_id, **values)
    except sa.exc.IntegrityError:
        message = "this e-mail address is taken"
        raise ConflictError(message, code="taken", details={"fields": ["email"]}) from None


def set_email_verified(connection: sa.Connection, account_id: int, now: datetime) -> Account:
    """An address that is verified already keeps the time that it was verified first."""
    return _update(connection, account_id, email_verified_at=sa.func.coalesce(accounts.c.email_verified_at, now))


def set_names(
    connection: sa.Connection, account_id: int, *, display_name: str, first_name: str, last_name: str
) -> Account:
    return _update(connection, account_id, display_name=display_name, first_name=first_name, last_name=last_name)


def suspend(connection: sa.Connection, account_id: int, now: datetime) -> Account:
    """By an operator, whatever is paid. An account that operators suspended already keeps the time that they did it
    first."""
    at = sa.func.coalesce(accounts.c.operator_suspended_at, now)
    return _update(connection, account_id, operator_suspended_at=at)


def unsuspend(connection: sa.Connection, account_id: int) -> Account:
    """Lifts what operators imposed; an account that billing suspended stays so."""
    return _update(connection, account_id, operator_suspended_at=None)


def disable(connection: sa.Connection, account_id: int, now: datetime) -> Account:
    """An account that is disabled already keeps the time that it was disabled first."""
    return _update(connection, account_id, disabled_at=sa.func.coalesce(accounts.c.disabled_at, now))


def enable(connection: sa.Connection, account_id: int) -> Account:
    return _update(connection, account_id, disabled_at=None)


def set_role(connection: sa.Connection, account_id: int, role: Role) -> Account:
    return _update(connection, account_id, role=role.value)


def lock(connection: sa.Connection, account_id: int) -> Account:
    """Holds the account until the transaction ends: others who lock it wait. Raises AbsentError."""
    query = sa.select(*_FIELDS).where(accounts.c.id == account_id).with_for_update(key_share=True)
    row = connection.execute(query).first()
    if row is None:
        raise AbsentError("no such account")
    return _account(row._mapping)


def _one(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> Account | None:
    row = connection.execute(sa.select(*_FIELDS).where(condition)).first()
    return None if row is None else _account(row._mapping)


def _update(connection: sa.Connection, account_id: int, **values: Any) -> Account:
    statement = sa.update(accounts).where(accounts.c.id == account_id).values(**values).returning(*_FIELDS)
    row = connection.execute(statement).first()
    if row is None:
        raise AbsentError("no such account")
    return _changed(connection, _account(row._mapping))


def _changed(connection: sa.Connection, account: Account) -> Account:
    notify(connection, ACCOUNTS, str(account.id))
    return account


def _taken(connection: sa.Connection, keys: Mapping[str, str]) -> ConflictError:
    query = sa.select(
        sa.exists().where(accounts.c.email_key == keys["email"]),
        sa.exists().where(accounts.c.username_key == keys["username"]),
    )
    found = connection.execute(query).one()
    fields = [field for field, taken in zip(("email", "username"), found, strict=True) if taken]
    words = " and ".join({"email": "this e-mail address", "username": "this user name"}[field] for field in fields)
    verb = "are" if len(fields) > 1 else "is"
    return ConflictError(f"{words} {verb} taken", code="taken", details={"fields": fields})


def _account(row: Mapping[Any, Any]) -> Account:
    return Account(**{**row, "role": Role(row["role"])})
