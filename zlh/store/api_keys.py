"""API keys, of which the store knows hashes only. Every function runs in the caller's transaction; new and revoked
keys nudge the channel "api_keys" with the key's id.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from zlh.model.access import Scope
from zlh.model.accounts import Account
from zlh.model.errors import ConflictError
from zlh.store.notify import API_KEYS, notify
from zlh.store.tables import api_keys

_KNOWN = {scope.value: scope for scope in Scope}


@dataclass(frozen=True, slots=True)
class ApiKey:
    """`token_hash` is the SHA-256 of the whole key, in hex. `last_used_at` and `last_used_address` lag a little."""

    id: str
    account_id: int
    name: str
    token_hash: str = field(repr=False)
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    last_used_address: str = ""
    revoked_at: datetime | None = None

    def live(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


@dataclass(frozen=True, slots=True)
class KeyUse:
    """The last use of a key that is known of."""

    key_id: str
    at: datetime
    address: str


def create(
    connection: sa.Connection,
    account: Account,
    *,
    name: str,
    token_hash: str,
    scopes: Iterable[Scope],
    now: datetime,
    expires_at: datetime | None,
    most: int,
) -> ApiKey:
    """`account` is locked by the caller (`accounts.lock`): two requests at once do not both find room for the last
    one. Raises ConflictError "too_many_keys" where it has `most` live ones."""
    if sum(key.live(now) for key in of_account(connection, account.id)) >= most:
        raise ConflictError(
            f"an account has at most {most} API keys; delete one first", code="too_many_keys", details={"limit": most}
        )
    values = {
        "id": secrets.token_hex(16),
        "account_id": account.id,
        "name": name,
        "token_hash": token_hash,
        "scopes": [scope.value for scope in Scope if scope in set(scopes)],
        "created_at": now,
        "expires_at": expires_at,
    }
    row = connection.execute(sa.insert(api_keys).values(values).returning(api_keys)).one()
    return _changed(connection, _key(row._mapping))


def by_id(connection: sa.Connection, key_id: str) -> ApiKey | None:
    row = connection.execute(sa.select(api_keys).where(api_keys.c.id == key_id)).first()
    return None if row is None else _key(row._mapping)


def of_account(connection: sa.Connection, account_id: int) -> list[ApiKey]:
    """Those that were not revoked, also the expired ones, the newest first."""
    query = (
        sa.select(api_keys)
        .where(api_keys.c.account_id == account_id, api_keys.c.revoked_at.is_(None))
        .order_by(api_keys.c.created_at.desc(), api_keys.c.id)
    )
    return [_key(row._mapping) for row in connection.execute(query)]


def all_live(connection: sa.Connection, now: datetime) -> list[ApiKey]:
    """Every account's."""
    expires = api_keys.c.expires_at
    query = sa.select(api_keys).where(api_keys.c.revoked_at.is_(None), sa.or_(expires.is_(None), expires > now))
    return [_key(row._mapping) for row in connection.execute(query)]


def revoke(connection: sa.Connection, account_id: int, key_id: str, now: datetime) -> ApiKey | None:
    """None where the account has no such key, or it was revoked already."""
    statement = (
        sa.update(api_keys)
        .where(api_keys.c.id == key_id, api_keys.c.account_id == account_id, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=now)
        .returning(api_keys)
    )
    row = connection.execute(statement).first()
    return None if row is None else _changed(connection, _key(row._mapping))


def revoke_all(connection: sa.Connection, account_id: int, now: datetime) -> list[str]:
    """Revokes the account's keys; returns their ids."""
    statement = (
        sa.update(api_keys)
        .where(api_keys.c.account_id == account_id, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=now)
        .returning(api_keys)
    )
    return [_changed(connection, _key(row._mapping)).id for row in connection.execute(statement)]


def record_uses(connection: sa.Connection, uses: Iterable[KeyUse]) -> None:
    """Of several processes' words on one key the latest counts; without an address the one before stays."""
    latest = sorted(uses, key=lambda use: use.key_id)
    used = (
        sa.func.unnest(
            sa.cast([use.key_id for use in latest], sa.ARRAY(sa.Text)),
            sa.cast([use.at for use in latest], sa.ARRAY(sa.DateTime(timezone=True))),
            sa.cast([use.address for use in latest], sa.ARRAY(sa.Text)),
        )
        .table_valued("id", "at", "address")
        .render_derived()
    )
    newer = sa.or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < used.c.at)
    connection.execute(
        sa.update(api_keys)
        .where(api_keys.c.id == used.c.id, newer)
        .values(
            last_used_at=used.c.at,
            last_used_address=sa.func.coalesce(sa.func.nullif(used.c.address, ""), api_keys.c.last_used_address),
        )
    )


def purge(connection: sa.Connection, before: datetime) -> int:
    """Forgets keys that expired, or were revoked, before then; returns how many."""
    gone = sa.or_(api_keys.c.expires_at < before, api_keys.c.revoked_at < before)
    return connection.execute(sa.delete(api_keys).where(gone)).rowcount


def _changed(connection: sa.Connection, key: ApiKey) -> ApiKey:
    notify(connection, API_KEYS, key.id)
    return key


def _key(row: Mapping[Any, Any]) -> ApiKey:
    # A scope that only a later release knows is none here.
    scopes = frozenset(_KNOWN[value] for value in row["scopes"] if value in _KNOWN)
    return ApiKey(**{**row, "scopes": scopes})
