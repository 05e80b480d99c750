"""Signed tokens (JWT, RFC 7519 and 8725): written and read in one way for every kind of them.

    header   {"alg": "EdDSA", "typ", "kid"}, nothing else
    claims   {"iss", "aud", "sub": account id, "sid": session id, "iat", "exp"}, what the kind adds,
             and {"act": {"sub": operator's id, "ro": read-only}} (RFC 8693) of an operator in a customer's place

The algorithm, the type and the audience are ours to choose, never the token's: no kind is accepted as another one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt

from zlh.accounts.keyring import Keyring
from zlh.model.accounts import Acting
from zlh.model.errors import UnauthenticatedError

ALGORITHM = "EdDSA"
CLOCK_SKEW_SECONDS = 60
LONGEST_TOKEN = 4096

HEADER = {"alg", "typ", "kid"}
CLAIMS = ["iss", "aud", "sub", "sid", "iat", "exp"]
# An Ed25519 signature has 64 bytes.
COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}", re.ASCII)
ACCOUNT_ID = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
SESSION_ID = re.compile(r"[A-Za-z0-9:_-]{1,80}", re.ASCII)
LATEST = 2**40


@dataclass(frozen=True, slots=True)
class Kind:
    """`audience` is what follows the issuer in `aud`; `also` are the claims that this kind adds."""

    name: str
    type: str
    audience: str
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Claims:
    """What a good token says. `expires_at` is Unix seconds."""

    account_id: int
    session_id: str
    expires_at: float
    acting: Acting | None = None


class Signer:
    def __init__(self, keyring: Keyring, *, issuer: str, now: Callable[[], float] = time.time) -> None:
        self.keyring = keyring
        self._issuer = issuer
        self._now = now

    def sign(
        self, kind: Kind, account_id: int, session_id: str, seconds: float, acting: Acting | None = None, **also: Any
    ) -> str:
        issued = int(self._now())
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "aud": f"{self._issuer}/{kind.audience}",
            "sub": str(account_id),
            "sid": session_id,
            "iat": issued,
            "exp": issued + int(seconds),
            **also,
        }
        if acting is not None:
            claims["act"] = {"sub": str(acting.operator_id), "ro": acting.read_only}
        pair = self.keyring.signing()
        return jwt.encode(claims, pair.private, algorithm=ALGORITHM, headers={"kid": pair.kid, "typ": kind.type})

    def read(self, kind: Kind, token: str, seconds: float) -> tuple[Claims, dict[str, Any]]:
        """What the token says, and all its claims. No token lives longer than `seconds` from when it was issued,
        whatever it says. Raises UnauthenticatedError for everything but an unexpired token of that kind of ours."""
        try:
            body = self._open(kind, token)
            claims = self._claims(body, seconds)
        except (jwt.PyJWTError, KeyError, TypeError, ValueError, RecursionError):
            raise UnauthenticatedError(f"the {kind.name} is not valid") from None
        if claims.expires_at <= self._now():
            raise UnauthenticatedError(f"the {kind.name} has expired", code="token_expired")
        return claims, body

    def issued(self, token: str) -> bool:
        """Whether this claims to be a token of ours, of any kind; nothing is verified."""
        if len(token) > LONGEST_TOKEN or COMPACT.fullmatch(token) is None:
            return False
        try:
            said = jwt.decode(token, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError):
            return False
        return said.get("iss") == self._issuer

    def _open(self, kind: Kind, token: str) -> dict[str, Any]:
        if len(token) > LONGEST_TOKEN or COMPACT.fullmatch(token) is None:
            raise ValueError("not a token")
        header = jwt.get_unverified_header(token)
        key = self.keyring.verifying(header.get("kid"))
        if header.keys() != HEADER or header["typ"] != kind.type or key is None:
            raise ValueError("not a token of this kind")
        return jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            audience=f"{self._issuer}/{kind.audience}",
            issuer=self._issuer,
            # Times are checked here, against our clock.
            options={
                "require": [*CLAIMS, *kind.also],
                "strict_aud": True,
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )

    def _claims(self, body: dict[str, Any], seconds: float) -> Claims:
        issued, expires = _seconds(body["iat"]), _seconds(body["exp"])
        if max(issued, _seconds(body.get("nbf", 0))) > self._now() + CLOCK_SKEW_SECONDS:
            raise ValueError("from the future")
        if SESSION_ID.fullmatch(body["sid"]) is None:
            raise ValueError("no session")
        until = min(expires, issued + seconds)
        return Claims(_account_id(body["sub"]), body["sid"], float(until), _acting(body.get("act")))


def _seconds(claim: Any) -> int:
    if type(claim) is not int or not 0 <= claim < LATEST:
        raise ValueError("not a time")
    return claim


def _account_id(claim: Any) -> int:
    if ACCOUNT_ID.fullmatch(claim) is None:
        raise ValueError("not an account")
    return int(claim)


def _acting(claim: Any) -> Acting | None:
    if claim is None:
        return None
    if type(claim["ro"]) is not bool:
        raise ValueError("neither read-only nor not")
    return Acting(_account_id(claim["sub"]), claim["ro"])
