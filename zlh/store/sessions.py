"""Sign-in sessions. A session is a family of refresh tokens, of which the store knows hashes only.

Every rotation begins a new generation of the family. The token of the generation before is good for ten seconds more,
because two tabs of one browser refresh at the same moment: the second gets a token of the new generation too. Any
older token is a stolen one, or its owner's after a thief rotated: the whole family ends.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from zlh.store.notify import SESSIONS, notify
from zlh.store.tables import refresh_tokens, sessions

GRACE: Final = timedelta(seconds=10)
MOST_ORIGINS: Final = 500
MOST_LISTED: Final = 1000


@dataclass(frozen=True, slots=True)
class Session:
    """`address` and `agent` are of the sign-in, for the list that the user sees. `operator_id`, `reason` and
    `read_only` are of an operator who acts in the account's place."""

    id: str
    account_id: int
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    revoked_because: str | None = None
    address: str = ""
    agent: str = ""
    operator_id: int | None = None
    reason: str | None = None
    read_only: bool = False

    def live(self, now: datetime) -> bool:
        return self.revoked_at is None and self.expires_at > now


@dataclass(frozen=True, slots=True)
class Rotated:
    """The token was good; the next one is valid now."""

    session: Session


@dataclass(frozen=True, slots=True)
class Reused:
    """An old token came back; the family has been revoked. Tell the user."""

    session: Session


@dataclass(frozen=True, slots=True)
class Refused:
    """Unknown, expired or revoked. Nothing was changed."""

    reason: str


Rotation = Rotated | Reused | Refused

_FIELDS = [column for column in sessions.c if column.name not in ("generation", "rotated_at")]


def open_session(
    connection: sa.Connection,
    account_id: int,
    token_hash: str,
    *,
    now: datetime,
    expires_at: datetime,
    address: str = "",
    agent: str = "",
) -> Session:
    """Begins a session whose first refresh token has that hash."""
    values = {
        "id": secrets.token_hex(16),
        "account_id": account_id,
        "created_at": now,
        "last_used_at": now,
        "expires_at": expires_at,
        "address": address,
        "agent": agent,
    }
    row = connection.execute(sa.insert(sessions).values(values).returning(*_FIELDS)).one()
    session = _session(row._mapping)
    _add_token(connection, session.id, token_hash, 0)
    return session


def open_acting(
    connection: sa.Connection,
    account_id: int,
    *,
    operator_id: int,
    reason: str,
    read_only: bool,
    now: datetime,
    expires_at: datetime,
) -> Session:
    """Begins an operator's session in the account's place. It has no refresh token: it ends when it expires. From
    where the operator acts is not the customer's to know."""
    values = {
        "id": secrets.token_hex(16),
        "account_id": account_id,
        "created_at": now,
        "last_used_at": now,
        "expires_at": expires_at,
        "operator_id": operator_id,
        "reason": reason,
        "read_only": read_only,
    }
    row = connection.execute(sa.insert(sessions).values(values).returning(*_FIELDS)).one()
    return _session(row._mapping)


def rotate(
    connection: sa.Connection, token_hash: str, next_hash: str, *, now: datetime, expires_at: datetime
) -> Rotation:
    """Spends a refresh token and puts the next one in its place. A reuse is returned, not raised: its revocation
    must be committed.
    """
    found = connection.execute(
        sa.select(sessions, refresh_tokens.c.generation.label("presented"))
        .join(refresh_tokens, refresh_tokens.c.session_id == sessions.c.id)
        .where(refresh_tokens.c.token_hash == token_hash)
        .with_for_update(of=sessions)
    ).first()
    if found is None:
        return Refused("unknown refresh token")
    row = found._mapping
    session = _session(row)
    if session.revoked_at is not None:
        return Refused("the session has ended")
    if not session.live(now):
        return Refused("the session has expired")
    generation = row["generation"]
    if row["presented"] == generation:
        used = _touch(connection, session.id, now, expires_at, generation=generation + 1, rotated_at=now)
        _add_token(connection, session.id, next_hash, generation + 1)
        return Rotated(used)
    if row["presented"] == generation - 1 and now - row["rotated_at"] <= GRACE:
        used = _touch(connection, session.id, now, expires_at)
        _add_token(connection, session.id, next_hash, generation)
        return Rotated(used)
    revoke(connection, session.id, now, because="a spent refresh token was used again")
    return Reused(session)


def get(connection: sa.Connection, session_id: str) -> Session | None:
    row = connection.execute(sa.select(*_FIELDS).where(sessions.c.id == session_id)).first()
    return None if row is None else _session(row._mapping)


def active(connection: sa.Connection, account_id: int, now: datetime) -> list[Session]:
    """The account's sessions that are neither revoked nor expired, the last used first, at most `MOST_LISTED`."""
    query = (
        sa.select(*_FIELDS)
        .where(sessions.c.account_id == account_id, sessions.c.revoked_at.is_(None), sessions.c.expires_at > now)
        .order_by(sessions.c.last_used_at.desc(), sessions.c.id)
        .limit(MOST_LISTED)
    )
    return [_session(row._mapping) for row in connection.execute(query)]


def origins(connection: sa.Connection, account_id: int) -> set[tuple[str, str]]:
    """From where the account was signed in to, as far as that is still known: (address, agent) of its owner's last
    `MOST_ORIGINS` sign-ins, also of sessions that have ended."""
    last = (
        sa.select(sessions.c.address, sessions.c.agent)
        .where(sessions.c.account_id == account_id, sessions.c.operator_id.is_(None))
        .order_by(sessions.c.created_at.desc())
        .limit(MOST_ORIGINS)
        .subquery()
    )
    return {(row.address, row.agent) for row in connection.execute(sa.select(last).distinct())}


def revoke(connection: sa.Connection, session_id: str, now: datetime, *, because: str = "signed out") -> bool:
    """Ends the family; false where there is none or it had ended. Says so on the channel "sessions"."""
    return bool(_revoke(connection, sessions.c.id == session_id, now, because))


def revoke_own(
    connection: sa.Connection, account_id: int, session_id: str, now: datetime, *, because: str = "signed out"
) -> bool:
    """As `revoke`, but false also where the session is another account's."""
    own = sa.and_(sessions.c.id == session_id, sessions.c.account_id == account_id)
    return bool(_revoke(connection, own, now, because))


def revoke_all(
    connection: sa.Connection,
    account_id: int,
    now: datetime,
    *,
    keep: str | None = None,
    because: str = "signed out everywhere",
) -> list[str]:
    """Ends every session of the account but `keep`, and those in which it acts for somebody; returns the ids of those
    that it ended."""
    condition = sa.or_(sessions.c.account_id == account_id, sessions.c.operator_id == account_id)
    if keep is not None:
        condition = sa.and_(condition, sessions.c.id != keep)
    return _revoke(connection, condition, now, because)


def revoke_acting(
    connection: sa.Connection, account_id: int, now: datetime, *, because: str = "the operator's rights ended"
) -> list[str]:
    """Ends every session in which the account acts for somebody, or somebody for the account; returns their ids."""
    concerned = sa.or_(
        sessions.c.operator_id == account_id,
        sa.and_(sessions.c.account_id == account_id, sessions.c.operator_id.is_not(None)),
    )
    return _revoke(connection, concerned, now, because)


def revoked_since(connection: sa.Connection, since: datetime) -> list[str]:
    """Ids of sessions revoked at or after `since`: their access tokens may still be about."""
    return list(connection.execute(sa.select(sessions.c.id).where(sessions.c.revoked_at >= since)).scalars())


def purge(connection: sa.Connection, before: datetime) -> int:
    """Forgets sessions that expired, or were revoked, before then; returns how many."""
    return connection.execute(sa.delete(sessions).where(_ended_before(before))).rowcount


def purge_tokens(connection: sa.Connection, before: datetime) -> int:
    """Forgets the refresh tokens of such sessions, not the sessions; returns how many."""
    theirs = refresh_tokens.c.session_id.in_(sa.select(sessions.c.id).where(_ended_before(before)))
    return connection.execute(sa.delete(refresh_tokens).where(theirs)).rowcount


def _ended_before(before: datetime) -> sa.ColumnElement[bool]:
    return sa.or_(sessions.c.expires_at < before, sessions.c.revoked_at < before)


def _add_token(connection: sa.Connection, session_id: str, token_hash: str, generation: int) -> None:
    values = {"token_hash": token_hash, "session_id": session_id, "generation": generation}
    connection.execute(sa.insert(refresh_tokens).values(values))


def _touch(connection: sa.Connection, session_id: str, now: datetime, expires_at: datetime, **values: Any) -> Session:
    statement = (
        sa.update(sessions)
        .where(sessions.c.id == session_id)
        .values(last_used_at=now, expires_at=expires_at, **values)
        .returning(*_FIELDS)
    )
    return _session(connection.execute(statement).one()._mapping)


def _revoke(connection: sa.Connection, condition: sa.ColumnElement[bool], now: datetime, because: str) -> list[str]:
    statement = (
        sa.update(sessions)
        .where(condition, sessions.c.revoked_at.is_(None))
        .values(revoked_at=now, revoked_because=because)
        .returning(sessions.c.id)
    )
    ended = list(connection.execute(statement).scalars())
    for session_id in ended:
        notify(connection, SESSIONS, session_id)
    return ended


def _session(row: Mapping[Any, Any]) -> Session:
    return Session(**{field.name: row[field.name] for field in _FIELDS})
