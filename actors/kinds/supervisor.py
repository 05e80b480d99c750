"""The supervisor with a fixed list of children: up in order, down in reverse, restarted by strategy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from actors.bell import Bell
from actors.errors import NotDelivered
from actors.kinds.child import Child, Life
from actors.kinds.keeper import Keeper
from actors.restart import Restart
from actors.spec import SupervisorSpec
from actors.strategy import State, Strategy, affected, may_start

if TYPE_CHECKING:
    from actors.tree import Tree


class SupervisorChild(Keeper):
    kind = "supervisor"
    spec: SupervisorSpec

    def __init__(self, spec: SupervisorSpec, parent: Keeper | None, tree: Tree) -> None:
        super().__init__(spec, parent, tree)
        self._children = tuple(tree.build(child, self) for child in spec.children)
        self._position = {child.name: i for i, child in enumerate(self._children)}
        self._changed = Bell()

    def below(self) -> tuple[Child, ...]:
        return self._children

    def child_changed(self, child: Child) -> None:
        self._changed.ring()

    def asked_to_stop(self, life: Life) -> None:
        life.over.set()
        self._changed.ring()

    def refuse(self, reason: Callable[[str], NotDelivered]) -> None:
        for child in self._children:
            child.refuse(reason)

    def admit(self) -> None:
        for child in self._children:
            child.admit()

    async def bring_up(self, life: Life) -> None:
        for child in self._children:
            if life.over.is_set():
                return
            self.hire(child)
            while not (life.over.is_set() or child.was_up or child.settled):
                await self._changed.wait()

    async def take_down(self, *, final: bool) -> None:
        for child in reversed(self._children):
            await self.let_go(child, final=final)

    async def turn(self, child: Child) -> None:
        if self.spec.strategy is Strategy.ONE_FOR_ONE:
            return
        index = self._position[child.name]
        while not (child.dismissed or self._may_start(index)):
            await self._changed.wait()

    def _may_start(self, index: int) -> bool:
        states = [child.state if child.settled else State.RESTARTING for child in self._children]
        holding = frozenset(i for i, child in enumerate(self._children) if child.holds_group)
        return may_start(self.spec.strategy, index, states, holding)

    async def restart_with(self, child: Child) -> None:
        index = self._position[child.name]
        for i in affected(self.spec.strategy, index, len(self._children)):
            await self._take_along(self._children[i])

    async def _take_along(self, sibling: Child) -> None:
        if sibling.life is not None:
            await self.recycle(sibling)
        elif sibling.state is State.STOPPED and sibling.spec.restart is Restart.TRANSIENT:
            sibling.recall()
