"""The keys that sign tokens. What each of them does when follows from these rows alone: `zlh.accounts.key_life`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from zlh.store.notify import SIGNING_KEYS, notify
from zlh.store.tables import signing_keys
from zlh.store.vault import Vault

_LOCK: Final = 0x7A6B6579


@dataclass(frozen=True, slots=True)
class SigningKey:
    """`signs_at` is when it begins to sign, `withdrawn_at` since when nothing that it signed is good any more."""

    kid: str
    private_pem: bytes = field(repr=False)
    public_pem: str
    created_at: datetime
    signs_at: datetime
    withdrawn_at: datetime | None = None


def lock(connection: sa.Connection) -> None:
    """Until the transaction ends nobody else decides about keys."""
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))


def all_keys(connection: sa.Connection, vault: Vault) -> list[SigningKey]:
    """The one that signs last comes first. Raises VaultError."""
    query = sa.select(signing_keys).order_by(signing_keys.c.signs_at.desc(), signing_keys.c.kid.desc())
    return [_key(row._mapping, vault) for row in connection.execute(query)]


def add(connection: sa.Connection, vault: Vault, key: SigningKey) -> None:
    """The private part is sealed. Says so on the channel "signing_keys"; so does `withdraw_all`."""
    values = {
        "kid": key.kid,
        "private_pem": vault.seal(key.private_pem.decode()),
        "public_pem": key.public_pem,
        "created_at": key.created_at,
        "signs_at": key.signs_at,
    }
    connection.execute(sa.insert(signing_keys).values(values))
    notify(connection, SIGNING_KEYS, key.kid)


def withdraw_all(connection: sa.Connection, now: datetime) -> list[str]:
    """Nothing that was signed so far is good any more. Returns the kids."""
    statement = (
        sa.update(signing_keys)
        .where(signing_keys.c.withdrawn_at.is_(None))
        .values(withdrawn_at=now)
        .returning(signing_keys.c.kid)
    )
    kids = list(connection.execute(statement).scalars())
    for kid in kids:
        notify(connection, SIGNING_KEYS, kid)
    return kids


def forget_replaced(connection: sa.Connection, before: datetime) -> int:
    """Deletes the keys that another one took over from, or that were withdrawn, before then; returns how many."""
    newer = signing_keys.alias("newer")
    replaced = sa.exists().where(
        newer.c.withdrawn_at.is_(None), newer.c.signs_at > signing_keys.c.signs_at, newer.c.signs_at < before
    )
    gone = sa.or_(signing_keys.c.withdrawn_at < before, replaced)
    return connection.execute(sa.delete(signing_keys).where(gone)).rowcount


def _key(row: Mapping[Any, Any], vault: Vault) -> SigningKey:
    return SigningKey(**{**row, "private_pem": vault.open(row["private_pem"]).encode()})
