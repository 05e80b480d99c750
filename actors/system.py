"""The face of a running tree."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import trio

from actors.errors import ActorStopped, UnknownPath
from actors.events import EventKind, Subscription
from actors.kinds.child import Child
from actors.kinds.dynamic import DynamicChild
from actors.ref import Ref
from actors.snapshot import Snapshot
from actors.spec import ChildSpec, DynamicSpec, SupervisorSpec
from actors.strategy import State
from actors.tree import Tree


class Dynamic:
    """What can be done with a dynamic supervisor from outside."""

    __slots__ = ("_child",)

    def __init__(self, child: DynamicChild) -> None:
        self._child = child

    def start_child(self, spec: ChildSpec) -> str:
        """Adds a child and returns its path. It starts in the background; a failed start is a crash like any other,
        and its mailbox takes messages at once. ChildExists, ActorStopped."""
        return self._child.start_child(spec)

    async def stop_child(self, name: str) -> None:
        """Stops the child in order and removes it; returns when it is gone. UnknownPath."""
        await self._child.stop_child(name)

    def names(self) -> list[str]:
        """The children's names, oldest first."""
        return self._child.names()


class System:
    """Made by `open_system`. Everything but `stop` returns at once."""

    def __init__(
        self,
        root: ChildSpec,
        *,
        rng: random.Random,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        if not isinstance(root, SupervisorSpec | DynamicSpec):
            raise TypeError(f"the root must be a supervisor: {root!r}")
        self._tree = Tree(self, rng=rng, clock=clock, wall=wall)
        self._root = self._tree.build(root, None)
        self._ended = trio.Event()
        self._failure: Exception | None = None

    def ref(self, path: str) -> Ref:
        """The actor at `path`, such as "fleet/5001/mailbox". UnknownPath."""
        return self._tree.ref(path)

    def dynamic(self, path: str) -> Dynamic:
        """The dynamic supervisor at `path`. UnknownPath."""
        child = self._tree.find(path)
        if not isinstance(child, DynamicChild):
            raise UnknownPath(path, "is not a dynamic supervisor")
        return Dynamic(child)

    def snapshot(self) -> Snapshot:
        """The whole tree as it is now."""
        return self._root.snapshot()

    def snapshot_of(self, path: str) -> Snapshot:
        """The child at `path` and all below it. UnknownPath."""
        return self._tree.find(path).snapshot()

    def restart(self, path: str) -> None:
        """Asks for a new incarnation: an orderly stop and a start, or at once a start when the child is down. Its
        crash history is forgiven. UnknownPath, also for the root, which nobody supervises."""
        child = self._tree.find(path)
        if child.parent is None:
            raise UnknownPath(path, "nobody supervises the root")
        child.parent.restart(child)

    def release(self, path: str) -> int:
        """Ends the quarantine of the child at `path`, and of all below it, with a clean record; returns of how many.
        UnknownPath."""
        return _release([self._tree.find(path)])

    def events(self, capacity: int = 1024) -> Subscription:
        """What happens from now on, as an async iterator that ends with the system."""
        return self._tree.events.subscribe(capacity)

    async def stop(self) -> None:
        """Stops the tree in order and returns when nothing of it runs any more. Calling it again waits again."""
        self._root.ask_stop(final=True)
        await self._ended.wait()

    async def _run(self, lifeline: trio.CancelScope) -> None:
        try:
            life = await self._root.live()
            self._failure = life.crash
        finally:
            self._root.dismissed = self._root.stopped_for_good = True
            self._root.refuse(ActorStopped)
            self._root.become(State.STOPPED)
            self._tree.events.end()
            self._ended.set()
            self._tree.booted.set()
        if self._failure is not None:
            lifeline.cancel()


@asynccontextmanager
async def open_system(
    root: ChildSpec,
    *,
    rng: random.Random | None = None,
    clock: Callable[[], float] = trio.current_time,
    wall: Callable[[], float] = time.time,
) -> AsyncIterator[System]:
    """Brings the tree up, lends it to the body, and stops it in order when the body ends.

    A child that fails its first start ends it: what is up already is stopped, and the child's own exception comes out
    of `async with`. So does the exception of an essential child for which no supervisor is left; the body is
    cancelled then. When the caller is cancelled, so are all children, at once: to stop in order, let the body end.

    `rng` rolls the jitter, `clock` is monotonic and `wall` is what snapshots and events show, both in seconds.
    """
    rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
    system = System(root, rng=rng, clock=clock, wall=wall)
    error: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(system._run, nursery.cancel_scope)
            await system._tree.booted.wait()
            if system._failure is None:
                try:
                    yield system
                except Exception as raised:  # noqa: BLE001 - it is raised again below, without the nursery's group
                    error = raised
                await system.stop()
    except BaseExceptionGroup as group:
        raise _innermost(group) from None
    if error is not None:
        raise error
    if system._failure is not None:
        raise system._failure


def _innermost(error: BaseException) -> BaseException:
    """Takes off the groups that our nurseries put around a single exception, such as a KeyboardInterrupt."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _release(children: Iterable[Child]) -> int:
    released = 0
    for child in children:
        if child.state is State.QUARANTINED:
            released += 1
            child.policy.forgive()
            child.tree.emit(EventKind.RELEASED, child.path)
            child.recall()
        released += _release(child.below())
    return released
