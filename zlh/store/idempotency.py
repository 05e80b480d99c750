"""Idempotency keys: the same request with the same key gets the same answer, for a day.

Either all of it in one transaction (claim, the work, complete: then nobody ever sees a claim without its answer), or
claim and complete each in their own around work that takes longer; then a claim whose process died can be taken over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from zlh.model.errors import ConflictError, MismatchError
from zlh.store.tables import idempotency_keys as keys

KEPT: Final = timedelta(hours=24)
TAKE_OVER_AFTER: Final = timedelta(seconds=150)
"""Longer than any request is worked on: a call to an agent takes up to 105 seconds."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """Yours to carry out, and to `complete` or `release`. `claimed_at` tells this claim from a later one."""

    account_id: int
    key: str
    claimed_at: datetime


@dataclass(frozen=True, slots=True)
class Stored:
    """The answer that was given before."""

    status: int
    body: bytes


def claim(
    connection: sa.Connection,
    account_id: int,
    key: str,
    request_hash: str,
    now: datetime,
    *,
    take_over_after: timedelta = TAKE_OVER_AFTER,
) -> Fresh | Stored:
    """Raises MismatchError where the key was used with another request, ConflictError "in_progress" while another
    claim of it is younger than `take_over_after`. Who claims at the same moment waits for the first to commit.
    """
    fresh = Fresh(account_id, key, now)
    values = {
        "account_id": account_id,
        "key": key,
        "request_hash": request_hash,
        "claimed_at": now,
        "created_at": now,
    }
    # One that has expired is as good as none.
    expired = sa.delete(keys).where(_is(account_id, key), keys.c.created_at <= now - KEPT)
    connection.execute(expired)
    added = connection.execute(insert(keys).values(values).on_conflict_do_nothing().returning(keys.c.key)).first()
    if added is not None:
        return fresh
    row = connection.execute(sa.select(keys).where(_is(account_id, key)).with_for_update()).first()
    if row is None:  # it was released between the two statements
        raise ConflictError("a request with this key has just failed; try again", code="in_progress", retry_after=1)
    if row.request_hash != request_hash:
        raise MismatchError("this Idempotency-Key was used with another request")
    if row.status is not None:
        return Stored(row.status, row.body)
    left = math.ceil((row.claimed_at + take_over_after - now).total_seconds())
    if left > 0:
        words = "a request with this key is being worked on; should it have broken off, the key can be used again in"
        raise ConflictError(f"{words} {left} s", code="in_progress", retry_after=min(left, 5))
    connection.execute(sa.update(keys).where(_is(account_id, key)).values(claimed_at=now))
    return fresh


def complete(connection: sa.Connection, fresh: Fresh, status: int, body: bytes) -> bool:
    """Stores the answer; false where somebody has taken the claim over, whose answer then counts."""
    statement = sa.update(keys).where(_claimed(fresh)).values(status=status, body=body)
    return connection.execute(statement).rowcount > 0


def release(connection: sa.Connection, fresh: Fresh) -> bool:
    """Gives an unfinished claim up: nothing was done, the same key may try again. False as for `complete`."""
    return connection.execute(sa.delete(keys).where(_claimed(fresh))).rowcount > 0


def purge(connection: sa.Connection, now: datetime) -> int:
    """Forgets what is older than a day; returns how many."""
    return connection.execute(sa.delete(keys).where(keys.c.created_at <= now - KEPT)).rowcount


def _is(account_id: int, key: str) -> sa.ColumnElement[bool]:
    return sa.and_(keys.c.account_id == account_id, keys.c.key == key)


def _claimed(fresh: Fresh) -> sa.ColumnElement[bool]:
    return sa.and_(_is(fresh.account_id, fresh.key), keys.c.claimed_at == fresh.claimed_at, keys.c.status.is_(None))
