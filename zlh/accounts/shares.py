"""Sharing a container: giving, changing, withdrawing and leaving, in the store and in the access table at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from typing import TypeVar

import sqlalchemy as sa
import trio

from zlh.accounts import letters
from zlh.accounts.access import AccessTable
from zlh.accounts.attempts import Attempts
from zlh.accounts.following import follow
from zlh.model.access import Permission, told, with_implied
from zlh.model.accounts import Principal
from zlh.model.names import comparison_key
from zlh.store import accounts, containers
from zlh.store import shares as rows
from zlh.store.database import Database
from zlh.store.notify import SHARES
from zlh.store.outbox import post
from zlh.store.shares import Received, Share

T = TypeVar("T")

GIVEN_PER_HOUR = 100
GIVEN_TO_ONE_ADDRESS_PER_HOUR = 10
"""Every share sends a letter: nobody's mailbox is to be filled with them."""


def _now() -> datetime:
    return datetime.now(UTC)


class Shares:
    """What is changed here holds in this process when the call returns, in others a moment later. `portal_url` is
    where the one who was given something signs in; None where no letters are sent. Everything may raise
    StoreUnavailable."""

    def __init__(
        self, database: Database, access: AccessTable, *, portal_url: str | None, now: Callable[[], datetime] = _now
    ) -> None:
        self._database = database
        self._access = access
        self._portal_url = portal_url
        self._now = now
        self._given = Attempts(GIVEN_PER_HOUR, 3600.0)
        self._given_to_one = Attempts(GIVEN_TO_ONE_ADDRESS_PER_HOUR, 3600.0)
        # What is read later is told later: two changes at the same moment leave the table as the store is.
        self._turn = trio.Lock()

    async def load(self) -> None:
        """Fills the access table: at start, and whenever something may have been missed."""
        async with self._turn:
            present = await self._database.run(rows.all_held)
            for vmid in self._access.shared.vmids() | present.keys():
                self._access.shares_changed(vmid, present.get(vmid, {}))

    async def follow(self) -> None:
        """Hears of what was changed elsewhere, and of containers that are gone; runs until cancelled."""

        async def look(vmid: str) -> None:
            await self.look_again([int(vmid)])

        await follow(self._database, SHARES, self.load, look)

    async def look_again(self, vmids: Iterable[int]) -> None:
        """The shares of these containers are different now."""
        for vmid in vmids:
            await self._changing(vmid, lambda connection: None)

    async def of_container(self, vmid: int) -> list[Share]:
        """The oldest first."""
        return await self._database.run(rows.of_container, vmid)

    async def received(self, account_id: int) -> list[Received]:
        """What others share with the account."""
        return await self._database.run(rows.received, account_id)

    async def give(self, principal: Principal, vmid: int, email: str, permissions: Collection[Permission]) -> Share:
        """Says and does the same whether an account with that address exists or not; a letter goes there.

        Raises AbsentError, InvalidError "own_address", ConflictError "already_shared" and "too_many_shares",
        TooManyError.
        """
        self._given.take(str(principal.actor_id))
        self._given_to_one.take(f"{principal.actor_id} {comparison_key(email)}")
        now = self._now()

        def write(connection: sa.Connection) -> Share:
            share = rows.give(
                connection, vmid, email=email, permissions=permissions, given_by=principal.account_id, now=now
            )
            if self._portal_url is not None:
                _tell(connection, share, now, principal.account_id, self._portal_url)
            return share

        return await self._changing(vmid, write)

    async def change(self, vmid: int, share_id: str, permissions: Collection[Permission]) -> Share:
        """Raises AbsentError where the container has no such share; so does `withdraw`."""
        return await self._changing(vmid, lambda connection: rows.change(connection, vmid, share_id, permissions))

    async def withdraw(self, vmid: int, share_id: str) -> Share:
        """Returns what it was."""
        return await self._changing(vmid, lambda connection: rows.withdraw(connection, vmid, share_id))

    async def leave(self, account_id: int, share_id: str) -> int:
        """Gives back what the account was given; returns the vmid. Raises AbsentError."""
        async with self._turn:
            vmid, held = await self._database.run(_left, account_id, share_id)
            self._access.shares_changed(vmid, held)
            return vmid

    async def _changing(self, vmid: int, work: Callable[[sa.Connection], T]) -> T:
        """Does the work and tells the access table what it led to."""

        def write(connection: sa.Connection) -> tuple[T, rows.Held]:
            return work(connection), rows.held(connection, vmid)

        async with self._turn:
            result, held = await self._database.run(write)
            self._access.shares_changed(vmid, held)
            return result


def _tell(connection: sa.Connection, share: Share, now: datetime, sharer_id: int, portal_url: str) -> None:
    sharer, container = accounts.by_id(connection, sharer_id), containers.get(connection, share.vmid)
    # The share refers to both, so both are there.
    assert sharer is not None
    assert container is not None
    may = told(with_implied(share.permissions))
    post(connection, letters.share_received(share.email, sharer, portal_url, container.name, may), now)


def _left(connection: sa.Connection, account_id: int, share_id: str) -> tuple[int, rows.Held]:
    vmid = rows.leave(connection, account_id, share_id)
    return vmid, rows.held(connection, vmid)
