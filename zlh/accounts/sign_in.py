"""Registering, signing in, and the next pair of tokens."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from zlh.accounts import letters
from zlh.accounts.access import AccessTable
from zlh.accounts.agents import agent_family
from zlh.accounts.attempts import address_key
from zlh.accounts.links import send_verification
from zlh.accounts.notices import Notices
from zlh.accounts.password_rules import require_good_password
from zlh.accounts.passwords import Passwords
from zlh.accounts.proof import Claim, PasswordProof
from zlh.accounts.rules import Rules
from zlh.accounts.second_factor import SecondFactor
from zlh.accounts.tokens import Tokens
from zlh.model.accounts import Account
from zlh.model.errors import ForbiddenError, UnauthenticatedError
from zlh.store import accounts as rows
from zlh.store import sessions
from zlh.store.database import Database
from zlh.store.sessions import Refused, Reused, Session

ENDED: Final = "the sign-in has ended"


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What a sign-in gives. `expires_in` is the access token's life in seconds."""

    account: Account
    session_id: str
    token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int


class ReusedError(UnauthenticatedError):
    """A refresh token came back that was spent long ago. Whoever sent it hears what every ended sign-in hears."""


@dataclass(frozen=True, slots=True)
class Visit:
    """From where somebody signs in, and with what program."""

    address: str = ""
    agent: str = ""


class SignIn:
    """Opens sessions and goes on with them. Everything may raise StoreUnavailable."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        proof: PasswordProof,
        second_factor: SecondFactor,
        tokens: Tokens,
        access: AccessTable,
        notices: Notices,
        rules: Rules,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._proof = proof
        self._second_factor = second_factor
        self._tokens = tokens
        self._access = access
        self._notices = notices
        self._rules = rules
        self._now = now

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
        """Raises ForbiddenError where registration is off, InvalidError for a password that will not do,
        ConflictError "taken", TooManyError."""
        if not self._rules.registration:
            raise ForbiddenError("registration is closed", code="registration_closed")
        require_good_password(password, email=email, username=username)
        self._proof.limits.take_address(address)
        password_hash = await self._passwords.hash(password)
        refresh_token = _refresh_token()

        def write(connection: sa.Connection) -> tuple[Account, Session]:
            now = self._now()
            account = rows.create(
                connection,
                email=email,
                username=username,
                password_hash=password_hash,
                now=now,
                plan=self._rules.default_plan,
                display_name=display_name,
                first_name=first_name,
                last_name=last_name,
                email_verified_at=None if self._rules.mail else now,
            )
            if self._rules.mail:
                send_verification(connection, account, self._rules.portal_url, now)
            return account, self._open(connection, account.id, refresh_token, Visit(address, agent))

        account, session = await self._database.run(write)
        return self._signed_in(account, session.id, refresh_token)

    async def login(
        self, *, identifier: str, password: str, totp: str | None = None, address: str = "", agent: str = ""
    ) -> SignedIn:
        """`identifier` is an e-mail address or a user name, `totp` a code of the second factor or a recovery code.

        Raises UnauthenticatedError "wrong_credentials", which costs and says the same for an unknown user as for a
        wrong password, then, only where the password was right, "totp_required" and "wrong_totp"; TooManyError before
        anything costs.
        """
        claim = await self._proof.claim(identifier, address)
        account = await self._proof.proven(claim, password)
        if account.second_factor_at is not None:
            if not totp:
                self._proof.good(claim)
                raise UnauthenticatedError(
                    "a code of your second factor is needed", code="totp_required", subject_id=account.id
                )
            self._second_factor.take(account.id, totp)
        refresh_token = _refresh_token()
        visit = Visit(address, agent)
        while True:
            renewed = await self._renewed(account, password)
            entered = await self._database.run(self._enter, account, renewed, totp, refresh_token, visit)
            if isinstance(entered, Entered):
                break
            # Its password, or what the hash is made with, changed while it was verified: once more, with that one.
            account = await self._proof.proven(Claim(entered, address, claim.key), password)
        self._proof.good(claim)
        if totp:
            self._second_factor.give_back(account.id, totp)
        return self._signed_in(entered.account, entered.session.id, refresh_token)

    async def refresh(self, refresh_token: str, *, address: str = "") -> SignedIn:
        """The next pair of tokens. Raises UnauthenticatedError; an old refresh token ends its whole session."""
        self._proof.limits.take_address(address, hashing=False)
        successor = _refresh_token()
        now = self._now()

        def write(connection: sa.Connection) -> tuple[sessions.Rotation, Account | None]:
            rotation = sessions.rotate(
                connection, _hash(refresh_token), _hash(successor), now=now, expires_at=self._expiry(now)
            )
            if isinstance(rotation, Refused):
                return rotation, None
            owner = rows.by_id(connection, rotation.session.account_id)
            assert owner is not None, "accounts are never deleted"
            if owner.disabled_at is not None:
                raise _ended(owner.id)
            if isinstance(rotation, Reused):
                self._notices.post(connection, owner, letters.session_stolen(owner, now, address))
            return rotation, owner

        rotation, account = await self._database.run(write)
        if isinstance(rotation, Refused) or account is None:
            raise _ended()
        if isinstance(rotation, Reused):
            self._access.session_revoked(rotation.session.id)
            raise ReusedError(ENDED, code="signed_out", subject_id=account.id)
        self._proof.limits.good_address(address)
        return self._signed_in(account, rotation.session.id, successor)

    async def _renewed(self, account: Account, password: str) -> str | None:
        """A new hash of the password that was just proven, where the stored one is of an older kind."""
        return await self._passwords.hash(password) if self._passwords.outdated(account.password_hash) else None

    def _enter(
        self,
        connection: sa.Connection,
        proven: Account,
        renewed: str | None,
        totp: str | None,
        refresh_token: str,
        visit: Visit,
    ) -> Entered | Account:
        """Opens the session of an account that is still the one whose password was proven; else the account as it is
        now. Who changes a password at this moment ends this session, or is seen here."""
        account = rows.lock(connection, proven.id)
        if (account.password_hash, account.disabled_at) != (proven.password_hash, None):
            return account
        if account.second_factor_at is not None:
            self._require_second_factor(connection, account, totp, visit)
        if renewed is not None:
            account = rows.set_password_hash(connection, account.id, renewed)
        if self._rules.mail and _unfamiliar(visit, sessions.origins(connection, account.id)):
            self._notices.post(
                connection, account, letters.new_sign_in(account, self._now(), visit.address, visit.agent)
            )
        return Entered(account, self._open(connection, account.id, refresh_token, visit))

    def _require_second_factor(
        self, connection: sa.Connection, account: Account, totp: str | None, visit: Visit
    ) -> None:
        spent = self._second_factor.spend(connection, account, totp or "")
        if spent is None:
            raise UnauthenticatedError(
                "the code is wrong, or was used before", code="wrong_totp", subject_id=account.id
            )
        if spent.left is not None:
            self._notices.post(
                connection, account, letters.recovery_code_used(account, self._now(), visit.address, spent.left)
            )

    def _open(self, connection: sa.Connection, account_id: int, refresh_token: str, visit: Visit) -> Session:
        now = self._now()
        return sessions.open_session(
            connection,
            account_id,
            _hash(refresh_token),
            now=now,
            expires_at=self._expiry(now),
            address=visit.address[:64],
            agent=visit.agent[:200],
        )

    def _expiry(self, now: datetime) -> datetime:
        return now + timedelta(days=self._rules.refresh_token_days)

    def _signed_in(self, account: Account, session_id: str, refresh_token: str) -> SignedIn:
        self._access.account_seen(account)
        token = self._tokens.issue(account.id, session_id)
        return SignedIn(account, session_id, token, refresh_token, int(self._tokens.lifetime_seconds))


@dataclass(frozen=True, slots=True)
class Entered:
    account: Account
    session: Session


def _unfamiliar(visit: Visit, origins: set[tuple[str, str]]) -> bool:
    """Whether nobody signed in from there with such a program before, as far as that is remembered."""
    seen = {(address_key(address), agent_family(agent)) for address, agent in origins}
    return (address_key(visit.address), agent_family(visit.agent)) not in seen


def _ended(account_id: int | None = None) -> UnauthenticatedError:
    return UnauthenticatedError(ENDED, code="signed_out", subject_id=account_id)


def _refresh_token() -> str:
    return secrets.token_urlsafe(32)


def _hash(refresh_token: str) -> str:
    """A plain hash will do: the token has 256 random bits, there is nothing to guess."""
    return hashlib.sha256(refresh_token.encode("utf-8", "surrogatepass")).hexdigest()
