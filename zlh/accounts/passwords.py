"""Password hashes: argon2id, in worker threads of their own number, so that fifty sign-ins cannot stall the loop.

Accounts that came from an older installation have bcrypt hashes, which verify here until their owner signs in and
gets an argon2id hash instead.
"""

from __future__ import annotations

import functools
import secrets
import unicodedata
from typing import Final

import argon2
import bcrypt
import trio

from zlh.model.errors import UnavailableError

BCRYPT: Final = ("$2a$", "$2b$", "$2y$")
BCRYPT_LONGEST: Final = 72
"""Bytes: what comes after them never counted."""

MOST_WAITING: Final = 200
"""Who comes after so many others would be answered too late to be of use."""


class Passwords:
    """Hashes and verifies. One hash takes `memory_kib`, `passes` over it in `lanes`, and one of `threads` threads.

    `hash` and `verify` raise UnavailableError "busy" where too many wait already.
    """

    def __init__(self, *, memory_kib: int, passes: int, lanes: int, threads: int) -> None:
        self._hasher = argon2.PasswordHasher(time_cost=passes, memory_cost=memory_kib, parallelism=lanes)
        self._limiter = trio.CapacityLimiter(threads)

    @classmethod
    def cheap(cls) -> Passwords:
        """Parameters for tests: a hash in well under a millisecond, worth nothing against an attacker."""
        return cls(memory_kib=64, passes=1, lanes=1, threads=2)

    @functools.cached_property
    def _nobodys(self) -> str:
        """A hash with the present parameters that no password matches: what an unknown user is compared with."""
        return self._hasher.hash(secrets.token_urlsafe(32))

    async def hash(self, password: str) -> str:
        self._refuse_crowds()
        return await trio.to_thread.run_sync(self._hasher.hash, _stable(password), limiter=self._limiter)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether `password` made `stored`. None, an unknown user, is always false and costs what an account with a
        hash of ours costs. One whose hash is bcrypt's, at the usual cost of 10 to 12, takes from a third to twice as
        long: until its owner has signed in once, the time tells that there is such an account."""
        self._refuse_crowds()
        return await trio.to_thread.run_sync(self._verify, stored, password, limiter=self._limiter)

    def outdated(self, stored: str) -> bool:
        """Whether `stored`, which verified, was made in another way than hashes are made now."""
        return stored.startswith(BCRYPT) or self._hasher.check_needs_rehash(stored)

    def _refuse_crowds(self) -> None:
        if self._limiter.statistics().tasks_waiting >= MOST_WAITING:
            raise UnavailableError("too many people sign in at once; try again", code="busy", retry_after=5)

    def _verify(self, stored: str | None, password: str) -> bool:
        if stored is not None and stored.startswith(BCRYPT):
            return _verify_bcrypt(stored, password)
        try:
            self._hasher.verify(stored or self._nobodys, _stable(password))
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
        return stored is not None


def _stable(password: str) -> str:
    """One keyboard sends an accented letter as one character, another as two."""
    return unicodedata.normalize("NFC", password)


def _verify_bcrypt(stored: str, password: str) -> bool:
    try:
        return bcrypt.checkpw(password.encode()[:BCRYPT_LONGEST], stored.encode())
    except ValueError:  # a hash that was cut off, or never was one
        return False
