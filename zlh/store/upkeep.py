"""What has outlived its use is forgotten: expired idempotency keys, ended sessions, replaced signing keys,
spent tokens, API keys, links and letters, runs of schedules, rollouts, events of Stripe."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from zlh.store import (
    api_keys,
    billing_events,
    billing_reports,
    idempotency,
    keys,
    mail_links,
    outbox,
    rollouts,
    schedule_runs,
    sessions,
    spent_tokens,
)

SESSIONS_KEPT: Final = timedelta(days=30)
"""Ended sessions stay so long: they know from where and with what somebody used to sign in."""

REFRESH_TOKENS_KEPT: Final = timedelta(days=1)
"""Those of ended sessions, so that one that is used again can still be explained."""

KEYS_KEPT: Final = timedelta(days=2)
"""Longer than any access token lives."""

SPENT_KEPT: Final = timedelta(hours=1)
"""After its token expired: a process whose clock is behind still refuses it."""

API_KEYS_KEPT: Final = timedelta(days=90)
"""Expired ones are shown to their owner so long, who wonders why something stopped."""

LINKS_KEPT: Final = timedelta(days=1)

LETTERS_KEPT: Final = timedelta(days=30)
"""Those that were given up: somebody may ask what became of them."""

EVENTS_KEPT: Final = timedelta(days=40)
"""Stripe may send one again for 30 days."""

RECORD_KEPT: Final = timedelta(days=365)


def forget_old(connection: sa.Connection, now: datetime, record_kept: timedelta = RECORD_KEPT) -> int:
    """How many rows went. `record_kept` is how long it can be read what operators did, rollouts among that. Safe to
    run at any time and from several processes."""
    return (
        idempotency.purge(connection, now)
        + sessions.purge(connection, now - SESSIONS_KEPT)
        + sessions.purge_tokens(connection, now - REFRESH_TOKENS_KEPT)
        + keys.forget_replaced(connection, now - KEYS_KEPT)
        + api_keys.purge(connection, now - API_KEYS_KEPT)
        + mail_links.purge(connection, now - LINKS_KEPT)
        + outbox.purge(connection, now - LETTERS_KEPT)
        + spent_tokens.purge(connection, now - SPENT_KEPT)
        + schedule_runs.purge(connection)
        + rollouts.purge(connection, now - record_kept)
        + billing_events.purge(connection, now - EVENTS_KEPT)
        + billing_reports.purge(connection, now - record_kept)
    )
