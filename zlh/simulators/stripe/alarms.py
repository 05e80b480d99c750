"""What is to happen when time passes. An alarm is not trusted: at its moment the object is looked at again."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass

from zlh.simulators.stripe.book import Book
from zlh.simulators.stripe.clock import Clock, Line
from zlh.simulators.stripe.errors import Document

Due = Callable[[Document], int | None]
Act = Callable[[Document], None]
Entry = tuple[int, int, int, str, str]


@dataclass(frozen=True)
class Rule:
    """When the next thing happens to an object of a kind, and what. Of two at the same moment, the rule that was made
    earlier comes first."""

    rank: int
    due: Due
    act: Act


class Alarms:
    """`line_of` says whose time is that of an object."""

    def __init__(self, book: Book, clock: Clock, line_of: Callable[[Document], Line]) -> None:
        self._book = book
        self._clock = clock
        self._line_of = line_of
        self._rules: dict[str, Rule] = {}
        self._heaps: dict[Line, list[Entry]] = {}
        self._set: dict[str, int] = {}
        self._numbers = itertools.count()

    def rule(self, kind: str, due: Due, act: Act) -> None:
        self._rules[kind] = Rule(len(self._rules), due, act)

    def watch(self, document: Document) -> None:
        """It is not as it was."""
        kind, name = document["object"], document["id"]
        rule = self._rules.get(kind)
        when = None if rule is None else rule.due(document)
        if rule is None or when is None:
            self._set.pop(name, None)
        elif self._set.get(name) != when:
            self._set[name] = when
            heap = self._heaps.setdefault(self._line_of(document), [])
            heapq.heappush(heap, (when, rule.rank, next(self._numbers), kind, name))

    def next(self, line: Line = None) -> int | None:
        """The moment of the next alarm."""
        heap = self._heaps.get(line, [])
        while heap and self._set.get(heap[0][4]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def ring(self, line: Line, until: int) -> None:
        """Everything that is due until then, in its order, each at its own time."""
        while (when := self.next(line)) is not None and when <= until:
            _, _, _, kind, name = heapq.heappop(self._heaps[line])
            del self._set[name]
            document = self._book.tables[kind].get(name)
            rule = self._rules[kind]
            if document is None:
                continue
            with self._clock.held(line, when):
                if rule.due(document) == when:
                    rule.act(document)
            self.watch(document)
