"""API keys: "zlh_" and 256 random bits, with scopes, shown once, found again by their hash."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from math import inf

import sqlalchemy as sa
import trio

from zlh.accounts import letters
from zlh.accounts.access import KEY_PREFIX, AccessTable, KeyStanding, key_hash
from zlh.accounts.attempts import Attempts
from zlh.accounts.following import follow
from zlh.accounts.key_uses import KeyUses
from zlh.accounts.notices import Notices
from zlh.model.access import Scope
from zlh.model.accounts import Principal
from zlh.model.errors import AbsentError, InvalidError
from zlh.store import accounts as account_rows
from zlh.store import api_keys as rows
from zlh.store.api_keys import ApiKey
from zlh.store.database import Database
from zlh.store.notify import API_KEYS

MOST_KEYS = 50
MADE_PER_HOUR = 2 * MOST_KEYS
"""Every one sends a letter, and is remembered for a while after its end."""

LONGEST_LIFE = timedelta(days=3650)
_BITS = 256
_ID = re.compile("[0-9a-f]{32}")


class ApiKeys:
    """Makes and revokes keys in the store, then tells the access table. Whoever makes one is told by letter.
    Everything may raise StoreUnavailable."""

    def __init__(
        self, database: Database, access: AccessTable, notices: Notices, *, now: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._access = access
        self._notices = notices
        self._now = now
        # What was read before a revocation must not bring the key back, nor a reading miss a key made meanwhile.
        self._one_by_one = trio.Lock()
        self._made = Attempts(MADE_PER_HOUR, 3600.0)
        self._uses = KeyUses(database, now)
        access.key_used = self._uses.note

    async def load(self) -> None:
        """Makes the access table know exactly the live keys; at start, and whenever word of changes was missed."""
        async with self._one_by_one:
            live = await self._database.run(rows.all_live, self._now())
            for key in live:
                self._tell(key)
            for key_id in self._access.key_ids() - {key.id for key in live}:
                self._access.key_revoked(key_id)

    async def follow(self) -> None:
        """Hears of keys that another process made or revoked; runs until cancelled."""
        await follow(self._database, API_KEYS, self.load, self._look)

    async def record_uses(self) -> None:
        """Writes down when keys were last used; runs until cancelled."""
        await self._uses.run()

    async def write_uses(self) -> None:
        """Writes down at once what is due."""
        await self._uses.write()

    async def list(self, principal: Principal) -> list[ApiKey]:
        """The caller's, also the expired ones, the newest first."""
        return await self._database.run(rows.of_account, principal.account_id)

    async def create(
        self,
        principal: Principal,
        *,
        name: str,
        scopes: Iterable[Scope],
        expires_at: datetime | None,
        address: str = "",
    ) -> tuple[ApiKey, str]:
        """The key's record and the key itself, which nobody can see again. Raises InvalidError (`details` as of a
        body's problems), ConflictError "too_many_keys", TooManyError."""
        given, now = frozenset(scopes), self._now()
        if expires_at is not None and not now < expires_at <= now + LONGEST_LIFE:
            raise InvalidError.of(("expiresAt", f"a key expires within {LONGEST_LIFE.days} days from now, or never"))
        if Scope.OPERATOR in given and not principal.role.sees_all:
            raise InvalidError.of(("scopes", "only operators may have a key with the scope operator"))
        self._made.take(str(principal.account_id))
        token = KEY_PREFIX + secrets.token_urlsafe(_BITS // 8)

        def write(connection: sa.Connection) -> ApiKey:
            account = account_rows.lock(connection, principal.account_id)
            key = rows.create(
                connection,
                account,
                name=name,
                token_hash=key_hash(token),
                scopes=given,
                now=now,
                expires_at=expires_at,
                most=MOST_KEYS,
            )
            named = [scope.value for scope in Scope if scope in given]
            self._notices.post(connection, account, letters.api_key_created(account, now, address, name, named))
            return key

        async with self._one_by_one:
            key = await self._database.run(write)
            self._tell(key)
        return key, token

    async def revoke(self, principal: Principal, key_id: str) -> None:
        """Ends what is open with it at once. Raises AbsentError for what is not one of the caller's."""
        absent = AbsentError("there is no such API key")
        if not _ID.fullmatch(key_id):
            raise absent
        async with self._one_by_one:
            if await self._database.run(rows.revoke, principal.account_id, key_id, self._now()) is None:
                raise absent
            self._access.key_revoked(key_id)

    async def _look(self, key_id: str) -> None:
        async with self._one_by_one:
            key = await self._database.run(rows.by_id, key_id)
            if key is not None and key.live(self._now()):
                self._tell(key)
            else:
                self._access.key_revoked(key_id)

    def _tell(self, key: ApiKey) -> None:
        expires_at = inf if key.expires_at is None else key.expires_at.timestamp()
        self._access.key_changed(key.token_hash, KeyStanding(key.id, key.account_id, key.scopes, expires_at))
