"""What operators do to the accounts of others, by the API or on the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import sqlalchemy as sa

from zlh.accounts import letters
from zlh.accounts.access import AccessTable
from zlh.accounts.notices import Notices
from zlh.accounts.password_rules import password_problem
from zlh.accounts.passwords import Passwords
from zlh.model.accounts import Account, Role
from zlh.model.errors import AbsentError, ConflictError, ForbiddenError, InvalidError
from zlh.store import accounts as rows
from zlh.store import mail_links, second_factors, sessions
from zlh.store.database import Database

# Called in the transaction that changes an account, with the account as it is then: what it writes leaves with it.
Also = Callable[[sa.Connection, Account], None]


def _nothing_else(_connection: sa.Connection, _account: Account) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Overseer:
    """Who asks. `account_id` is None at the command line, where everything is allowed; only there can `force` do to
    the last administrator what would leave nobody."""

    role: Role
    account_id: int | None = None
    force: bool = False
    also: Also = field(default=_nothing_else)


@dataclass(frozen=True, slots=True)
class _Done:
    """An account after its change, and the sessions that ended with it."""

    account: Account
    ended: tuple[str, ...] = ()


class Oversight:
    """Every change raises AbsentError for an unknown account, ForbiddenError where an operator would change another
    operator or an administrator, and ConflictError: "own_account", or "last_admin" where nobody would be left who may
    do everything. They hold from the moment that they return, on open connections too, and within a second in other
    processes. People are told in letters. Everything may raise StoreUnavailable."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        access: AccessTable,
        notices: Notices,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._access = access
        self._notices = notices
        self._now = now

    async def find(self, word: str) -> Account:
        """By id, e-mail address or user name. Raises AbsentError; InvalidError where digits are one account's id and
        another's user name."""
        named = await self._database.run(rows.by_identifier, word)
        numbered = None
        if word.isascii() and word.isdigit() and len(word) <= 18:
            numbered = await self._database.run(rows.by_id, int(word))
        if named is not None and numbered is not None and named.id != numbered.id:
            raise InvalidError(f"{word} is one account's id and another's user name: use an e-mail address")
        found = named or numbered
        if found is None:
            raise AbsentError(f"there is no account {word!r}")
        return found

    async def search(
        self, *, words: str = "", role: Role | None = None, before: int | None = None, limit: int | None = None
    ) -> list[Account]:
        """As `zlh.store.accounts.search`."""
        return await self._database.run(rows.search, words=words, role=role, before=before, limit=limit)

    async def look(self, account_id: int) -> tuple[Account, int]:
        """An account and how many sessions of it are alive. Raises AbsentError."""

        def read(connection: sa.Connection) -> tuple[Account, int]:
            account = rows.by_id(connection, account_id)
            if account is None:
                raise AbsentError("there is no such account")
            return account, len(sessions.active(connection, account_id, self._now()))

        return await self._database.run(read)

    async def suspend(self, overseer: Overseer, account_id: int) -> Account:
        """It may look at itself and what it has and fetch its data, no more, and its containers are switched off."""

        def write(connection: sa.Connection, present: Account) -> _Done:
            ended = sessions.revoke_acting(connection, present.id, self._now())
            return _Done(rows.suspend(connection, present.id, self._now()), tuple(ended))

        return (await self._change(overseer, account_id, write, leaves=True)).account

    async def unsuspend(self, overseer: Overseer, account_id: int) -> Account:
        """What billing imposed stays."""
        return (await self._change(overseer, account_id, _only(rows.unsuspend))).account

    async def disable(self, overseer: Overseer, account_id: int) -> Account:
        """It may not even sign in, everything that it had open ends, and links that it was sent are void for good."""

        def write(connection: sa.Connection, present: Account) -> _Done:
            ended = self._end_all(connection, present, because="the account was disabled")
            mail_links.withdraw(connection, present.id)
            return _Done(rows.disable(connection, present.id, self._now()), ended)

        return (await self._change(overseer, account_id, write, leaves=True)).account

    async def enable(self, overseer: Overseer, account_id: int) -> Account:
        return (await self._change(overseer, account_id, _only(rows.enable))).account

    async def set_role(self, overseer: Overseer, account_id: int, role: Role) -> Account:
        """Its sign-ins stay, with the new role. Only administrators may."""
        if overseer.role is not Role.ADMIN:
            raise ForbiddenError("this is for administrators")

        def write(connection: sa.Connection, present: Account) -> _Done:
            # An operator acts in customers' places, and nobody in an operator's.
            ended = () if role is present.role else sessions.revoke_acting(connection, present.id, self._now())
            return _Done(rows.set_role(connection, present.id, role), tuple(ended))

        return (await self._change(overseer, account_id, write, leaves=role is not Role.ADMIN)).account

    async def sign_out(self, overseer: Overseer, account_id: int) -> int:
        """Ends every session; how many there were. API keys stay."""

        def write(connection: sa.Connection, present: Account) -> _Done:
            return _Done(present, self._end_all(connection, present, because="signed out by an operator"))

        return len((await self._change(overseer, account_id, write)).ended)

    async def reset_password(self, overseer: Overseer, account_id: int, password: str) -> Account:
        """Ends every session, and makes the links useless that were sent before. Raises InvalidError for a password
        that is not good enough."""
        account, _ = await self.look(account_id)
        problem = password_problem(password, email=account.email, username=account.username)
        if problem is not None:
            raise InvalidError(problem)
        password_hash = await self._passwords.hash(password)

        def write(connection: sa.Connection, present: Account) -> _Done:
            ended = self._end_all(connection, present, because="the password was reset")
            mail_links.withdraw(connection, present.id, but_verifying=present.email)
            self._notices.post(connection, present, letters.password_changed(present, self._now(), ""))
            return _Done(rows.set_password_hash(connection, present.id, password_hash), ended)

        return (await self._change(overseer, account_id, write)).account

    async def reset_second_factor(self, overseer: Overseer, account_id: int) -> Account:
        """For those who lost the device and the recovery codes; ends every session. Raises ConflictError
        "no_second_factor"."""

        def write(connection: sa.Connection, present: Account) -> _Done:
            if present.second_factor_at is None:
                raise ConflictError("the account has no second factor", code="no_second_factor")
            ended = self._end_all(connection, present, because="the second factor was reset")
            self._notices.post(connection, present, letters.second_factor_disabled(present, self._now(), ""))
            return _Done(second_factors.switch_off(connection, present.id), ended)

        return (await self._change(overseer, account_id, write)).account

    def _end_all(self, connection: sa.Connection, account: Account, *, because: str) -> tuple[str, ...]:
        return tuple(sessions.revoke_all(connection, account.id, self._now(), because=because))

    async def _change(
        self,
        overseer: Overseer,
        account_id: int,
        write: Callable[[sa.Connection, Account], _Done],
        *,
        leaves: bool = False,
    ) -> _Done:
        """`leaves`: an administrator is none afterwards, or of no use."""
        done = await self._database.run(partial(_carry_out, overseer, account_id, write, leaves))
        self._access.account_changed(done.account)
        for session_id in done.ended:
            self._access.session_revoked(session_id)
        return done


def _carry_out(
    overseer: Overseer,
    account_id: int,
    write: Callable[[sa.Connection, Account], _Done],
    leaves: bool,
    connection: sa.Connection,
) -> _Done:
    # Before the account itself is held: all take these two in the same order, so that nobody waits in a circle.
    others = rows.other_admins(connection, account_id) if leaves else 0
    present = rows.lock(connection, account_id)
    if overseer.account_id == account_id:
        raise ConflictError("this is your own account", code="own_account")
    if present.role.sees_all and overseer.role is not Role.ADMIN:
        raise ForbiddenError("only administrators change operators and administrators")
    if leaves and present.role is Role.ADMIN and others == 0 and not overseer.force:
        raise ConflictError("this is the last administrator: make another one first", code="last_admin")
    done = write(connection, present)
    overseer.also(connection, done.account)
    return done


def _only(change: Callable[[sa.Connection, int], Account]) -> Callable[[sa.Connection, Account], _Done]:
    return lambda connection, present: _Done(change(connection, present.id))
