"""The proof by password of who somebody is: first the limits, then the hash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from zlh.accounts.attempts import SignInLimits, account_key
from zlh.accounts.passwords import Passwords
from zlh.model.accounts import Account
from zlh.model.errors import ConflictError, ForbiddenError, UnauthenticatedError
from zlh.store import accounts as rows
from zlh.store import sessions
from zlh.store.database import Database

NOBODY = 0
"""No account has this id."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who somebody says to be (None: nobody knows), and the name under which that attempt is counted."""

    account: Account | None
    address: str
    key: str


class PasswordProof:
    """What signing in, the second factor and credentials ask before anything else."""

    def __init__(self, database: Database, passwords: Passwords, limits: SignInLimits) -> None:
        self._database = database
        self._passwords = passwords
        self.limits = limits

    async def claim(self, identifier: str, address: str) -> Claim:
        """Counts an attempt to be the account with that e-mail address or user name. Raises TooManyError."""
        return await self._claim(lambda connection: rows.by_identifier(connection, identifier), identifier, address)

    async def claim_own(self, account_id: int, address: str) -> Claim:
        """The same for somebody who is signed in."""
        return await self._claim(lambda connection: rows.by_id(connection, account_id), "", address)

    async def proven(self, claim: Claim, password: str) -> Account:
        """Raises UnauthenticatedError, which costs and says the same for nobody, for a wrong password, and for an
        account that was disabled."""
        account = claim.account
        right = await self._passwords.verify(account.password_hash if account else None, password)
        if account is None or not right or account.disabled_at is not None:
            raise UnauthenticatedError(
                "the user name or the password is wrong",
                code="wrong_credentials",
                subject_id=account.id if account else None,
            )
        return account

    def good(self, claim: Claim) -> None:
        """The attempt was a good one and does not count."""
        self.limits.good_address(claim.address)
        self.limits.good_account(claim.key)

    async def again(self, account_id: int, password: str, address: str) -> Account:
        """Somebody who is signed in proves it once more, before credentials change. Raises TooManyError, and
        ForbiddenError "wrong_password": the sign-in itself stays good."""
        claim = await self.claim_own(account_id, address)
        try:
            proven = await self.proven(claim, password)
        except UnauthenticatedError:
            raise ForbiddenError("the password is wrong", code="wrong_password") from None
        self.good(claim)
        return proven

    async def _claim(self, find: Callable[[sa.Connection], Account | None], identifier: str, address: str) -> Claim:
        self.limits.take_address(address)

        def read(connection: sa.Connection) -> tuple[Account | None, set[tuple[str, str]]]:
            account = find(connection)
            # Also for nobody: the answer takes as long.
            return account, sessions.origins(connection, account.id if account else NOBODY)

        account, origins = await self._database.run(read)
        key = account_key(account, identifier, address, {seen for seen, _ in origins})
        self.limits.take_account(key)
        return Claim(account, address, key)


def lock_proven(connection: sa.Connection, proven: Account) -> Account:
    """The account, locked, if its password is the one that was proven. Raises ConflictError "password_changed"."""
    present = rows.lock(connection, proven.id)
    if present.password_hash != proven.password_hash:
        raise ConflictError("the password was changed at the same moment; try again", code="password_changed")
    return present
