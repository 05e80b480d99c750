"""Registering, signing in and out, and one's own account: what the routes of /api/auth call."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from zlh.accounts.access import AccessTable
from zlh.accounts.attempts import Attempts, address_key
from zlh.accounts.following import follow
from zlh.accounts.passwords import Passwords
from zlh.accounts.rules import Rules
from zlh.accounts.tokens import Tokens
from zlh.model.accounts import Account, Principal, Role
from zlh.model.errors import AbsentError, ForbiddenError, UnauthenticatedError
from zlh.model.names import comparison_key
from zlh.store import accounts as rows
from zlh.store import sessions
from zlh.store.database import Database
from zlh.store.notify import ACCOUNTS, SESSIONS
from zlh.store.sessions import Refused, Reused, Session


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What a sign-in gives. `expires_in` is the access token's life in seconds."""

    account: Account
    token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int


def _now() -> datetime:
    return datetime.now(UTC)


class Accounts:
    """Changes accounts and sessions in the store, then tells the access table. Everything may raise
    StoreUnavailable."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        tokens: Tokens,
        access: AccessTable,
        rules: Rules,
        *,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._tokens = tokens
        self._access = access
        self._rules = rules
        self._now = now
        self._per_account = Attempts(rules.attempts_per_account, rules.attempts_seconds)
        self._per_address = Attempts(rules.attempts_per_address, rules.attempts_seconds)

    async def load(self) -> None:
        """Fills the access table; once, at start."""
        since = self._now() - timedelta(seconds=self._tokens.lifetime_seconds + 60)

        def read(connection: sa.Connection) -> tuple[list[Account], list[str]]:
            return rows.all_accounts(connection), sessions.revoked_since(connection, since)

        self._access.load(*await self._database.run(read))

    async def follow_accounts(self) -> None:
        """Hears of accounts that another process made or changed; runs until cancelled."""

        async def look(account_id: str) -> None:
            account = await self._database.run(rows.by_id, int(account_id))
            if account is not None:
                self._access.account_changed(account)

        await follow(self._database, ACCOUNTS, self.load, look)

    async def follow_sessions(self) -> None:
        """Hears of sessions that another process revoked; runs until cancelled."""

        async def look(session_id: str) -> None:
            self._access.session_revoked(session_id)

        await follow(self._database, SESSIONS, self.load, look)

    async def register(
        self,
        *,
        email: str,
        username: str,
        password: str,
        display_name: str = "",
        first_name: str = "",
        last_name: str = "",
        address: str = "",
        agent: str = "",
    ) -> SignedIn:
        """Raises ForbiddenError where registration is off, ConflictError "taken", TooManyError."""
        if not self._rules.registration:
            raise ForbiddenError("registration is closed", code="registration_closed")
        self._per_address.take(address_key(address))
        password_hash = await self._passwords.hash(password)
        refresh_token = _refresh_token()

        def write(connection: sa.Connection) -> tuple[Account, Session]:
            account = rows.create(
                connection,
                email=email,
                username=username,
                password_hash=password_hash,
                now=self._now(),
                plan=self._rules.default_plan,
                display_name=display_name,
                first_name=first_name,
                last_name=last_name,
            )
            return account, self._open(connection, account.id, refresh_token, address, agent)

        account, session = await self._database.run(write)
        return self._signed_in(account, session.id, refresh_token)

    async def create(self, *, email: str, username: str, password: str, role: Role, plan: str | None) -> Account:
        """An account made by an operator or the program itself. Raises ConflictError "taken"."""
        password_hash = await self._passwords.hash(password)
        account = await self._database.run(
            rows.create,
            email=email,
            username=username,
            password_hash=password_hash,
            now=self._now(),
            role=role,
            plan=plan,
        )
        self._access.account_changed(account)
        return account

    async def login(self, *, identifier: str, password: str, address: str = "", agent: str = "") -> SignedIn:
        """`identifier` is an e-mail address or a user name. Raises UnauthenticatedError, which costs and says the
        same for an unknown user as for a wrong password, and TooManyError before anything costs."""
        household, person = address_key(address), comparison_key(identifier)
        self._per_address.take(household)
        self._per_account.take(person)
        account = await self._database.run(rows.by_identifier, identifier)
        if not await self._passwords.verify(account.password_hash if account else None, password) or account is None:
            raise UnauthenticatedError("the user name or the password is wrong", code="wrong_credentials")
        self._per_address.give_back(household)
        self._per_account.give_back(person)
        if self._passwords.outdated(account.password_hash):
            renewed = await self._passwords.hash(password)
            account = await self._database.run(rows.set_password_hash, account.id, renewed)
        refresh_token = _refresh_token()
        session = await self._database.run(self._open, account.id, refresh_token, address, agent)
        return self._signed_in(account, session.id, refresh_token)

    async def refresh(self, refresh_token: str, *, address: str = "") -> SignedIn:
        """The next pair of tokens. Raises UnauthenticatedError; an old refresh token ends its whole session."""
        household = address_key(address)
        self._per_address.take(household)
        successor = _refresh_token()
        now = self._now()

        def write(connection: sa.Connection) -> tuple[sessions.Rotation, Account | None]:
            rotation = sessions.rotate(
                connection, _hash(refresh_token), _hash(successor), now=now, expires_at=self._expiry(now)
            )
            owner = None if isinstance(rotation, Refused) else rows.by_id(connection, rotation.session.account_id)
            return rotation, owner

        rotation, account = await self._database.run(write)
        if isinstance(rotation, Reused):
            self._access.session_revoked(rotation.session.id)
        if isinstance(rotation, Reused | Refused) or account is None:
            raise UnauthenticatedError("the sign-in has ended", code="signed_out")
        self._per_address.give_back(household)
        return self._signed_in(account, rotation.session.id, successor)

    async def logout(self, principal: Principal) -> None:
        """Ends the session; signing out twice is no error."""
        await self._database.run(sessions.revoke, principal.session_id, self._now())
        self._access.session_revoked(principal.session_id)

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

    async def suspend(self, account_id: int) -> Account:
        """Takes effect on open connections at once. Raises AbsentError, as does `unsuspend`."""
        account = await self._database.run(rows.suspend, account_id, self._now())
        self._access.account_changed(account)
        return account

    async def unsuspend(self, account_id: int) -> Account:
        account = await self._database.run(rows.unsuspend, account_id)
        self._access.account_changed(account)
        return account

    def _open(
        self, connection: sa.Connection, account_id: int, refresh_token: str, address: str, agent: str
    ) -> Session:
        now = self._now()
        return sessions.open_session(
            connection,
            account_id,
            _hash(refresh_token),
            now=now,
            expires_at=self._expiry(now),
            address=address[:64],
            agent=agent[:200],
        )

    def _expiry(self, now: datetime) -> datetime:
        return now + timedelta(days=self._rules.refresh_token_days)

    def _signed_in(self, account: Account, session_id: str, refresh_token: str) -> SignedIn:
        self._access.account_changed(account)
        token = self._tokens.issue(account.id, session_id)
        return SignedIn(account, token, refresh_token, int(self._tokens.lifetime_seconds))


def _refresh_token() -> str:
    return secrets.token_urlsafe(32)


def _hash(refresh_token: str) -> str:
    """A plain hash will do: the token has 256 random bits, there is nothing to guess."""
    return hashlib.sha256(refresh_token.encode("utf-8", "surrogatepass")).hexdigest()
