"""The keys that sign access tokens: one signs, those before it still verify until nothing they signed is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from zlh.store.tables import signing_keys
from zlh.store.vault import Vault

_LOCK: Final = 0x7A6B6579


# Makes a fresh key: (kid, private key as PEM, public key as PEM).
MakeKey = Callable[[], tuple[str, bytes, str]]


@dataclass(frozen=True, slots=True)
class SigningKey:
    kid: str
    private_pem: bytes = field(repr=False)
    public_pem: str
    created_at: datetime
    signs_at: datetime
    retired_at: datetime | None = None


def ensure_signing_key(connection: sa.Connection, vault: Vault, make: MakeKey, now: datetime) -> SigningKey:
    """The key that signs, made by `make` where there is none. Two processes that start at once get the same one."""
    _lock(connection)
    for key in all_keys(connection, vault):
        if key.retired_at is None:
            return key
    return _add(connection, vault, *make(), now)


def replace_signing_key(connection: sa.Connection, vault: Vault, make: MakeKey, now: datetime) -> SigningKey:
    """Retires the key that signs (it still verifies) and puts a new one in its place."""
    _lock(connection)
    connection.execute(sa.update(signing_keys).where(signing_keys.c.retired_at.is_(None)).values(retired_at=now))
    return _add(connection, vault, *make(), now)


def all_keys(connection: sa.Connection, vault: Vault) -> list[SigningKey]:
    """The newest first; those with `retired_at` only verify."""
    query = sa.select(signing_keys).order_by(signing_keys.c.created_at.desc(), signing_keys.c.kid)
    return [_key(row._mapping, vault) for row in connection.execute(query)]


def forget_retired(connection: sa.Connection, before: datetime) -> int:
    """Deletes keys that were retired before then; returns how many."""
    return connection.execute(sa.delete(signing_keys).where(signing_keys.c.retired_at < before)).rowcount


def _lock(connection: sa.Connection) -> None:
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))


def _add(
    connection: sa.Connection, vault: Vault, kid: str, private_pem: bytes, public_pem: str, now: datetime
) -> SigningKey:
    values = {
        "kid": kid,
        "private_pem": vault.seal(private_pem.decode()),
        "public_pem": public_pem,
        "created_at": now,
        "signs_at": now,
    }
    row = connection.execute(sa.insert(signing_keys).values(values).returning(signing_keys)).one()
    return _key(row._mapping, vault)


def _key(row: Mapping[Any, Any], vault: Vault) -> SigningKey:
    return SigningKey(**{**row, "private_pem": vault.open(row["private_pem"]).encode()})
