"""Keeps the keyring what the store says, and makes the next key when it is time or when somebody wants one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime

import sqlalchemy as sa
import trio

from zlh.accounts.following import follow
from zlh.accounts.key_life import KeyRules, KeyState, next_is_due
from zlh.accounts.keyring import Keyring, make_key
from zlh.store import keys as rows
from zlh.store.database import Database
from zlh.store.errors import StoreUnavailable
from zlh.store.keys import SigningKey
from zlh.store.notify import SIGNING_KEYS
from zlh.store.vault import Vault

log = logging.getLogger(__name__)

BEAT_SECONDS = 60.0

# Called with the new key, in the transaction that makes it.
Also = Callable[[sa.Connection, SigningKey], None]


class SigningKeys:
    """`withdrawn` is called after a key that was good here was withdrawn. Everything may raise StoreUnavailable."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        keyring: Keyring,
        rules: KeyRules,
        *,
        withdrawn: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._vault = vault
        self.keyring = keyring
        self.rules = rules
        self._withdrawn = withdrawn
        self._now = now
        # What was read last is held last: an older answer never brings a withdrawn key back.
        self._turn = trio.Lock()

    async def load(self) -> None:
        """Reads what there is, as other processes have left it. Raises VaultError."""
        async with self._turn:
            self._hold(await self._database.run(rows.all_keys, self._vault))

    async def follow(self) -> None:
        """Hears of keys that other processes made or withdrew; runs until cancelled."""

        async def look(_kid: str) -> None:
            await self.load()

        await follow(self._database, SIGNING_KEYS, self.load, look)

    async def rotate_in_time(self) -> None:
        """Makes the next key when it is time; of several processes one does. Runs until cancelled."""
        while True:
            try:
                await self.rotate_if_due()
            except StoreUnavailable as error:
                log.warning("the signing keys stay as they are: %s", error)
            await trio.sleep(BEAT_SECONDS)

    async def rotate_if_due(self) -> None:
        def write(connection: sa.Connection) -> list[SigningKey]:
            found = rows.all_keys(connection, self._vault)
            if next_is_due(found, self._now(), self.rules):
                # Another process may have been quicker: what counts is what is there under the lock.
                rows.lock(connection)
                if next_is_due(rows.all_keys(connection, self._vault), self._now(), self.rules):
                    self._publish(connection)
                found = rows.all_keys(connection, self._vault)
            return found

        async with self._turn:
            self._hold(await self._database.run(write))

    async def rotate(self, also: Also | None = None) -> SigningKey:
        """The next key, in the key set from now on; the one that is there already where it does not sign yet."""

        def write(connection: sa.Connection) -> tuple[SigningKey, list[SigningKey]]:
            rows.lock(connection)
            newest = next((key for key in rows.all_keys(connection, self._vault) if key.withdrawn_at is None), None)
            if newest is None or newest.signs_at <= self._now():
                newest = self._publish(connection)
                if also is not None:
                    also(connection, newest)
            return newest, rows.all_keys(connection, self._vault)

        async with self._turn:
            newest, found = await self._database.run(write)
            self._hold(found)
        return newest

    async def withdraw(self, also: Also | None = None) -> SigningKey:
        """Withdraws every key and puts a new one in their place: whoever has a copy of one can do nothing with it.
        Everybody's access token is refused from now on, refresh tokens are as good as before."""

        def write(connection: sa.Connection) -> tuple[SigningKey, list[SigningKey]]:
            rows.lock(connection)
            rows.withdraw_all(connection, self._now())
            made = _add(connection, self._vault, self._now(), self._now())
            if also is not None:
                also(connection, made)
            return made, rows.all_keys(connection, self._vault)

        async with self._turn:
            newest, found = await self._database.run(write)
            self._hold(found)
        return newest

    async def listed(self) -> list[tuple[SigningKey, KeyState]]:
        """Every key that the store has, with its state now; the newest first."""
        async with self._turn:
            found = await self._database.run(rows.all_keys, self._vault)
            self._hold(found)
        states = self.keyring.states()
        return [(key, states[key.kid]) for key in found]

    def _publish(self, connection: sa.Connection) -> SigningKey:
        now = self._now()
        made = _add(connection, self._vault, now, now + self.rules.lead)
        log.info("made the signing key %s, which signs from %s", made.kid, made.signs_at.isoformat())
        return made

    def _hold(self, found: list[SigningKey]) -> None:
        if self.keyring.hold(found):
            log.warning("a signing key was withdrawn: every access token has to be fetched anew")
            self._withdrawn()


async def open_keyring(
    database: Database,
    vault: Vault,
    *,
    alive_seconds: float,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Keyring:
    """With the keys that the database holds; makes the first one where there is none that may be used. Raises
    StoreUnavailable, VaultError."""

    def read(connection: sa.Connection) -> list[SigningKey]:
        rows.lock(connection)
        found = rows.all_keys(connection, vault)
        if all(key.withdrawn_at is not None for key in found):
            found.append(_add(connection, vault, now(), now()))
        return found

    found = await database.run(read)
    return Keyring(found, alive_seconds=alive_seconds, now=lambda: now().timestamp())


def _add(connection: sa.Connection, vault: Vault, now: datetime, signs_at: datetime) -> SigningKey:
    key = SigningKey(*make_key(), created_at=now, signs_at=signs_at)
    rows.add(connection, vault, key)
    return key
