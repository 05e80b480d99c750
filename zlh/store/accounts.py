"""Accounts. Every function runs in the caller's transaction; changes nudge the channel "accounts" with the id."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from zlh.model.accounts import Account, Role
from zlh.model.errors import AbsentError, ConflictError, InvalidError
from zlh.model.names import comparison_key
from zlh.store.notify import ACCOUNTS, notify
from zlh.store.tables import accounts

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
) -> Account:
    """Raises ConflictError "taken" (`details` = {"fields": ["email", "username"]}, one or both), ignoring case and
    spelling, and InvalidError for an e-mail address without or a user name with an @.
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
        "display_name": display_name,
        "first_name": first_name,
        "last_name": last_name,
        "created_at": now,
    }
    row = connection.execute(insert(accounts).values(values).on_conflict_do_nothing().returning(*_FIELDS)).first()
    if row is None:
        raise _taken(connection, keys)
    return _changed(connection, _account(row._mapping))


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


def set_plan(connection: sa.Connection, account_id: int, plan: str | None) -> Account:
    """Raises AbsentError, as all that follow."""
    return _update(connection, account_id, plan=plan)


def set_billing_status(connection: sa.Connection, account_id: int, status: str | None) -> Account:
    return _update(connection, account_id, billing_status=status)


def set_password_hash(connection: sa.Connection, account_id: int, password_hash: str) -> Account:
    return _update(connection, account_id, password_hash=password_hash)


def set_names(
    connection: sa.Connection, account_id: int, *, display_name: str, first_name: str, last_name: str
) -> Account:
    return _update(connection, account_id, display_name=display_name, first_name=first_name, last_name=last_name)


def suspend(connection: sa.Connection, account_id: int, now: datetime) -> Account:
    """An account that is suspended already keeps the time that it was suspended first."""
    return _update(connection, account_id, suspended_at=sa.func.coalesce(accounts.c.suspended_at, now))


def unsuspend(connection: sa.Connection, account_id: int) -> Account:
    return _update(connection, account_id, suspended_at=None)


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
