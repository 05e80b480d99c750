"""IDE tokens: the way from the Portal into a dev container's IDE, or to one of its forwarded ports. One minute, one
use, one container, one user.

They travel in an address, which ends up in histories and logs: by the time that somebody reads them there they are
good for nothing.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime

import sqlalchemy as sa

from zlh.accounts.access import KEY_SESSION, AccessTable, require_scope
from zlh.accounts.signer import Claims, Kind, Signer
from zlh.model.access import Permission, Scope
from zlh.model.accounts import Principal
from zlh.model.errors import ForbiddenError, UnauthenticatedError
from zlh.store import sessions
from zlh.store.database import Database
from zlh.store.spent_tokens import spend

LIFETIME_SECONDS = 60
IDE = Kind("IDE token", "ide+jwt", "ide", ("vmid", "jti"))
PORT = Kind("port token", "port+jwt", "port", ("vmid", "port", "jti"))
TOKEN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class IdeTokens:
    def __init__(
        self, database: Database, signer: Signer, access: AccessTable, *, now: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._signer = signer
        self._access = access
        self._now = now

    def issue(self, principal: Principal, vmid: int, port: int | None = None) -> str:
        """For one who was found to be allowed into that IDE, or (`port`) to that forwarded port."""
        return self._signer.sign(
            IDE if port is None else PORT,
            principal.account_id,
            principal.session_id,
            LIFETIME_SECONDS,
            principal.acting,
            vmid=vmid,
            **({} if port is None else {"port": port}),
            jti=secrets.token_urlsafe(16),
        )

    async def redeem(self, token: str, vmid: int, port: int | None = None) -> Principal:
        """Who comes in; the token is spent by that, in every process. The principal's `expires_at` is the token's:
        how long somebody stays who came in is for the caller to say. So is who may come to a port: that somebody may
        into the IDE is asked here only of an IDE's token.

        Raises UnauthenticatedError for anything but an unused token for that container (and port) whose sign-in is
        alive, ForbiddenError and AbsentError where its user may not go in (any more), StoreUnavailable.
        """
        claims, body = self._signer.read(IDE if port is None else PORT, token, LIFETIME_SECONDS)
        if type(body["vmid"]) is not int or TOKEN_ID.fullmatch(body["jti"]) is None:
            raise UnauthenticatedError("the IDE token is not valid")
        if body["vmid"] != vmid:
            raise UnauthenticatedError("the IDE token is for another container")
        if port is not None and body["port"] != port:
            raise UnauthenticatedError("the token is for another port")
        if not await self._database.run(self._spend, claims, body["jti"]):
            raise UnauthenticatedError("the IDE token has been used, or its sign-in has ended", code="token_spent")
        # From here on nothing waits: what is true now is true when the caller goes on.
        principal = self._access.holder(claims)
        if self._access.suspended(principal):
            raise ForbiddenError("the account is suspended", code="suspended")
        require_scope(principal, Scope.IDE)
        if port is None:
            self._access.check(principal, vmid, Permission.IDE)
        return principal

    def _spend(self, connection: sa.Connection, claims: Claims, token_id: str) -> bool:
        first = spend(connection, token_id, datetime.fromtimestamp(claims.expires_at, UTC))
        if claims.session_id.startswith(KEY_SESSION):
            return first
        session = sessions.get(connection, claims.session_id)
        return first and session is not None and session.live(datetime.fromtimestamp(self._now(), UTC))
