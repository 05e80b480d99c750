"""Links by e-mail: made, and put into a letter, in the transaction that makes them needed."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from zlh.accounts import letters
from zlh.model.accounts import Account
from zlh.store import mail_links
from zlh.store.mail_links import MailLink, Purpose
from zlh.store.outbox import post

VERIFY_FOR: Final = timedelta(hours=24)
RESET_FOR: Final = timedelta(minutes=30)


def send_verification(
    connection: sa.Connection, account: Account, portal_url: str, now: datetime, *, email: str | None = None
) -> None:
    """Asks whoever reads the account's address to confirm it; with `email` that address, which then becomes the
    account's."""
    link = MailLink(account.id, Purpose.VERIFY, email or account.email)
    token = _issue(connection, link, now, VERIFY_FOR)
    post(connection, letters.verify_address(account, portal_url, token, recipient=link.email), now)


def send_reset(connection: sa.Connection, account: Account, portal_url: str, now: datetime) -> None:
    """Lets whoever reads the account's address choose a new password."""
    token = _issue(connection, MailLink(account.id, Purpose.RESET, account.email), now, RESET_FOR)
    post(connection, letters.reset_password(account, portal_url, token), now)


def digest(token: str) -> str:
    """What the store knows of a link. A plain hash will do: the token has 256 random bits."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _issue(connection: sa.Connection, link: MailLink, now: datetime, lifetime: timedelta) -> str:
    token = secrets.token_urlsafe(32)
    mail_links.issue(connection, digest(token), link, now=now, expires_at=now + lifetime)
    return token
