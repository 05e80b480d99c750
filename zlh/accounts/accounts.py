"""Accounts themselves: made, named, and known to the access table."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import sqlalchemy as sa

from zlh.accounts.access import AccessTable
from zlh.accounts.following import follow
from zlh.accounts.passwords import Passwords
from zlh.model.accounts import Account, Role
from zlh.model.errors import AbsentError
from zlh.store import accounts as rows
from zlh.store.database import Database
from zlh.store.notify import ACCOUNTS


class Accounts:
    """Changes accounts in the store, then tells the access table. Everything may raise StoreUnavailable."""

    def __init__(
        self, database: Database, passwords: Passwords, access: AccessTable, *, now: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._access = access
        self._now = now

    async def load(self) -> None:
        """Tells the access table of every account; once, at start."""
        self._access.load(await self._database.run(rows.all_accounts), [])

    async def follow(self) -> None:
        """Hears of accounts that another process made or changed; runs until cancelled."""

        async def look(account_id: str) -> None:
            account = await self._database.run(rows.by_id, int(account_id))
            if account is not None:
                self._access.account_changed(account)

        await follow(self._database, ACCOUNTS, self.load, look)

    async def create(
        self,
        *,
        email: str,
        username: str,
        password: str,
        role: Role,
        plan: str | None,
        also: Callable[[sa.Connection, Account], None] | None = None,
    ) -> Account:
        """An account made by an operator or the program itself, which know its address. `also` is called in the
        transaction that makes it. Raises ConflictError "taken"."""
        password_hash = await self._passwords.hash(password)
        now = self._now()

        def write(connection: sa.Connection) -> Account:
            account = rows.create(
                connection,
                email=email,
                username=username,
                password_hash=password_hash,
                now=now,
                role=role,
                plan=plan,
                email_verified_at=now,
            )
            if also is not None:
                also(connection, account)
            return account

        account = await self._database.run(write)
        self._access.account_changed(account)
        return account

    async def account(self, account_id: int) -> Account:
        """Raises AbsentError."""
        account = await self._database.run(rows.by_id, account_id)
        if account is None:
            raise AbsentError("there is no such account")
        return account

    async def rename(
        self, account_id: int, *, display_name: str | None, first_name: str | None, last_name: str | None
    ) -> Account:
        """Changes those that are not None."""

        def write(connection: sa.Connection) -> Account:
            present = rows.lock(connection, account_id)
            return rows.set_names(
                connection,
                account_id,
                display_name=present.display_name if display_name is None else display_name,
                first_name=present.first_name if first_name is None else first_name,
                last_name=present.last_name if last_name is None else last_name,
            )

        return await self._database.run(write)
