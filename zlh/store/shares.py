"""Shares: what the owner of a container lets others do with it. Every function runs in the caller's transaction;
changes nudge the channel "shares" with the vmid.

A share is given to an e-mail address. It works once an account with that address, verified, is there: at once, or
when `bind` is called for that account.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from zlh.model.access import SHAREABLE, Permission
from zlh.model.accounts import Account
from zlh.model.errors import AbsentError, ConflictError, InvalidError
from zlh.model.names import comparison_key
from zlh.store.notify import SHARES, notify
from zlh.store.tables import accounts, containers, shares

MOST_SHARES: Final = 50
"""Of one container."""

_ADDRESS_LOCK: Final = 0x7A6C6873

# Account id -> what it was given at one container.
Held = dict[int, frozenset[Permission]]


@dataclass(frozen=True, slots=True)
class Share:
    """`given_by` is the user name of who made it."""

    id: str
    vmid: int
    email: str
    permissions: frozenset[Permission]
    given_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Received:
    """A share as the one sees it who was given it: the container's name and its owner's user name."""

    id: str
    vmid: int
    name: str
    owner: str
    permissions: frozenset[Permission]
    created_at: datetime


_FIELDS = (
    shares.c.id,
    shares.c.vmid,
    shares.c.email,
    shares.c.permissions,
    accounts.c.username.label("given_by"),
    shares.c.created_at,
)


def give(
    connection: sa.Connection,
    vmid: int,
    *,
    email: str,
    permissions: Collection[Permission],
    given_by: int,
    now: datetime,
) -> Share:
    """Does the same, and as much, whether an account with that address exists or not.

    Raises AbsentError where there is no container, InvalidError "own_address", ConflictError "already_shared" and
    "too_many_shares".
    """
    key = comparison_key(email)
    _refuse_own(connection, vmid, given_by, key)
    _hold(connection, vmid)
    _hold_address(connection, key)
    there = list(connection.execute(sa.select(shares.c.email_key).where(shares.c.vmid == vmid)).scalars())
    if key in there:
        raise ConflictError("the container is shared with this address already", code="already_shared")
    if len(there) >= MOST_SHARES:
        raise ConflictError(
            f"a container is shared with {MOST_SHARES} addresses at most",
            code="too_many_shares",
            details={"limit": MOST_SHARES},
        )
    verified = sa.select(accounts.c.id).where(accounts.c.email_key == key, accounts.c.email_verified_at.is_not(None))
    share_id = secrets.token_hex(8)
    values = {
        "id": share_id,
        "vmid": vmid,
        "email": email.strip(),
        "email_key": key,
        "account_id": verified.scalar_subquery(),
        "permissions": _written(permissions),
        "created_by": given_by,
        "created_at": now,
    }
    connection.execute(insert(shares).values(values))
    notify(connection, SHARES, str(vmid))
    return _get(connection, vmid, share_id)


def change(connection: sa.Connection, vmid: int, share_id: str, permissions: Collection[Permission]) -> Share:
    """Raises AbsentError where the container has no such share; so does `withdraw`."""
    _hold(connection, vmid)
    statement = sa.update(shares).where(shares.c.vmid == vmid, shares.c.id == share_id)
    connection.execute(statement.values(permissions=_written(permissions)))
    share = _get(connection, vmid, share_id)
    notify(connection, SHARES, str(vmid))
    return share


def withdraw(connection: sa.Connection, vmid: int, share_id: str) -> Share:
    """Returns what it was."""
    _hold(connection, vmid)
    share = _get(connection, vmid, share_id)
    _delete(connection, share.id, vmid)
    return share


def leave(connection: sa.Connection, account_id: int, share_id: str) -> int:
    """Gives back what one was given oneself; returns the vmid. Raises AbsentError."""
    mine = shares.c.id == share_id, shares.c.account_id == account_id
    vmid: int | None = connection.execute(sa.select(shares.c.vmid).where(*mine)).scalar()
    if vmid is None:
        raise _absent()
    _hold(connection, vmid)
    _delete(connection, share_id, vmid)
    return vmid


def bind(connection: sa.Connection, account: Account) -> list[int]:
    """Gives the account what waits for its address, which is verified from this transaction on; returns the vmids."""
    key = comparison_key(account.email)
    _hold_address(connection, key)
    of_others = sa.select(containers.c.vmid).where(containers.c.owner_id != account.id)
    statement = (
        sa.update(shares)
        .where(shares.c.email_key == key, shares.c.account_id.is_(None), shares.c.vmid.in_(of_others))
        .values(account_id=account.id)
        .returning(shares.c.vmid)
    )
    vmids = sorted(connection.execute(statement).scalars())
    for vmid in vmids:
        notify(connection, SHARES, str(vmid))
    return vmids


def of_container(connection: sa.Connection, vmid: int) -> list[Share]:
    """The oldest first."""
    query = _query().where(shares.c.vmid == vmid).order_by(shares.c.created_at, shares.c.id)
    return [_share(row._mapping) for row in connection.execute(query)]


def received(connection: sa.Connection, account_id: int) -> list[Received]:
    """What others share with the account, by vmid."""
    query = (
        sa.select(
            shares.c.id,
            shares.c.vmid,
            containers.c.name,
            accounts.c.username.label("owner"),
            shares.c.permissions,
            shares.c.created_at,
        )
        .join(containers, containers.c.vmid == shares.c.vmid)
        .join(accounts, accounts.c.id == containers.c.owner_id)
        .where(shares.c.account_id == account_id)
        .order_by(shares.c.vmid, shares.c.id)
    )
    return [_received(row._mapping) for row in connection.execute(query)]


def held(connection: sa.Connection, vmid: int) -> Held:
    """What each account may do at one container."""
    return _all_held(connection, shares.c.vmid == vmid).get(vmid, {})


def all_held(connection: sa.Connection) -> dict[int, Held]:
    """What each account may do, by vmid; containers that nobody shares are not in it."""
    return _all_held(connection, sa.true())


def _all_held(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> dict[int, Held]:
    query = sa.select(shares.c.vmid, shares.c.account_id, shares.c.permissions)
    found: dict[int, Held] = {}
    for vmid, account_id, permissions in connection.execute(query.where(condition, shares.c.account_id.is_not(None))):
        there = found.setdefault(vmid, {})
        # One account may have had two addresses that were given something.
        there[account_id] = there.get(account_id, frozenset()) | _read(permissions)
    return found


def _refuse_own(connection: sa.Connection, vmid: int, given_by: int, key: str) -> None:
    """Neither the owner nor who gives needs a share. Accounts are locked before containers, as everywhere."""
    owner = sa.select(containers.c.owner_id).where(containers.c.vmid == vmid).scalar_subquery()
    query = sa.select(accounts.c.email_key).where(sa.or_(accounts.c.id == given_by, accounts.c.id == owner))
    own = connection.execute(query.order_by(accounts.c.id).with_for_update(read=True, key_share=True)).scalars()
    if key in list(own):
        problem = {"field": "email", "problem": "this is the address of an account that may do everything already"}
        raise InvalidError(
            "the container cannot be shared with its owner or with oneself", code="own_address", details=[problem]
        )


def _hold(connection: sa.Connection, vmid: int) -> None:
    """Those who change a container's shares do so one after the other. Raises AbsentError."""
    query = sa.select(containers.c.vmid).where(containers.c.vmid == vmid).with_for_update(key_share=True)
    if connection.execute(query).first() is None:
        raise AbsentError("there is no such server")


def _hold_address(connection: sa.Connection, key: str) -> None:
    """Without it a share and the verification of its address, at the same moment, could each miss the other."""
    number = sa.func.hashtext(key)
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADDRESS_LOCK, number)))


def _delete(connection: sa.Connection, share_id: str, vmid: int) -> None:
    connection.execute(sa.delete(shares).where(shares.c.id == share_id))
    notify(connection, SHARES, str(vmid))


def _query() -> sa.Select[Any]:
    return sa.select(*_FIELDS).join(accounts, accounts.c.id == shares.c.created_by)


def _get(connection: sa.Connection, vmid: int, share_id: str) -> Share:
    row = connection.execute(_query().where(shares.c.vmid == vmid, shares.c.id == share_id)).first()
    if row is None:
        raise _absent()
    return _share(row._mapping)


def _absent() -> AbsentError:
    return AbsentError("there is no such share")


def _share(row: Mapping[Any, Any]) -> Share:
    return Share(**{**row, "permissions": _read(row["permissions"])})


def _received(row: Mapping[Any, Any]) -> Received:
    return Received(**{**row, "permissions": _read(row["permissions"])})


def _read(permissions: Iterable[str]) -> frozenset[Permission]:
    return frozenset(Permission(permission) for permission in permissions)


def _written(permissions: Collection[Permission]) -> list[str]:
    """In one order, whatever the one was that they were named in."""
    return [permission.value for permission in SHAREABLE if permission in permissions]
