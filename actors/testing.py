"""What tests of actors want. Run them under `trio.testing.MockClock(autojump_threshold=0)`: nothing here sleeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio
import trio.testing

from actors.events import Event, EventKind, Subscription
from actors.kinds.actor import Actor
from actors.snapshot import Snapshot
from actors.strategy import State
from actors.system import System


async def settle() -> None:
    """Returns when every other task waits for something that does not happen by itself: whatever could be done at
    this moment of virtual time was done."""
    await trio.testing.wait_all_tasks_blocked()


async def wait_until(
    system: System, path: str, wanted: State | Callable[[Snapshot], bool], *, within: float = 600.0
) -> Snapshot:
    """Waits until the child at `path` is in the wanted state, or until `wanted(snapshot)` is true, and returns that
    snapshot. It looks again after every event of the tree. TimeoutError says how things stood in the end."""
    found: Snapshot = system.snapshot_of(path)
    events = system.events()
    with trio.move_on_after(within):
        while not (wanted(found) if callable(wanted) else found.state is wanted):
            try:
                await anext(events)
            except StopAsyncIteration:
                break
            found = system.snapshot_of(path)
        else:
            return found
    raise TimeoutError(f"{path}: waited {within:g} s for {wanted}, it is {found}")


class EventLog:
    """Every event of a system since this was made; `capacity` is large enough for a test."""

    def __init__(self, system: System, capacity: int = 100_000) -> None:
        self._subscription: Subscription = system.events(capacity)
        self._events: list[Event] = []

    def all(self) -> list[Event]:
        self._events += self._subscription.drain()
        return list(self._events)

    def paths(self, kind: EventKind) -> list[str]:
        """Where events of this kind happened, in order."""
        return [event.path for event in self.all() if event.kind is kind]


class Recorder(Actor):
    """Writes every message into `seen`, which the test owns and which therefore outlives a crash, and answers with
    `reply(message)`, or with the message. A message that is an exception is raised."""

    def __init__(self, seen: list[Any], reply: Callable[[Any], Any] | None = None) -> None:
        self._seen = seen
        self._reply = reply

    async def handle(self, message: Any) -> Any:
        self._seen.append(message)
        if isinstance(message, BaseException):
            raise message
        return self._reply(message) if self._reply is not None else message
