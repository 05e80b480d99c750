"""The children by their paths, and what all of them share: clocks, dice, the event stream."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from actors.errors import UnknownPath
from actors.events import Event, EventKind, EventStream
from actors.kinds.actor import ActorChild
from actors.kinds.child import Child
from actors.kinds.dynamic import DynamicChild
from actors.kinds.keeper import Keeper
from actors.kinds.supervisor import SupervisorChild
from actors.kinds.task import TaskChild
from actors.mailbox import Mailbox
from actors.ref import Ref
from actors.spec import ActorSpec, ChildSpec, DynamicSpec, SupervisorSpec, TaskSpec

if TYPE_CHECKING:
    from actors.system import System


class Tree:
    """`booted` is set when the whole tree came up for the first time: until then a failed start is the caller's."""

    def __init__(
        self,
        system: System,
        *,
        rng: random.Random,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.system = system
        self.rng = rng
        self.clock = clock
        self.wall = wall
        self.events = EventStream()
        self.booted = trio.Event()
        self._children: dict[str, Child] = {}

    def build(self, spec: ChildSpec, parent: Keeper | None) -> Child:
        """Makes the child, and all below it, and enters them under their paths."""
        child = self._make(spec, parent)
        self._children[child.path] = child
        return child

    def _make(self, spec: ChildSpec, parent: Keeper | None) -> Child:
        match spec:
            case ActorSpec():
                return ActorChild(spec, parent, self)
            case TaskSpec():
                return TaskChild(spec, parent, self)
            case SupervisorSpec():
                return SupervisorChild(spec, parent, self)
            case DynamicSpec():
                return DynamicChild(spec, parent, self)
        raise TypeError(f"not a child spec: {spec!r}")

    def remove(self, child: Child) -> None:
        for below in child.below():
            self.remove(below)
        self._children.pop(child.path, None)

    def find(self, path: str) -> Child:
        """The child at `path`; the root's is empty. UnknownPath."""
        child = self._children.get(path)
        if child is None:
            raise UnknownPath(path)
        return child

    def mailbox(self, path: str) -> Mailbox | None:
        child = self._children.get(path)
        return child.mailbox if isinstance(child, ActorChild) else None

    def ref(self, path: str) -> Ref:
        """A ref to the actor at `path`. UnknownPath when there is none, or when it is no actor."""
        if not isinstance(self.find(path), ActorChild):
            raise UnknownPath(path, "is not an actor")
        return Ref(path, self)

    def ref_from(self, child: Child, name_or_path: str) -> Ref:
        """The same, where a sibling of `child` comes before a child of the root."""
        if child.parent is not None and child.parent.path and "/" not in name_or_path:
            sibling = f"{child.parent.path}/{name_or_path}"
            if sibling in self._children:
                return self.ref(sibling)
        return self.ref(name_or_path)

    def emit(self, kind: EventKind, path: str, detail: str = "") -> None:
        self.events.emit(Event(self.wall(), kind, path, detail))
