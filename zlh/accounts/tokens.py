"""Access tokens (RFC 9068), what each request brings: typ "at+jwt", aud "<iss>/api".

A signature costs 60 us to verify, a request much less: tokens that were found good are remembered until they expire.
What a token's session or account may do now is not the token's to say; see `zlh.accounts.access`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from zlh.accounts.keyring import Keyring
from zlh.accounts.signer import Claims, Kind, Signer
from zlh.model.accounts import Acting
from zlh.model.errors import UnauthenticatedError

ACCESS = Kind("access token", "at+jwt", "api")


class Tokens:
    """Issues and verifies with the keys of the keyring."""

    def __init__(
        self,
        keyring: Keyring,
        *,
        issuer: str,
        lifetime_seconds: float,
        now: Callable[[], float] = time.time,
        remembered: int = 20_000,
    ) -> None:
        self.signer = Signer(keyring, issuer=issuer, now=now)
        self.lifetime_seconds = lifetime_seconds
        self._now = now
        self._most = remembered
        self._good: dict[str, Claims] = {}

    def issue(self, account_id: int, session_id: str, acting: Acting | None = None) -> str:
        return self.signer.sign(ACCESS, account_id, session_id, self.lifetime_seconds, acting)

    def verify(self, token: str) -> Claims:
        """Raises UnauthenticatedError for everything but a token of ours that is still good."""
        claims = self._good.get(token)
        if claims is None:
            claims, _ = self.signer.read(ACCESS, token, self.lifetime_seconds)
            self._remember(token, claims)
        if claims.expires_at <= self._now():
            self._good.pop(token, None)
            raise UnauthenticatedError("the sign-in has expired", code="token_expired")
        return claims

    def forget_all(self) -> None:
        """Drops all that is remembered: a key was withdrawn, and every signature counts anew."""
        self._good.clear()

    def _remember(self, token: str, claims: Claims) -> None:
        if len(self._good) >= self._most:
            now = self._now()
            self._good = {old: kept for old, kept in self._good.items() if kept.expires_at > now}
        if len(self._good) >= self._most:
            # All live equally long, so the first one in is about the first to expire.
            del self._good[next(iter(self._good))]
        self._good[token] = claims
