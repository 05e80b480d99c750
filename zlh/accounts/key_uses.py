"""When API keys were last used, written behind: no request waits for it, and a database that is away costs only that
the list of keys is older for a while."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import trio

from zlh.store import api_keys as rows
from zlh.store.api_keys import KeyUse
from zlh.store.database import Database
from zlh.store.errors import StoreUnavailable

log = logging.getLogger(__name__)

BEAT_SECONDS: Final = 5.0
"""So soon the first use is seen."""

LONGEST_ADDRESS: Final = 64

EVERY: Final = timedelta(minutes=1)
"""A key that is used all the time is written no oftener."""


class KeyUses:
    """The last use of each key since it was written last: as many as there are keys, however many requests come."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now
        self._waiting: dict[str, KeyUse] = {}
        self._written: dict[str, datetime] = {}
        self._away = False

    def note(self, key_id: str, address: str) -> None:
        """A key was used now; never waits. Where the address is not known, the one before stays."""
        if not address and key_id in self._waiting:
            address = self._waiting[key_id].address
        self._waiting[key_id] = KeyUse(key_id, self._now(), address[:LONGEST_ADDRESS])

    async def run(self) -> None:
        """Writes what is due, again and again, until cancelled."""
        while True:
            await trio.sleep(BEAT_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Writes what is due. Where the database is away, that stays due."""
        now = self._now()
        self._written = {key_id: at for key_id, at in self._written.items() if now - at < EVERY}
        due = [use for key_id, use in self._waiting.items() if key_id not in self._written]
        if not due:
            return
        try:
            await self._database.run(rows.record_uses, due)
        except StoreUnavailable as error:
            if not self._away:
                log.warning("the last uses of API keys are not written for now: %s", error)
            self._away = True
            return
        self._away = False
        for use in due:
            self._written[use.key_id] = now
            # A later use, noted while this one was written, waits for its turn.
            if self._waiting.get(use.key_id) is use:
                del self._waiting[use.key_id]
