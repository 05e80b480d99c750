"""The second factor: codes of an app (TOTP, RFC 6238) and, for the day that the phone is lost, recovery codes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import pyotp
import sqlalchemy as sa

from zlh.accounts import letters
from zlh.accounts.access import AccessTable
from zlh.accounts.attempts import SignInLimits
from zlh.accounts.notices import Notices
from zlh.accounts.proof import PasswordProof, lock_proven
from zlh.accounts.rules import Rules
from zlh.model.accounts import Account, Principal
from zlh.model.errors import ConflictError, ForbiddenError
from zlh.store import accounts as rows
from zlh.store import second_factors
from zlh.store.database import Database

STEP_SECONDS: Final = 30
SKEW_STEPS: Final = 1
"""A code of the step before and of the next one is good too: phones' clocks are not ours."""

RECOVERY_CODES: Final = 10
_CODE = re.compile(r"[0-9]{6}", re.ASCII)


@dataclass(frozen=True, slots=True)
class FactorState:
    """`required`: the account is an operator's, and operators must have a second factor here."""

    since: datetime | None
    recovery_codes_left: int
    required: bool


@dataclass(frozen=True, slots=True)
class Begun:
    """What the app needs; `uri` (otpauth://) is for a QR code."""

    secret: str = field(repr=False)
    uri: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Spent:
    """What was used up; `left` is how many recovery codes are left where one was, or None."""

    left: int | None = None


class SecondFactor:
    """Switched on with the first good code, off with password and code. What changes is told by e-mail.

    `now` is the clock of the codes too. Everything may raise StoreUnavailable and TooManyError.
    """

    def __init__(
        self,
        database: Database,
        proof: PasswordProof,
        access: AccessTable,
        notices: Notices,
        rules: Rules,
        *,
        issuer: str,
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._proof = proof
        self._access = access
        self._notices = notices
        self._rules = rules
        self._issuer = issuer
        self._now = now

    async def state(self, principal: Principal) -> FactorState:
        def read(connection: sa.Connection) -> tuple[Account | None, int]:
            account = rows.by_id(connection, principal.account_id)
            return account, second_factors.codes_left(connection, principal.account_id)

        account, left = await self._database.run(read)
        assert account is not None, "accounts are never deleted"
        required = self._rules.operators_need_second_factor and account.role.sees_all
        return FactorState(account.second_factor_at, left, required)

    async def begin(self, principal: Principal, password: str, address: str) -> Begun:
        """A secret in place of one that still waits for its first code. Raises ForbiddenError "wrong_password",
        ConflictError "totp_on"."""
        account = await self._proof.again(principal.account_id, password, address)
        secret = pyotp.random_base32()

        def write(connection: sa.Connection) -> None:
            if lock_proven(connection, account).second_factor_at is not None:
                raise _already_on()
            second_factors.put(connection, account.id, secret, self._now())

        await self._database.run(write)
        uri = pyotp.TOTP(secret, interval=STEP_SECONDS).provisioning_uri(name=account.email, issuer_name=self._issuer)
        return Begun(secret, uri)

    async def confirm(self, principal: Principal, code: str, address: str) -> list[str]:
        """Switches it on; the recovery codes are shown this once. Raises ForbiddenError "wrong_totp", ConflictError
        "totp_on" and "totp_not_begun"."""
        # Counted apart: whoever may only try this keeps nobody from signing in.
        attempt = f"confirming {principal.account_id}"
        self._limits.take_code(attempt)
        recovery = new_recovery_codes()

        def write(connection: sa.Connection) -> Account:
            account, now = rows.lock(connection, principal.account_id), self._now()
            if account.second_factor_at is not None:
                raise _already_on()
            if second_factors.secret_of(connection, account.id) is None:
                raise ConflictError("begin with a new secret", code="totp_not_begun")
            if not _use_step(connection, account.id, plain(code), now):
                raise wrong_code()
            second_factors.put_codes(connection, account.id, map(recovery_hash, recovery))
            self._notices.post(connection, account, letters.second_factor_enabled(account, now, address))
            return rows.set_second_factor(connection, account.id, now)

        self._access.account_changed(await self._database.run(write))
        self._limits.good_code(attempt)
        return recovery

    async def renew_codes(self, principal: Principal, password: str, code: str, address: str) -> list[str]:
        """Ten new recovery codes; those before are worth nothing. Raises ForbiddenError "wrong_password" and
        "wrong_totp", ConflictError "totp_off"."""
        recovery = new_recovery_codes()

        def write(connection: sa.Connection, account: Account) -> Account:
            second_factors.put_codes(connection, account.id, map(recovery_hash, recovery))
            self._notices.post(connection, account, letters.recovery_codes_renewed(account, self._now(), address))
            return account

        await self._with_both(principal, password, code, address, write)
        return recovery

    async def switch_off(self, principal: Principal, password: str, code: str, address: str) -> None:
        """Raises as `renew_codes`. An operator who must have a second factor is a customer from now on."""

        def write(connection: sa.Connection, account: Account) -> Account:
            self._notices.post(connection, account, letters.second_factor_disabled(account, self._now(), address))
            return second_factors.switch_off(connection, account.id)

        self._access.account_changed(await self._with_both(principal, password, code, address, write))

    def take(self, account_id: int, code: str) -> None:
        """Counts an attempt with a code of the app; a recovery code is too long to be guessed."""
        if _CODE.fullmatch(plain(code)):
            self._limits.take_code(str(account_id))

    def give_back(self, account_id: int, code: str) -> None:
        """The attempt was a good one and does not count."""
        if _CODE.fullmatch(plain(code)):
            self._limits.good_code(str(account_id))

    def spend(self, connection: sa.Connection, account: Account, code: str) -> Spent | None:
        """Uses up a code of the app or a recovery code, in the caller's transaction; None for a wrong one and for one
        that was used before."""
        now, typed = self._now(), plain(code)
        if _CODE.fullmatch(typed):
            return Spent() if _use_step(connection, account.id, typed, now) else None
        if not second_factors.use_code(connection, account.id, recovery_hash(typed), now):
            return None
        return Spent(second_factors.codes_left(connection, account.id))

    @property
    def _limits(self) -> SignInLimits:
        return self._proof.limits

    async def _with_both(
        self,
        principal: Principal,
        password: str,
        code: str,
        address: str,
        write: Callable[[sa.Connection, Account], Account],
    ) -> Account:
        """Calls `write` in the transaction that spends the code."""
        proven = await self._proof.again(principal.account_id, password, address)
        self.take(principal.account_id, code)

        def spend(connection: sa.Connection) -> Account:
            account = lock_proven(connection, proven)
            if account.second_factor_at is None:
                raise ConflictError("the second factor is off", code="totp_off")
            if self.spend(connection, account, code) is None:
                raise wrong_code()
            return write(connection, account)

        account = await self._database.run(spend)
        self.give_back(principal.account_id, code)
        return account


def plain(code: str) -> str:
    """Without the spaces and dashes that people type, in lower case."""
    return "".join(character for character in code if character.isalnum()).lower()


def matching_steps(secret: str, code: str, now: datetime) -> list[int]:
    """The time steps around `now` whose code that is, the oldest first."""
    totp = pyotp.TOTP(secret, interval=STEP_SECONDS)
    present = int(now.timestamp()) // STEP_SECONDS
    around = range(max(0, present - SKEW_STEPS), present + SKEW_STEPS + 1)
    return [step for step in around if hmac.compare_digest(totp.generate_otp(step).encode(), code.encode())]


def new_recovery_codes() -> list[str]:
    """Each has 80 random bits, and looks like "abcd-efgh-ijkl-mnop"."""
    return ["-".join(re.findall("....", _random_letters())) for _ in range(RECOVERY_CODES)]


def recovery_hash(code: str) -> str:
    """A plain hash will do: there is nothing to guess in 80 bits."""
    return hashlib.sha256(plain(code).encode("utf-8", "surrogatepass")).hexdigest()


def wrong_code() -> ForbiddenError:
    return ForbiddenError("the code is wrong, or was used before", code="wrong_totp")


def _random_letters() -> str:
    return base64.b32encode(secrets.token_bytes(10)).decode("ascii").lower()


def _use_step(connection: sa.Connection, account_id: int, code: str, now: datetime) -> bool:
    secret = second_factors.secret_of(connection, account_id)
    if secret is None:
        return False
    return any(second_factors.use_step(connection, account_id, step) for step in matching_steps(secret, code, now))


def _already_on() -> ConflictError:
    return ConflictError("the second factor is on already", code="totp_on")
