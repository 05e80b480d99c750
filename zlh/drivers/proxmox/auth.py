"""How we prove to Proxmox who we are: an API token in a header, or a ticket with its CSRF token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

import trio

from zlh.drivers.errors import Invalid, Refused

# A ticket is good for 2 h; renewed early enough that a slow request does not outlive it.
RENEW_AFTER_SECONDS = 90 * 60


@dataclass(frozen=True, slots=True)
class TokenAuth:
    """An API token. `token_id` is `user@realm!name`, `secret` its UUID."""

    token_id: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TicketAuth:
    """A user who signs in. `username` has its realm (`root@pam`)."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Proof:
    """The headers of one request that prove who asks. Two proofs are the same only if they are one object."""

    headers: dict[str, str] = field(repr=False)


class Signer(Protocol):
    """Where requests get their proof from."""

    async def proof(self, *, mutation: bool) -> Proof: ...

    def rejected(self, proof: Proof) -> bool:
        """Proxmox answered 401 to this proof; True if a new one may be tried."""


SignIn = Callable[[str, str], Awaitable[object]]
"""Sends (username, password) to POST /access/ticket and returns `data` of the answer."""


def signer(auth: TokenAuth | TicketAuth, sign_in: SignIn) -> Signer:
    if isinstance(auth, TokenAuth):
        return TokenSigner(auth)
    return TicketSigner(auth, sign_in)


class TokenSigner:
    """Tokens need no CSRF token and do not expire by themselves."""

    def __init__(self, auth: TokenAuth) -> None:
        self._proof = Proof({"Authorization": f"PVEAPIToken={auth.token_id}={auth.secret}"})

    async def proof(self, *, mutation: bool) -> Proof:
        return self._proof

    def rejected(self, proof: Proof) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class _Ticket:
    reading: Proof
    writing: Proof
    since: float


class TicketSigner:
    """Signs in on the first request, again before the ticket expires, and after a 401."""

    def __init__(self, auth: TicketAuth, sign_in: SignIn) -> None:
        self._auth = auth
        self._sign_in = sign_in
        self._ticket: _Ticket | None = None
        self._signing_in = trio.Lock()

    async def proof(self, *, mutation: bool) -> Proof:
        """Raises what the sign-in raises; Refused for a wrong password or a second factor."""
        ticket = self._fresh()
        if ticket is None:
            async with self._signing_in:
                # Whoever waited for the lock finds the ticket that the first one fetched.
                ticket = self._fresh() or await self._fetch()
        return ticket.writing if mutation else ticket.reading

    def rejected(self, proof: Proof) -> bool:
        ticket = self._ticket
        if ticket is not None and proof in (ticket.reading, ticket.writing):
            self._ticket = None
        return True

    def _fresh(self) -> _Ticket | None:
        ticket = self._ticket
        if ticket is None or trio.current_time() - ticket.since > RENEW_AFTER_SECONDS:
            return None
        return ticket

    async def _fetch(self) -> _Ticket:
        since = trio.current_time()
        data = await self._sign_in(self._auth.username, self._auth.password)
        self._ticket = _ticket(data, since)
        return self._ticket


def _ticket(data: object, since: float) -> _Ticket:
    if not isinstance(data, dict):
        raise Invalid("the sign-in's answer is not an object")
    if data.get("NeedTFA"):
        raise Refused("this user needs a second factor; use an API token", status=401)
    ticket, csrf = data.get("ticket"), data.get("CSRFPreventionToken")
    if not isinstance(ticket, str) or not isinstance(csrf, str) or not _header_safe(ticket + csrf):
        raise Invalid("the sign-in's answer has no ticket and CSRF token")
    cookie = {"Cookie": f"PVEAuthCookie={ticket}"}
    return _Ticket(Proof(cookie), Proof(cookie | {"CSRFPreventionToken": csrf}), since)


def _header_safe(text: str) -> bool:
    return text.isascii() and text.isprintable() and ";" not in text
