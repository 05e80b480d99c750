"""Nudges to other processes: `zlh.store.listener` hears them when the transaction commits, and only then."""

from __future__ import annotations

import sqlalchemy as sa

ACCOUNTS = "accounts"
API_KEYS = "api_keys"
BILLING = "billing"
FORWARDED_PORTS = "forwarded_ports"
OPERATIONS = "operations"
OUTBOX = "outbox"
SCHEDULES = "schedules"
SESSIONS = "sessions"
SHARES = "shares"
SIGNING_KEYS = "signing_keys"


def notify(connection: sa.Connection, channel: str, name: str) -> None:
    """Names what changed, never how: the reader looks for itself. Equal nudges of one transaction are sent once."""
    connection.execute(sa.select(sa.func.pg_notify(channel, name)))
