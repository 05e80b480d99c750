"""Sign-in sessions as their owner sees them: looked at, and ended, here and in every other process."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta

from zlh.accounts.access import AccessTable
from zlh.accounts.following import follow
from zlh.model.accounts import Principal
from zlh.model.errors import AbsentError
from zlh.store import sessions as rows
from zlh.store.database import Database
from zlh.store.notify import SESSIONS
from zlh.store.sessions import Session

_ID = re.compile(r"[0-9a-f]{32}")


class Sessions:
    """Whatever ends a session ends its access tokens and open connections at once. Everything may raise
    StoreUnavailable."""

    def __init__(
        self, database: Database, access: AccessTable, *, token_seconds: float, now: Callable[[], datetime]
    ) -> None:
        """`token_seconds` is how long an access token lives."""
        self._database = database
        self._access = access
        self._remembered = timedelta(seconds=token_seconds + 60)
        self._now = now

    async def of(self, principal: Principal) -> list[Session]:
        """Those that are alive, an operator's in the account's place too; the last used first."""
        return await self._database.run(rows.active, principal.account_id, self._now())

    async def sign_out(self, principal: Principal) -> None:
        """Ends the session that asks; signing out twice is no error."""
        await self._database.run(rows.revoke, principal.session_id, self._now())
        self._access.session_revoked(principal.session_id)

    async def end(self, principal: Principal, session_id: str) -> None:
        """Raises AbsentError for one that is not alive or somebody else's."""
        ended = bool(_ID.fullmatch(session_id)) and await self._database.run(
            rows.revoke_own, principal.account_id, session_id, self._now(), because="ended by its owner"
        )
        if not ended:
            raise AbsentError("there is no such session")
        self._access.session_revoked(session_id)

    async def end_all(self, principal: Principal, *, keep_current: bool) -> int:
        """How many were ended."""
        keep = principal.session_id if keep_current else None
        ended = await self._database.run(rows.revoke_all, principal.account_id, self._now(), keep=keep)
        for session_id in ended:
            self._access.session_revoked(session_id)
        return len(ended)

    async def load(self) -> None:
        """Tells the access table which sessions have ended; once, at start."""
        # Only those matter whose tokens may still be alive.
        since = self._now() - self._remembered
        self._access.load([], await self._database.run(rows.revoked_since, since))

    async def follow(self) -> None:
        """Hears of sessions that another process ended; runs until cancelled."""

        async def look(session_id: str) -> None:
            self._access.session_revoked(session_id)

        await follow(self._database, SESSIONS, self.load, look)
