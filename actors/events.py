"""One stream of what happens in the tree, for logs, metrics and operators. Watching never slows what is watched."""

from __future__ import annotations

import weakref
from collections import deque
from dataclasses import dataclass
from enum import Enum

import trio


class EventKind(Enum):
    ADDED = "added"  # a dynamic supervisor took a child
    REMOVED = "removed"  # a dynamic supervisor let a child go
    STARTING = "starting"
    STARTED = "started"
    CRASHED = "crashed"  # detail: type and message
    RESTARTING = "restarting"  # detail: seconds until then
    QUARANTINED = "quarantined"  # detail: seconds until the next try
    RELEASED = "released"  # by an operator
    STOPPING = "stopping"
    OVERDUE = "overdue"  # it did not stop within its shutdown time-out and was cancelled
    STOPPED = "stopped"
    LOST = "lost"  # the reader was too slow; `count` events were dropped before the next one


@dataclass(frozen=True, slots=True)
class Event:
    """`at` is wall-clock time in seconds since the epoch; `path` is empty for the root and for LOST."""

    at: float
    kind: EventKind
    path: str
    detail: str = ""
    count: int = 0


class Subscription:
    """An async iterator of events. It keeps the newest `capacity`; older ones are replaced by one LOST event.

    It ends after the system has. Dropping it unsubscribes. One task may wait on it at a time.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("capacity must be at least 1")
        self._capacity = capacity
        self._events: deque[Event] = deque()
        self._lost = 0
        self._ended = False
        self._arrived = trio.Event()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        await trio.lowlevel.checkpoint()
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            self._arrived = trio.Event()
            await self._arrived.wait()
        return self._take()

    def drain(self) -> list[Event]:
        """What has arrived and was not read yet, without waiting."""
        found = []
        while self._events:
            found.append(self._take())
        return found

    def _take(self) -> Event:
        if self._lost:
            lost, self._lost = self._lost, 0
            return Event(self._events[0].at, EventKind.LOST, "", f"{lost} events lost", lost)
        return self._events.popleft()

    def put(self, event: Event) -> None:
        if len(self._events) >= self._capacity:
            self._events.popleft()
            self._lost += 1
        self._events.append(event)
        self._arrived.set()

    def end(self) -> None:
        self._ended = True
        self._arrived.set()


class EventStream:
    """Hands every event to every subscription."""

    def __init__(self) -> None:
        # Weak, so that a reader which was cancelled without further ado is forgotten with its subscription.
        self._subscriptions: weakref.WeakSet[Subscription] = weakref.WeakSet()
        self._ended = False

    def subscribe(self, capacity: int) -> Subscription:
        subscription = Subscription(capacity)
        if self._ended:
            subscription.end()
        self._subscriptions.add(subscription)
        return subscription

    def emit(self, event: Event) -> None:
        for subscription in self._subscriptions:
            subscription.put(event)

    def end(self) -> None:
        self._ended = True
        for subscription in self._subscriptions:
            subscription.end()
