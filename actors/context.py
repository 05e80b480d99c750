"""What a running child knows of its place in the tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actors.ref import Ref

if TYPE_CHECKING:
    from actors.kinds.child import Child, Life
    from actors.system import System


class Context:
    """Handed to every incarnation of a child; good until that incarnation ends."""

    __slots__ = ("_child", "_life")

    def __init__(self, child: Child, life: Life) -> None:
        self._child = child
        self._life = life

    @property
    def name(self) -> str:
        return self._child.name

    @property
    def path(self) -> str:
        """The names from below the root down to here, joined by slashes."""
        return self._child.path

    @property
    def ref_self(self) -> Ref:
        """This actor's own ref, to tell itself something. UnknownPath in a task, which has no mailbox."""
        return self._child.tree.ref(self._child.path)

    @property
    def system(self) -> System:
        """The whole system, for those who look after others: dynamic supervisors, snapshots, events."""
        return self._child.tree.system

    def started(self) -> None:
        """Says that this child is up: the next one may start. A task must call it; an actor is up when its `started`
        has returned. Calling it again does nothing."""
        self._child.came_up(self._life)

    def ref(self, name_or_path: str) -> Ref:
        """A sibling by its name, else an actor by its absolute path such as "fleet/5001/mailbox". UnknownPath."""
        return self._child.tree.ref_from(self._child, name_or_path)

    def annotate(self, **values: Any) -> None:
        """Shown in the snapshot until the next incarnation starts: `ctx.annotate(next_poll=..., operation=...)`."""
        self._life.annotations.update(values)

    async def stop_requested(self) -> None:
        """Waits until this incarnation is asked to stop; for graceful tasks."""
        await self._life.over.wait()
