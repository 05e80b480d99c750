"""Password hashes: argon2id, in worker threads of their own number, so that fifty sign-ins cannot stall the loop."""

from __future__ import annotations

import functools
import secrets

import argon2
import trio

SHORTEST = 8
LONGEST = 128


class Passwords:
    """Hashes and verifies. One hash takes `memory_kib`, `passes` over it in `lanes`, and one of `threads` threads."""

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
        return await trio.to_thread.run_sync(self._hasher.hash, password, limiter=self._limiter)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether `password` made `stored`. None, an unknown user, costs the same and is always false."""
        return await trio.to_thread.run_sync(self._verify, stored, password, limiter=self._limiter)

    def outdated(self, stored: str) -> bool:
        """Whether `stored` was made with other parameters than the present ones."""
        return self._hasher.check_needs_rehash(stored)

    def _verify(self, stored: str | None, password: str) -> bool:
        try:
            self._hasher.verify(stored or self._nobodys, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
        return stored is not None
