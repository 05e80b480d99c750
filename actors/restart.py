"""Whether, and when, a child that ended is started again. Pure: clock and dice come from outside."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum


class Restart(Enum):
    PERMANENT = "permanent"  # always; returning counts as a crash
    TRANSIENT = "transient"  # after a crash only
    TEMPORARY = "temporary"  # never


@dataclass(frozen=True, slots=True)
class Intensity:
    """More than `crashes` within `period` seconds is too much: the child is quarantined, and tried again after
    `retry` seconds. A child that has been up for `period` seconds has a clean record."""

    crashes: int = 5
    period: float = 60.0
    retry: float = 300.0

    def __post_init__(self) -> None:
        if self.crashes < 0 or self.period <= 0 or self.retry <= 0:
            raise ValueError(f"an intensity needs a positive period and retry: {self}")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds before the n-th restart in a row: `first * factor**n`, at most `cap`, and of that a random share of
    up to `jitter` less, so that what broke together does not come back together."""

    first: float = 0.1
    factor: float = 2.0
    cap: float = 30.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        if self.first < 0 or self.factor < 1 or self.cap < self.first or not 0 <= self.jitter <= 1:
            raise ValueError(f"not a backoff: {self}")

    def delay(self, n: int, rng: random.Random) -> float:
        # The exponent is bounded because a float power overflows long before a child stops crashing.
        whole = min(self.cap, self.first * self.factor ** min(n, 64))
        return whole * (1 - self.jitter * rng.random())


@dataclass(frozen=True, slots=True)
class Again:
    """Start it again after `delay` seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Leave it down, and try it once after `retry` seconds."""

    retry: float


@dataclass(frozen=True, slots=True)
class Finish:
    """Leave it down for good."""


Decision = Again | Quarantine | Finish


class RestartPolicy:
    """The crash history of one child, and what follows from it.

    After a quarantine that ended by itself the child is on probation: one more crash, before it has been up for a
    whole period, sends it straight back. After `forgive` it has its full budget again.
    """

    __slots__ = ("_crashes", "_probation", "_streak", "backoff", "intensity", "restart")

    def __init__(self, restart: Restart, intensity: Intensity, backoff: Backoff) -> None:
        self.restart = restart
        self.intensity = intensity
        self.backoff = backoff
        self._crashes: list[float] = []
        self._streak = 0
        self._probation = False

    def crashed(self, now: float, *, uptime: float, rng: random.Random) -> Decision:
        """`uptime` is how long it had been up, in seconds; 0 when it crashed while starting."""
        if self.restart is Restart.TEMPORARY:
            return Finish()
        if uptime >= self.intensity.period:
            self.forgive()
        self._crashes = [crash for crash in self._crashes if crash > now - self.intensity.period]
        self._crashes.append(now)
        if self._probation or len(self._crashes) > self.intensity.crashes:
            return Quarantine(self.intensity.retry)
        self._streak += 1
        return Again(self.backoff.delay(self._streak - 1, rng))

    def returned(self, now: float, *, uptime: float, rng: random.Random) -> Decision:
        """It ended without being asked and without an error."""
        if self.restart is Restart.PERMANENT:
            return self.crashed(now, uptime=uptime, rng=rng)
        return Finish()

    def retried(self) -> None:
        """The quarantine ended by itself."""
        self.forgive()
        self._probation = True

    def forgive(self) -> None:
        """Forgets all crashes."""
        self._crashes.clear()
        self._streak = 0
        self._probation = False
