"""Supervisors: each child has a keeper, one task that sees the child through all its lives."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING

import trio

from actors.errors import ActorQuarantined, ActorStopped
from actors.events import EventKind
from actors.kinds.child import Child, Life
from actors.restart import Again, Finish, Quarantine, Restart
from actors.spec import ChildSpec
from actors.strategy import State

if TYPE_CHECKING:
    from actors.tree import Tree


class Keeper(Child):
    """What both kinds of supervisors do: keep children.

    A keeper is a loop: wait for the turn, live once, look how it ended, wait out what the restart policy says. It
    ends when the child is dismissed. Nothing is shared between keepers but the turn, so no child's trouble delays
    another's.
    """

    # Whether a failed start below here leaves the start of the system alone.
    shields_boot = False

    def __init__(self, spec: ChildSpec, parent: Keeper | None, tree: Tree) -> None:
        super().__init__(spec, parent, tree)
        self.nursery: trio.Nursery | None = None
        self.failure: Exception | None = None

    @abstractmethod
    def child_changed(self, child: Child) -> None:
        """A child has a new state or new orders."""

    async def run(self, life: Life) -> None:
        self.failure = None
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            try:
                await self.bring_up(life)
                if not life.over.is_set():
                    self.came_up(life)
                await life.over.wait()
                await self.take_down(final=life.final)
            finally:
                self.nursery = None
        if self.failure is not None:
            raise self.failure

    @abstractmethod
    async def bring_up(self, life: Life) -> None:
        """Hires a keeper for each child; returns when all are up or when `life` is over."""

    @abstractmethod
    async def take_down(self, *, final: bool) -> None:
        """Lets go all children; returns when no keeper is left."""

    async def turn(self, child: Child) -> None:
        """Waits until `child` may start, or is dismissed."""

    async def restart_with(self, child: Child) -> None:
        """Stops the siblings that are restarted with `child`; they wait for their turn after it."""

    def finished(self, child: Child) -> bool:
        """A child ended for good; true when its keeper is to stay, in case an operator wants it back."""
        return True

    def fail(self, error: Exception) -> None:
        """Ends this incarnation of the supervisor: `error` is its crash."""
        if self.life is not None and self.failure is None:
            self.failure = error
            self.asked_to_stop(self.life)

    def hire(self, child: Child) -> None:
        if self.nursery is None:
            raise ActorStopped(child.path)
        child.hired()
        self.nursery.start_soon(self._keep, child, name=f"keeper of {child.path}")

    async def let_go(self, child: Child, *, final: bool) -> None:
        """Stops a child in order and ends its keeper."""
        gone = child.gone
        life = child.life
        child.dismiss(final=final)
        if life is not None:
            await self._ended(child, life)
        if gone is not None:
            await gone.wait()

    async def recycle(self, child: Child) -> None:
        """Stops this incarnation in order; its keeper will start another."""
        life = child.life
        if life is not None:
            child.ask_stop(final=False)
            await self._ended(child, life)

    async def _ended(self, child: Child, life: Life) -> None:
        with trio.move_on_at(life.scope.deadline):
            await life.ended.wait()
            return
        self.tree.emit(EventKind.OVERDUE, child.path, f"not stopped within {child.spec.shutdown:g} s")
        await life.ended.wait()

    def restart(self, child: Child) -> None:
        """An operator wants a new incarnation now, whatever the state; its record is clean again."""
        child.policy.forgive()
        if child.life is None or self.nursery is None:
            child.recall()
        elif not child.restart_wanted:
            child.restart_wanted = child.holds_group = True
            self.nursery.start_soon(self._restart, child, child.life)

    async def _restart(self, child: Child, life: Life) -> None:
        await self.restart_with(child)
        if child.life is life:
            await self.recycle(child)

    async def _keep(self, child: Child) -> None:
        try:
            staying = True
            while staying:
                await self.turn(child)
                staying = not child.dismissed and await self._one_life(child)
        finally:
            child.retired()

    async def _one_life(self, child: Child) -> bool:
        life = await child.live()
        if child.dismissed:
            return False
        staying = await self._aftermath(child, life)
        child.holds_group = False
        self.child_changed(child)
        return staying

    async def _aftermath(self, child: Child, life: Life) -> bool:
        """Waits as long as the child must stay down; false when its keeper may go."""
        wanted, child.restart_wanted = child.restart_wanted, False
        if wanted or (life.stop_asked and child.spec.restart is not Restart.TEMPORARY):
            child.become(State.RESTARTING)
            return True
        if life.stop_asked:
            return await self._retire(child)
        decision = child.decide(life)
        if life.crash is not None and self._must_fail_with(child, life, decision):
            child.become(State.STOPPED)
            self.fail(life.crash)
            await child.rest(math.inf)
            return True
        match decision:
            case Finish():
                return await self._retire(child)
            case Quarantine(retry):
                await self._quarantine(child, retry)
            case Again(delay):
                await self._back_off(child, delay)
        return True

    def _must_fail_with(self, child: Child, life: Life, decision: Again | Quarantine | Finish) -> bool:
        if life.up_at is None and child.static and not self.tree.booted.is_set():
            return True
        return child.spec.essential and isinstance(decision, Quarantine)

    async def _retire(self, child: Child) -> bool:
        child.refuse(ActorStopped)
        if not self.finished(child):
            return False
        child.become(State.STOPPED)
        await child.rest(math.inf)
        return True

    async def _quarantine(self, child: Child, retry: float) -> None:
        child.refuse(ActorQuarantined)
        child.next_try = self.tree.wall() + retry
        child.become(State.QUARANTINED, f"{retry:g}")
        await child.rest(retry)
        if not child.recalled:
            child.policy.retried()
        child.become(State.RESTARTING)

    async def _back_off(self, child: Child, delay: float) -> None:
        child.holds_group = True
        child.next_try = self.tree.wall() + delay
        child.become(State.RESTARTING, f"{delay:.3g}")
        until = trio.current_time() + delay
        await self.restart_with(child)
        # Stopping the siblings may have taken longer than the backoff.
        await child.rest(max(0.0, until - trio.current_time()))
