"""Passes: what a browser holds that came in by a token. Signed, for one place and one sign-in, renewed while it is
used.

A pass says who came; what that one may do is asked of the access table at every request. That table forgets revoked
sessions after the life of an access token, so a session is vouched for by the store at least as often. No pass is
good for longer than its session as it stands when the pass is given.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import inf

import jwt
import sqlalchemy as sa

from zlh.accounts import AccessTable
from zlh.accounts.access import KEY_SESSION
from zlh.accounts.signer import Claims, Kind, Signer
from zlh.ide.places import Place
from zlh.model.accounts import Principal
from zlh.model.errors import UnauthenticatedError
from zlh.store import sessions
from zlh.store.database import Database
from zlh.store.errors import StoreUnavailable

PASS = Kind("IDE pass", "ide-pass+jwt", "ide-pass", ("vmid", "port"))
IDE = 0
"""What stands for the IDE where forwarded ports have their number."""

REMEMBERED = 20_000


@dataclass(frozen=True, slots=True)
class Pass:
    """A good one, until `expires_at`. `claims` are of its sign-in, which ends when it ends: nobody knows when, but
    for an operator's in a customer's place, which ends with the pass at the latest. `kid` names the key that signed
    it. Times are Unix seconds."""

    claims: Claims
    expires_at: float
    kid: str
    vmid: int
    port: int
    issued_at: float


class Passes:
    """`seconds` is the life of a pass that nobody renews, `vouched_seconds` how long the word of the store on a
    session counts: at most as long as the access table remembers revocations."""

    def __init__(
        self,
        database: Database,
        signer: Signer,
        access: AccessTable,
        *,
        seconds: float,
        vouched_seconds: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.seconds = seconds
        self.vouched_seconds = vouched_seconds
        self._database = database
        self._signer = signer
        self._access = access
        self._now = now
        self._good: dict[str, Pass] = {}
        self._vouched: dict[str, tuple[float, float]] = {}

    async def issue(self, principal: Principal, place: Place) -> str:
        """Raises UnauthenticatedError where the session has ended, StoreUnavailable."""
        ends_at = await self.vouch(principal)
        return self._signer.sign(
            PASS,
            principal.account_id,
            principal.session_id,
            min(self.seconds, ends_at - self._now()),
            principal.acting,
            vmid=place.vmid,
            port=place.port or IDE,
        )

    def read(self, token: str, place: Place) -> Pass:
        """Raises UnauthenticatedError for everything but a good pass of ours to that place."""
        known = self._good.get(token) or self._read(token)
        if known.expires_at <= self._now():
            self._good.pop(token, None)
            raise UnauthenticatedError("the visit has expired", code="token_expired")
        if self._signer.keyring.verifying(known.kid) is None:
            raise UnauthenticatedError("the pass was withdrawn", code="signed_out")
        if (known.vmid, known.port) != (place.vmid, place.port or IDE):
            raise UnauthenticatedError("the pass is for another place")
        return known

    def recognise(self, token: str, place: Place) -> Pass | None:
        """One that was read before, if it is still good and too young to be renewed. Raises as `read`."""
        known = self._good.get(token)
        if known is None or known.issued_at + self.vouched_seconds / 2 <= self._now():
            return None
        return self.read(token, place)

    async def holder(self, found: Pass) -> Principal:
        """Who holds it, for as long as that sign-in lives. Asks the store where its word is too old. Raises
        UnauthenticatedError, StoreUnavailable."""
        principal = self._access.holder(found.claims)
        if found.issued_at + self.vouched_seconds <= self._now():
            await self.vouch(principal)
            # What was revoked meanwhile is known by now.
            principal = self._access.holder(found.claims)
        return principal

    async def vouch(self, principal: Principal) -> float:
        """When a session ends that is alive, in Unix seconds, as the store says now or said a moment ago; inf for an
        API key's. Raises UnauthenticatedError, StoreUnavailable."""
        session_id, now = principal.session_id, self._now()
        if session_id.startswith(KEY_SESSION):
            return inf
        said_at, ends_at = self._vouched.get(session_id, (-inf, 0.0))
        if said_at + self.vouched_seconds / 2 <= now or ends_at <= now:
            ends_at = await self._database.run(_end_of, session_id, datetime.fromtimestamp(now, UTC))
            self._vouched.pop(session_id, None)
            self._vouched[session_id] = now, ends_at
        # The oldest word comes first.
        while len(self._vouched) > REMEMBERED:
            del self._vouched[next(iter(self._vouched))]
        return ends_at

    async def renewed(self, found: Pass, principal: Principal, place: Place) -> str | None:
        """A fresh pass in place of one that is half a vouched time old; None for a younger one, and while the store
        cannot say that the session lives. Raises UnauthenticatedError."""
        if found.issued_at + self.vouched_seconds / 2 > self._now():
            return None
        try:
            return await self.issue(principal, place)
        except StoreUnavailable:
            return None

    def _read(self, token: str) -> Pass:
        claims, body = self._signer.read(PASS, token, self.seconds)
        if type(body["vmid"]) is not int or type(body["port"]) is not int:
            raise UnauthenticatedError("the pass is not valid")
        kid: str = jwt.get_unverified_header(token)["kid"]
        lasting = claims if claims.acting is not None else replace(claims, expires_at=inf)
        found = Pass(lasting, claims.expires_at, kid, body["vmid"], body["port"], float(body["iat"]))
        if len(self._good) >= REMEMBERED:
            del self._good[next(iter(self._good))]
        self._good[token] = found
        return found


def _end_of(connection: sa.Connection, session_id: str, now: datetime) -> float:
    """Unix seconds. Raises UnauthenticatedError where it has come."""
    session = sessions.get(connection, session_id)
    if session is None or not session.live(now):
        raise UnauthenticatedError("the sign-in has ended", code="signed_out")
    return session.expires_at.timestamp()
