"""Second factors: the secret that a person's app shares with us, sealed, and the hashes of recovery codes.

Whether a second factor counts is the account's `second_factor_at`; before that it waits for its first code. Every
function runs in the caller's transaction, which holds the account (`accounts.lock`) where it changes something.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from zlh.model.accounts import Account
from zlh.store import accounts
from zlh.store.tables import recovery_codes, second_factors
from zlh.store.vault import vault_of


def put(connection: sa.Connection, account_id: int, secret: str, now: datetime) -> None:
    """In place of what was there before."""
    values = {"secret": vault_of(connection).seal(secret), "last_step": None, "created_at": now}
    statement = insert(second_factors).values(account_id=account_id, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["account_id"], set_=values))


def secret_of(connection: sa.Connection, account_id: int) -> str | None:
    sealed = connection.execute(
        sa.select(second_factors.c.secret).where(second_factors.c.account_id == account_id)
    ).scalar()
    return None if sealed is None else vault_of(connection).open(sealed)


def use_step(connection: sa.Connection, account_id: int, step: int) -> bool:
    """Spends the code of one time step and of all before; false where it was spent. Of two at once, one wins."""
    statement = (
        sa.update(second_factors)
        .where(
            second_factors.c.account_id == account_id,
            sa.or_(second_factors.c.last_step.is_(None), second_factors.c.last_step < step),
        )
        .values(last_step=step)
    )
    return connection.execute(statement).rowcount == 1


def put_codes(connection: sa.Connection, account_id: int, hashes: Iterable[str]) -> None:
    """In place of those before, used or not."""
    connection.execute(sa.delete(recovery_codes).where(recovery_codes.c.account_id == account_id))
    rows = [{"account_id": account_id, "code_hash": code_hash} for code_hash in hashes]
    connection.execute(sa.insert(recovery_codes), rows)


def use_code(connection: sa.Connection, account_id: int, code_hash: str, now: datetime) -> bool:
    """Spends a recovery code; false where there is none such, or it was spent."""
    statement = (
        sa.update(recovery_codes)
        .where(
            recovery_codes.c.account_id == account_id,
            recovery_codes.c.code_hash == code_hash,
            recovery_codes.c.used_at.is_(None),
        )
        .values(used_at=now)
    )
    return connection.execute(statement).rowcount == 1


def codes_left(connection: sa.Connection, account_id: int) -> int:
    query = (
        sa.select(sa.func.count())
        .select_from(recovery_codes)
        .where(recovery_codes.c.account_id == account_id, recovery_codes.c.used_at.is_(None))
    )
    return connection.execute(query).scalar_one()


def switch_off(connection: sa.Connection, account_id: int) -> Account:
    """Forgets secret and recovery codes; the password alone is enough from now on. Raises AbsentError."""
    for table in (recovery_codes, second_factors):
        connection.execute(sa.delete(table).where(table.c.account_id == account_id))
    return accounts.set_second_factor(connection, account_id, None)
