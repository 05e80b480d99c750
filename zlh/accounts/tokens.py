"""Access tokens: short JWTs (RFC 9068) signed with Ed25519. The algorithm is ours, never the token's choice.

    header   {"alg": "EdDSA", "typ": "at+jwt", "kid"}
    claims   {"iss", "aud": "<iss>/api", "sub": account id, "sid": session id, "iat", "exp"}
             and {"act": {"sub": operator's id, "ro": read-only}} (RFC 8693) of an operator in a customer's place

A signature costs 60 us to verify, a request much less: tokens that were found good are remembered until they expire.
What a token's session or account may do now is not the token's to say; see `zlh.accounts.access`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt
import sqlalchemy as sa
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from zlh.model.accounts import Acting
from zlh.model.errors import UnauthenticatedError
from zlh.store import keys as stored_keys
from zlh.store.database import Database
from zlh.store.keys import SigningKey
from zlh.store.vault import Vault

ALGORITHM = "EdDSA"
TYPE = "at+jwt"
LONGEST_TOKEN = 4096
CLOCK_SKEW_SECONDS = 60
CLAIMS = ["iss", "aud", "sub", "sid", "iat", "exp"]


@dataclass(frozen=True, slots=True)
class Claims:
    """What a good token says. `expires_at` is Unix seconds."""

    account_id: int
    session_id: str
    expires_at: float
    acting: Acting | None = None


def make_key() -> tuple[str, bytes, str]:
    """A new signing key: (kid, private key as PEM, public key as PEM)."""
    private = Ed25519PrivateKey.generate()
    private_pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public_pem = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return secrets.token_urlsafe(9), private_pem, public_pem.decode("ascii")


class Tokens:
    """Issues with the newest of `keys`, verifies with all of them (the newest first, as the store gives them)."""

    def __init__(
        self,
        keys: Sequence[SigningKey],
        *,
        issuer: str,
        lifetime_seconds: float,
        now: Callable[[], float] = time.time,
        remembered: int = 20_000,
    ) -> None:
        self._kid = keys[0].kid
        self._private = _private(keys[0].private_pem)
        self._public = {key.kid: _public(key.public_pem) for key in keys}
        self._issuer = issuer
        self._audience = f"{issuer}/api"
        self.lifetime_seconds = lifetime_seconds
        self._now = now
        self._most = remembered
        self._good: dict[str, Claims] = {}

    def issue(self, account_id: int, session_id: str, acting: Acting | None = None) -> str:
        issued = int(self._now())
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": str(account_id),
            "sid": session_id,
            "iat": issued,
            "exp": issued + int(self.lifetime_seconds),
        }
        if acting is not None:
            claims["act"] = {"sub": str(acting.operator_id), "ro": acting.read_only}
        headers = {"kid": self._kid, "typ": TYPE}
        return jwt.encode(claims, self._private, algorithm=ALGORITHM, headers=headers)

    def verify(self, token: str) -> Claims:
        """Raises UnauthenticatedError for everything but a token of ours that is still good."""
        claims = self._good.get(token)
        if claims is None:
            claims = self._check(token)
            self._remember(token, claims)
        if claims.expires_at <= self._now():
            self._good.pop(token, None)
            raise UnauthenticatedError("the sign-in has expired", code="token_expired")
        return claims

    def forget(self, session_id: str) -> None:
        """Drops what is remembered of a session's tokens."""
        for token in [token for token, claims in self._good.items() if claims.session_id == session_id]:
            del self._good[token]

    def _remember(self, token: str, claims: Claims) -> None:
        if len(self._good) >= self._most:
            now = self._now()
            self._good = {old: kept for old, kept in self._good.items() if kept.expires_at > now}
        if len(self._good) >= self._most:
            # All live equally long, so the first one in is about the first to expire.
            del self._good[next(iter(self._good))]
        self._good[token] = claims

    def _check(self, token: str) -> Claims:
        if len(token) > LONGEST_TOKEN:
            raise UnauthenticatedError("the access token is not valid")
        try:
            header = jwt.get_unverified_header(token)
            if header.get("typ") != TYPE:
                raise jwt.InvalidTokenError("not an access token")
            body = jwt.decode(
                token,
                self._public[header["kid"]],
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=self._issuer,
                # Times are checked here, against our clock.
                options={"require": CLAIMS, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )
            return self._claims(body)
        except (jwt.PyJWTError, KeyError, TypeError, ValueError, RecursionError):
            raise UnauthenticatedError("the access token is not valid") from None

    def _claims(self, body: dict[str, Any]) -> Claims:
        issued, expires, session = body["iat"], body["exp"], body["sid"]
        if type(issued) is not int or type(expires) is not int or not isinstance(session, str):
            raise ValueError("claims of the wrong type")
        if max(issued, body.get("nbf", 0)) > self._now() + CLOCK_SKEW_SECONDS:
            raise ValueError("from the future")
        return Claims(int(body["sub"]), session, float(expires), _acting(body.get("act")))


def _acting(claim: Any) -> Acting | None:
    return None if claim is None else Acting(int(claim["sub"]), claim["ro"] is not False)


async def open_tokens(database: Database, vault: Vault, *, issuer: str, lifetime_seconds: float) -> Tokens:
    """With the keys that the database holds; makes the first one where there is none."""

    def read(connection: sa.Connection) -> list[SigningKey]:
        stored_keys.ensure_signing_key(connection, vault, make_key, datetime.now(UTC))
        return stored_keys.all_keys(connection, vault)

    return Tokens(await database.run(read), issuer=issuer, lifetime_seconds=lifetime_seconds)


def _private(pem: bytes) -> Ed25519PrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("a signing key is not an Ed25519 key")
    return key


def _public(pem: str) -> Ed25519PublicKey:
    key = serialization.load_pem_public_key(pem.encode("ascii"))
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("a signing key is not an Ed25519 key")
    return key
