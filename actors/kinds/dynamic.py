"""The dynamic supervisor: children come and go, thousands of them, and none notices another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from actors.errors import ActorStopped, ChildExists, NotDelivered, UnknownPath
from actors.events import EventKind
from actors.kinds.child import Child, Life
from actors.kinds.keeper import Keeper
from actors.spec import ChildSpec, DynamicSpec
from actors.strategy import State

if TYPE_CHECKING:
    from actors.tree import Tree


class DynamicChild(Keeper):
    """Its list of children survives its own restart: they are started again, their mailboxes never went away."""

    kind = "dynamic"
    spec: DynamicSpec
    shields_boot = True

    def __init__(self, spec: DynamicSpec, parent: Keeper | None, tree: Tree) -> None:
        super().__init__(spec, parent, tree)
        self._children: dict[str, Child] = {}
        self._queue: deque[Child] = deque()
        self._on_their_way: set[Child] = set()

    def start_child(self, spec: ChildSpec) -> str:
        """See `Dynamic.start_child`."""
        if spec.name in self._children:
            raise ChildExists(self._children[spec.name].path)
        if self.stopped_for_good or (self.life is not None and self.life.final):
            raise ActorStopped(self.path)
        child = self._children[spec.name] = self.tree.build(spec, self)
        self.tree.emit(EventKind.ADDED, child.path)
        # While this supervisor is down or going down, the child waits for its next incarnation.
        if self.nursery is not None and self.life is not None and not self.life.over.is_set():
            self.hire(child)
        return child.path

    async def stop_child(self, name: str) -> None:
        """See `Dynamic.stop_child`."""
        child = self._children.get(name)
        if child is None:
            raise UnknownPath(f"{self.path}/{name}")
        await self.let_go(child, final=True)
        self._remove(child)

    def names(self) -> list[str]:
        return list(self._children)

    def below(self) -> tuple[Child, ...]:
        return tuple(self._children.values())

    def refuse(self, reason: Callable[[str], NotDelivered]) -> None:
        for child in self._children.values():
            child.refuse(reason)

    def admit(self) -> None:
        for child in self._children.values():
            child.admit()

    async def bring_up(self, life: Life) -> None:
        await trio.lowlevel.checkpoint()
        for child in self._children.values():
            self.hire(child)

    async def take_down(self, *, final: bool) -> None:
        async with trio.open_nursery() as nursery:
            for child in self.below():
                nursery.start_soon(self._let_go, child, final)

    async def _let_go(self, child: Child, final: bool) -> None:
        await self.let_go(child, final=final)

    def hire(self, child: Child) -> None:
        super().hire(child)
        # Here and not in `turn`, because tasks made together begin in any order, and first come is first served.
        if self._queues(child):
            self._queue.append(child)
            self._advance()

    async def turn(self, child: Child) -> None:
        while self._queues(child) and not (child in self._on_their_way or child.dismissed):
            await child.bell.wait()

    def child_changed(self, child: Child) -> None:
        if child.dismissed or child.state is not State.STARTING:
            self._on_their_way.discard(child)
            self._advance()

    def finished(self, child: Child) -> bool:
        self._remove(child)
        return False

    def _queues(self, child: Child) -> bool:
        return child.lives == 0

    def _advance(self) -> None:
        while self._queue and len(self._on_their_way) < self.spec.concurrent_starts:
            child = self._queue.popleft()
            if not child.dismissed:
                self._on_their_way.add(child)
                child.bell.ring()

    def _remove(self, child: Child) -> None:
        if self._children.get(child.name) is child:
            del self._children[child.name]
            self.tree.remove(child)
            child.refuse(ActorStopped)
            self.tree.emit(EventKind.REMOVED, child.path)
