"""Links that were sent by e-mail, of which the store knows hashes only. Each works once, and not for long.

Every function runs in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from zlh.model.names import comparison_key
from zlh.store.tables import mail_links


class Purpose(StrEnum):
    VERIFY = "verify"
    """`email` is the account's, or becomes it."""
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class MailLink:
    """`email` is the address that it was sent to."""

    account_id: int
    purpose: Purpose
    email: str


_FIELDS = (mail_links.c.account_id, mail_links.c.purpose, mail_links.c.email)


def issue(connection: sa.Connection, token_hash: str, link: MailLink, *, now: datetime, expires_at: datetime) -> None:
    values = {
        "token_hash": token_hash,
        "account_id": link.account_id,
        "purpose": link.purpose.value,
        "email": link.email,
        "created_at": now,
        "expires_at": expires_at,
    }
    connection.execute(sa.insert(mail_links).values(values))


def find(connection: sa.Connection, token_hash: str, purpose: Purpose, now: datetime) -> MailLink | None:
    """The link, if it could be used now; does not use it."""
    row = connection.execute(sa.select(*_FIELDS).where(*_usable(token_hash, purpose, now))).first()
    return None if row is None else _link(row._mapping)


def spend(connection: sa.Connection, token_hash: str, purpose: Purpose, now: datetime) -> MailLink | None:
    """Uses the link: of two who try at once, the second waits for the first and gets None, as for a link that is
    unknown, used or expired."""
    statement = (
        sa.update(mail_links).where(*_usable(token_hash, purpose, now)).values(used_at=now).returning(*_FIELDS)
    )
    row = connection.execute(statement).first()
    return None if row is None else _link(row._mapping)


def withdraw(connection: sa.Connection, account_id: int, *, but_verifying: str | None = None) -> None:
    """Makes the account's links useless, all but those that verify the address `but_verifying`."""
    unused = sa.select(mail_links.c.token_hash, *_FIELDS).where(
        mail_links.c.account_id == account_id, mail_links.c.used_at.is_(None)
    )
    kept = None if but_verifying is None else (Purpose.VERIFY, comparison_key(but_verifying))
    gone = [
        row.token_hash
        for row in connection.execute(unused)
        if (Purpose(row.purpose), comparison_key(row.email)) != kept
    ]
    connection.execute(sa.delete(mail_links).where(mail_links.c.token_hash.in_(gone)))


def purge(connection: sa.Connection, before: datetime) -> int:
    """Forgets links that expired before then, used or not; returns how many."""
    return connection.execute(sa.delete(mail_links).where(mail_links.c.expires_at < before)).rowcount


def _usable(token_hash: str, purpose: Purpose, now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        mail_links.c.token_hash == token_hash,
        mail_links.c.purpose == purpose.value,
        mail_links.c.used_at.is_(None),
        mail_links.c.expires_at > now,
    )


def _link(row: Mapping[Any, Any]) -> MailLink:
    return MailLink(row["account_id"], Purpose(row["purpose"]), row["email"])
