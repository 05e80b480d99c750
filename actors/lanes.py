"""Lane scheduling as plain objects: what is queued, what may be handled next, what is counted. No trio in here.

A lane never looks at another lane. That is the whole trick behind "kill works while stop hangs".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


@dataclass(frozen=True, slots=True)
class Lane:
    """At most `capacity` envelopes wait, at most `concurrency` are handled at once, first come first served."""

    name: str
    capacity: int = 64
    concurrency: int = 1

    def __post_init__(self) -> None:
        if not self.name or self.capacity < 1 or self.concurrency < 1:
            raise ValueError(f"a lane needs a name, and at least one place and one handler: {self}")


DEFAULT_LANES = (Lane("urgent", 8, 2), Lane("exclusive", 32, 1), Lane("shared", 64, 8))


class Timed(Protocol):
    """What a lane must know of an envelope, in seconds of one monotonic clock."""

    offered_at: float
    deadline: float


T = TypeVar("T", bound=Timed)


class LaneQueue(Generic[T]):
    """One lane's envelopes. Every offered envelope ends up in exactly one of `handled`, `failed`, `dropped`.

    >>> queue = LaneQueue(Lane("exclusive"))
    >>> queue.next(now=0.0) is None
    True
    """

    __slots__ = ("_waiting", "dropped", "failed", "handled", "in_flight", "lane")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self._waiting: deque[T] = deque()
        self.in_flight = 0
        self.handled = 0
        self.failed = 0
        self.dropped = 0

    @property
    def depth(self) -> int:
        """How many envelopes wait."""
        return len(self._waiting)

    def oldest_age(self, now: float) -> float | None:
        """Seconds that the first in line has waited; None when nobody waits."""
        return max(0.0, now - self._waiting[0].offered_at) if self._waiting else None

    def offer(self, envelope: T, now: float) -> bool:
        """Queues the envelope; False when the lane is full of envelopes that are still wanted."""
        if len(self._waiting) >= self.lane.capacity:
            self.expire(now)
            if len(self._waiting) >= self.lane.capacity:
                return False
        self._waiting.append(envelope)
        return True

    def next(self, now: float) -> T | None:
        """Takes the next envelope that is still wanted, or None when none waits or all handlers are busy.

        The caller owes a `done` for it. Envelopes past their deadline on the way are dropped.
        """
        if self.in_flight >= self.lane.concurrency:
            return None
        while self._waiting:
            envelope = self._waiting.popleft()
            if envelope.deadline > now:
                self.in_flight += 1
                return envelope
            self.dropped += 1
        return None

    def done(self, *, ok: bool) -> None:
        """An envelope that `next` gave out was handled, or failed."""
        if self.in_flight < 1:
            raise RuntimeError(f"lane {self.lane.name!r}: done without next")
        self.in_flight -= 1
        if ok:
            self.handled += 1
        else:
            self.failed += 1

    def withdraw(self, envelope: T) -> bool:
        """Drops one waiting envelope, whose asker went away; False when it does not wait here (any more)."""
        try:
            self._waiting.remove(envelope)
        except ValueError:
            return False
        self.dropped += 1
        return True

    def expire(self, now: float) -> list[T]:
        """Drops and returns the envelopes past their deadline."""
        late = [envelope for envelope in self._waiting if envelope.deadline <= now]
        if late:
            self._waiting = deque(envelope for envelope in self._waiting if envelope.deadline > now)
            self.dropped += len(late)
        return late

    def clear(self) -> list[T]:
        """Drops and returns everything that waits."""
        waiting = list(self._waiting)
        self._waiting.clear()
        self.dropped += len(waiting)
        return waiting


def unique(lanes: Iterable[Lane]) -> tuple[Lane, ...]:
    """The lanes as a tuple. ValueError when there is none or when two have the same name."""
    found = tuple(lanes)
    if not found or len({lane.name for lane in found}) != len(found):
        raise ValueError(f"lanes need distinct names: {[lane.name for lane in found]}")
    return found
