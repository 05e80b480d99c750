"""All that concerns accounts, put together in one place for the API, the commands and the tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import trio

from zlh.accounts.access import AccessTable
from zlh.accounts.accounts import Accounts
from zlh.accounts.acting import ActingSessions
from zlh.accounts.api_keys import ApiKeys
from zlh.accounts.attempts import Attempts, SignInLimits
from zlh.accounts.audit import AuditTrail
from zlh.accounts.credentials import Credentials
from zlh.accounts.ide_tokens import LIFETIME_SECONDS as IDE_TOKEN_SECONDS
from zlh.accounts.ide_tokens import IdeTokens
from zlh.accounts.key_life import KeyRules
from zlh.accounts.notices import Notices
from zlh.accounts.oversight import Oversight
from zlh.accounts.password_rules import common_passwords
from zlh.accounts.passwords import Passwords
from zlh.accounts.proof import PasswordProof
from zlh.accounts.rules import Rules
from zlh.accounts.second_factor import SecondFactor
from zlh.accounts.sessions import Sessions
from zlh.accounts.shares import Shares
from zlh.accounts.sign_in import SignIn
from zlh.accounts.signer import CLOCK_SKEW_SECONDS
from zlh.accounts.signing_keys import SigningKeys, open_keyring
from zlh.accounts.tokens import Tokens
from zlh.store.database import Database
from zlh.store.vault import Vault


@dataclass(frozen=True, slots=True)
class TokenRules:
    """`issuer` is different for every installation; the access token's life is in seconds. A key signs for
    `signing_key_days`, and is published for `signing_key_publish_seconds` before it signs. `longest_seconds` is the
    life of whatever else is signed with these keys."""

    issuer: str
    access_token_seconds: float
    signing_key_days: float = 90
    signing_key_publish_seconds: float = 3600
    longest_seconds: float = IDE_TOKEN_SECONDS

    @property
    def alive_seconds(self) -> float:
        """How long after its last signature a key still verifies."""
        return max(self.access_token_seconds, self.longest_seconds) + CLOCK_SKEW_SECONDS

    @property
    def keys(self) -> KeyRules:
        return KeyRules(timedelta(days=self.signing_key_days), timedelta(seconds=self.signing_key_publish_seconds))


@dataclass(frozen=True, slots=True)
class AccountServices:
    """What the routes call. `load` comes before anybody asks, `tasks` are to run all the time."""

    access: AccessTable
    tokens: Tokens
    accounts: Accounts
    proof: PasswordProof
    sign_in: SignIn
    sessions: Sessions
    second_factor: SecondFactor
    credentials: Credentials
    shares: Shares
    audit: AuditTrail
    api_keys: ApiKeys
    signing_keys: SigningKeys
    ide_tokens: IdeTokens
    oversight: Oversight
    acting: ActingSessions

    async def load(self) -> None:
        """Fills the access table; once, at start."""
        await self.accounts.load()
        await self.sessions.load()
        await self.api_keys.load()
        await self.shares.load()

    def tasks(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """By the name that operators see; each runs until cancelled, and may be started again."""
        return {
            "grants": self.access.run,
            "audit": self.audit.run,
            "changes": self.accounts.follow,
            "revocations": self.sessions.follow,
            "keys": self.signing_keys.rotate_in_time,
            "key-changes": self.signing_keys.follow,
            "api-keys": self.api_keys.follow,
            "shares": self.shares.follow,
            "api-key-uses": self.api_keys.record_uses,
        }


async def open_accounts(
    database: Database,
    vault: Vault,
    passwords: Passwords,
    rules: Rules,
    token_rules: TokenRules,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> AccountServices:
    """Reads the signing keys, and makes the first one where there is none. Raises StoreUnavailable, VaultError."""
    # Read in a thread now, rather than in the first request that brings a password.
    await trio.to_thread.run_sync(common_passwords)
    keyring = await open_keyring(database, vault, alive_seconds=token_rules.alive_seconds, now=now)
    tokens = Tokens(keyring, issuer=token_rules.issuer, lifetime_seconds=token_rules.access_token_seconds)
    access = AccessTable(tokens, operators_need_second_factor=rules.operators_need_second_factor)
    proof = PasswordProof(database, passwords, SignInLimits(rules))
    notices = Notices(mail=rules.mail, now=now)
    second_factor = SecondFactor(database, proof, access, notices, rules, issuer=token_rules.issuer, now=now)
    shares = Shares(database, access, portal_url=rules.portal_url if rules.mail else None, now=now)
    return AccountServices(
        access=access,
        tokens=tokens,
        accounts=Accounts(database, passwords, access, now=now),
        proof=proof,
        sign_in=SignIn(database, passwords, proof, second_factor, tokens, access, notices, rules, now=now),
        sessions=Sessions(database, access, token_seconds=tokens.lifetime_seconds, now=now),
        second_factor=second_factor,
        credentials=Credentials(database, passwords, proof, access, shares, notices, rules, now=now),
        shares=shares,
        audit=AuditTrail(database, Attempts(rules.attempts_per_address, rules.attempts_seconds), now=now),
        api_keys=ApiKeys(database, access, notices, now=now),
        signing_keys=SigningKeys(
            database, vault, keyring, token_rules.keys, withdrawn=access.tokens_withdrawn, now=now
        ),
        ide_tokens=IdeTokens(database, tokens.signer, access),
        oversight=Oversight(database, passwords, access, notices, now=now),
        acting=ActingSessions(database, tokens, notices, now=now),
    )
