"""The signing keys in memory: every process signs, verifies and publishes with the same ones."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from zlh.accounts.key_life import KeyState, ends, states
from zlh.store.keys import SigningKey


@dataclass(frozen=True, slots=True)
class Pair:
    """One key, ready for use."""

    kid: str
    private: Ed25519PrivateKey = field(repr=False)
    public: Ed25519PublicKey


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


class Keyring:
    """`alive_seconds` is for how long after its last signature a key still verifies: longer than any token lives.

    Raises ValueError for a key that is not Ed25519.
    """

    def __init__(
        self, keys: Sequence[SigningKey], *, alive_seconds: float, now: Callable[[], float] = time.time
    ) -> None:
        self._alive = timedelta(seconds=alive_seconds)
        self._now = now
        self._keys: list[SigningKey] = []
        self._pairs: dict[str, Pair] = {}
        self._ends: dict[str, float] = {}
        self.hold(keys)

    def hold(self, keys: Sequence[SigningKey]) -> bool:
        """From now on these are all keys. True where one that was good here has been withdrawn."""
        withdrawn = {key.kid for key in keys if key.withdrawn_at is not None}
        lost = not withdrawn.isdisjoint(self._pairs)
        self._pairs = {key.kid: self._pairs.get(key.kid) or _pair(key) for key in keys if key.kid not in withdrawn}
        self._keys = list(keys)
        self._ends = ends(keys, self._alive)
        return lost

    def states(self) -> dict[str, KeyState]:
        return states(self._keys, datetime.fromtimestamp(self._now(), UTC), self._alive)

    def signing(self) -> Pair:
        """The one that signs now."""
        kid = next(kid for kid, state in self.states().items() if state is KeyState.SIGNING)
        return self._pairs[kid]

    def verifying(self, kid: object) -> Ed25519PublicKey | None:
        """The public key of that name, whatever was given as one; None where there is none that verifies."""
        pair = self._pairs.get(kid) if isinstance(kid, str) else None
        return pair.public if pair is not None and self._now() <= self._ends[pair.kid] else None

    def published(self) -> list[Pair]:
        """All that verify, the one that signs first."""
        found = [(state is not KeyState.SIGNING, kid) for kid, state in self.states().items() if state.verifies]
        return [self._pairs[kid] for _, kid in sorted(found)]


def _pair(key: SigningKey) -> Pair:
    private = serialization.load_pem_private_key(key.private_pem, password=None)
    if not isinstance(private, Ed25519PrivateKey):
        raise ValueError("a signing key is not an Ed25519 key")
    return Pair(key.kid, private, private.public_key())
