"""The retained lines of one console, and their numbers. Nothing in here waits or reads a clock.

An agent that numbers its lines says since when it counts, its epoch. A line's number towards viewers is made of both,
so that it is the same after a restart of ours, and later epochs have higher numbers. Lines of other agents are
numbered here, from the moment they come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from zlh.model.console import Batch, Line, Stretch

EPOCH_BITS = 11
"""An epoch's milliseconds are shifted by so much: it has room for two million lines a second before the numbers of a
later one begin, and numbers fit into the 53 bits of a JSON number until 2109."""

CONVINCING = 3
"""So many equal lines in a row are no coincidence."""


@dataclass(frozen=True, slots=True)
class Gap:
    """So many lines are missing here; None: nobody knows how many, if any."""

    dropped: int | None


Piece = Batch | Gap


class Run:
    """Lines of one epoch without a gap between them, behind a gap of `dropped` lines. The epoch's numbers begin at
    `base`."""

    __slots__ = ("base", "dropped", "first", "lines")

    def __init__(self, base: int, first: int, dropped: int | None) -> None:
        self.base = base
        self.first = first
        self.dropped = dropped
        self.lines: deque[Line] = deque()

    @property
    def end(self) -> int:
        """The number that the next line has."""
        return self.first + len(self.lines)

    def forget(self, count: int) -> None:
        for _ in range(count):
            self.lines.popleft()
        self.first += count


class Tape:
    """Keeps the newest `kept` lines once it is trimmed."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._runs: deque[Run] = deque()
        self._size = 0
        self._next = 0
        self._epoch: int | None = None
        self._offset = 0

    def __len__(self) -> int:
        return self._size

    def missing(self, newest: Stretch, asked: Sequence[int]) -> int:
        """From which number on an agent with these newest lines has to tell more, so that nothing is missing: not
        after what is known of that epoch, or what viewers `asked` to see what comes after."""
        assert newest.epoch is not None
        assert newest.first is not None
        if self._runs and newest.epoch == self._epoch:
            return min(newest.first, self._next - self._offset)
        base = newest.epoch << EPOCH_BITS
        return min([newest.first, *(seq + 1 - base for seq in asked if base <= seq)])

    def take(self, stretch: Stretch, at: float) -> list[Piece]:
        """What is new in numbered lines that came at `at`, with the gaps between."""
        assert stretch.epoch is not None
        assert stretch.first is not None
        pieces: list[Piece] = []
        if not self._runs or stretch.epoch != self._epoch:
            pieces += self._begin_epoch(stretch.epoch, stretch.first, at)
        first = self._offset + stretch.first
        if first > self._next:
            dropped = first - self._next
            pieces.append(Gap(dropped))
            self._begin(self._runs[-1].base, first, dropped)
        lines = stretch.lines[self._next - first :]
        return [*pieces, self._add(lines, at)] if lines else pieces

    def append(self, lines: Sequence[str], at: float) -> Batch:
        """Lines of an agent without numbers, which follow what came before."""
        self._count_ourselves(at)
        return self._add(lines, at)

    def join(self, told: Sequence[str], at: float) -> list[Piece]:
        """What is new in the newest lines of an agent without numbers, after some time in which we did not listen:
        nothing twice, and a gap wherever it is not certain that nothing is missing."""
        fresh = not self._size
        known = self._newest(len(told)) if self._epoch is None else []
        self._count_ourselves(at)
        new, certain = following(known, told)
        pieces: list[Piece] = []
        if not fresh and not certain:
            pieces.append(self._interrupt())
        return [*pieces, self._add(new, at)] if new else pieces

    def interrupt(self) -> list[Piece]:
        """Something may be missing from here on."""
        return [self._interrupt()] if self._size else []

    def trim(self) -> None:
        while self._size > self._kept:
            run = self._runs[0]
            count = min(len(run.lines), self._size - self._kept)
            run.forget(count)
            self._size -= count
            if not run.lines and len(self._runs) > 1:
                self._runs.popleft()

    def replay(self, after: int | None) -> Iterator[Piece]:
        """All that is retained after that number."""
        if after is None:
            yield from self._from(0, None)
            return
        for index, run in enumerate(self._runs):
            if max(run.base, run.first - 1) <= after < run.end:
                yield from self._from(index, after)
                return
            if run.base <= after < run.first:
                yield Gap(run.first - after - 1)
                yield from self._from(index, None)
                return
        # A number of an epoch of which nothing is left, or one that was never given.
        yield Gap(None)
        yield from self._from(0, None)

    def _from(self, index: int, after: int | None) -> Iterator[Piece]:
        for position, run in enumerate(islice(self._runs, index, None)):
            if position:
                yield Gap(run.dropped)
            skip = 0 if position or after is None else after + 1 - run.first
            lines = tuple(islice(run.lines, skip, None))
            if lines:
                yield Batch(lines)

    def _newest(self, count: int) -> list[str]:
        lines = (line.text for run in reversed(self._runs) for line in reversed(run.lines))
        return list(islice(lines, count))[::-1]

    def _begin_epoch(self, epoch: int, first: int, at: float) -> list[Piece]:
        known = bool(self._runs)
        self._epoch = epoch
        self._offset = epoch << EPOCH_BITS
        if known and self._offset + first <= self._next:
            # Its clock was set back. Numbers never fall, so these have nothing to do with the agent's any more.
            self._offset = self._own_base(at) - first
            self._begin(self._offset + first, self._offset + first, None)
        else:
            self._begin(self._offset, self._offset + first, None)
        return [Gap(None)] if known else []

    def _count_ourselves(self, at: float) -> None:
        if self._runs and self._epoch is None:
            return
        base = self._own_base(at)
        self._epoch = None
        self._begin(base, base, None)

    def _own_base(self, at: float) -> int:
        return max(int(at * 1000) << EPOCH_BITS, self._next + 1)

    def _interrupt(self) -> Gap:
        self._begin(self._next, self._next, None)
        return Gap(None)

    def _begin(self, base: int, first: int, dropped: int | None) -> None:
        # Of one without lines nobody saw anything; what was missing before it is missing now, and more.
        if self._runs and not self._runs[-1].lines and self._runs.pop().dropped is None:
            dropped = None
        self._runs.append(Run(base, first, dropped))
        self._next = first

    def _add(self, texts: Sequence[str], at: float) -> Batch:
        lines = tuple([Line(seq, at, text) for seq, text in enumerate(texts, self._next)])
        self._runs[-1].lines.extend(lines)
        self._next += len(lines)
        self._size += len(lines)
        return Batch(lines)


def following(known: Sequence[str], told: Sequence[str]) -> tuple[Sequence[str], bool]:
    """Which of the lines `told` follow those `known`, found by comparing them; and whether that is certain. Where
    more than one place fits, it is the last: no line is ever told twice."""
    ends = [end for end in range(len(told), 0, -1) if _fits(known, told, end)]
    if not ends:
        return told, False
    (end, *others) = ends
    convincing = min(end, len(known)) >= min(CONVINCING, len(known))
    return told[end:], convincing and not others


def _fits(known: Sequence[str], told: Sequence[str], end: int) -> bool:
    """Whether `told` up to `end` is how `known` ends, as far as both reach."""
    common = min(end, len(known))
    if not common or told[end - 1] != known[-1]:
        return False
    return list(told[end - common : end]) == list(known[len(known) - common :])
