"""One place in the tree, and the incarnations that live there one after another."""

from __future__ import annotations

import logging
import math
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import trio

from actors.bell import Bell
from actors.context import Context
from actors.errors import ActorStopped, NotDelivered, Returned, StartTimeout
from actors.events import EventKind
from actors.restart import Decision, Restart, RestartPolicy
from actors.snapshot import LaneSnapshot, LastCrash, Snapshot
from actors.spec import ChildSpec
from actors.strategy import SETTLED, State

if TYPE_CHECKING:
    from actors.kinds.keeper import Keeper
    from actors.tree import Tree

log = logging.getLogger("actors")

_EVENT_OF = {
    State.STARTING: EventKind.STARTING,
    State.RUNNING: EventKind.STARTED,
    State.RESTARTING: EventKind.RESTARTING,
    State.QUARANTINED: EventKind.QUARANTINED,
    State.STOPPING: EventKind.STOPPING,
    State.STOPPED: EventKind.STOPPED,
}


class Life:
    """One incarnation. `over` is set when it should end, `ended` when it has."""

    __slots__ = (
        "annotations",
        "context",
        "crash",
        "ended",
        "final",
        "over",
        "scope",
        "started_at",
        "stop_asked",
        "up_at",
    )

    def __init__(self, child: Child) -> None:
        self.scope = trio.CancelScope(deadline=trio.current_time() + child.spec.startup)
        self.context = Context(child, self)
        self.over = trio.Event()
        self.ended = trio.Event()
        self.stop_asked = False
        self.final = False
        self.up_at: float | None = None
        self.started_at: float | None = None
        self.annotations: dict[str, Any] = {}
        self.crash: Exception | None = None


class Child(ABC):
    """What lasts: name, counters, crash history, and for an actor its mailbox. Its supervisor's keeper decides when
    it lives (see `Keeper`); it says itself how."""

    kind: ClassVar[str]

    def __init__(self, spec: ChildSpec, parent: Keeper | None, tree: Tree) -> None:
        self.spec = spec
        self.parent = parent
        self.tree = tree
        self.name = spec.name
        self.path: str = "" if parent is None else f"{parent.path}/{spec.name}".lstrip("/")
        # Inside a dynamic supervisor nothing fails the start of the whole system.
        self.static: bool = parent is None or (parent.static and not parent.shields_boot)
        self.policy = RestartPolicy(spec.restart, spec.intensity, spec.backoff)
        self.state = State.STARTING
        self.life: Life | None = None
        self.lives = 0
        self.crashes = 0
        self.last_crash: LastCrash | None = None
        self.annotations: Mapping[str, Any] = {}
        self.next_try: float | None = None
        # The keeper's orders; see Keeper.
        self.bell = Bell()
        self.gone: trio.Event | None = None
        self.dismissed = False
        self.recalled = False
        self.holds_group = False
        self.restart_wanted = False
        self.stopped_for_good = False
        self.was_up = False

    @abstractmethod
    async def run(self, life: Life) -> None:
        """Lives once: comes up, stays until `life.over`, cleans up. Raises when it crashes."""

    def refuse(self, reason: Callable[[str], NotDelivered]) -> None:  # noqa: B027 - only mailboxes have something to do
        """From now on, every message to here and below is answered with `reason(path)`."""

    def admit(self) -> None:  # noqa: B027 - only mailboxes have something to do
        """Messages to here and below are taken again."""

    def asked_to_stop(self, life: Life) -> None:
        """Called once, when an orderly stop begins."""
        life.over.set()

    def lanes(self) -> dict[str, LaneSnapshot]:
        return {}

    def below(self) -> tuple[Child, ...]:
        return ()

    @property
    def settled(self) -> bool:
        """Whether siblings that come after it need not wait for it."""
        return self.state in SETTLED and not self.restart_wanted

    async def live(self) -> Life:
        """One incarnation from start to end; never raises an Exception, that is in the returned life's `crash`."""
        life = self.life = Life(self)
        self.lives += 1
        self.annotations = life.annotations
        self.recalled = self.restart_wanted = False
        self.next_try = None
        self.admit()
        self.become(State.STARTING)
        try:
            await self._run_to_the_end(life)
            self._find_fault(life)
        finally:
            self.life = None
            life.ended.set()
        return life

    async def _run_to_the_end(self, life: Life) -> None:
        try:
            with life.scope:
                await self.run(life)
        except Exception as error:  # noqa: BLE001 - this is the boundary at which a crash is caught
            self._crashed(life, error)
        except BaseExceptionGroup as group:
            # A crash beside a cancellation from above: both count, and only the crash ends here.
            crash, rest = group.split(Exception)
            if crash is not None:
                self._crashed(life, crash)
            if rest is not None:
                raise rest from None

    def _find_fault(self, life: Life) -> None:
        if life.crash is not None or life.stop_asked:
            return
        if life.scope.cancelled_caught:
            self._crashed(life, StartTimeout(self.path, self.spec.startup))

    def _crashed(self, life: Life, error: Exception) -> None:
        life.crash = error
        self.crashes += 1
        text = "".join(traceback.format_exception(error))
        self.last_crash = LastCrash(type(error).__name__, str(error), text, self.tree.wall())
        self.tree.emit(EventKind.CRASHED, self.path, f"{type(error).__name__}: {error}")
        log.error("%s crashed\n%s", self.path or "root", text)

    def decide(self, life: Life) -> Decision:
        """What follows from a life that ended without being asked to."""
        if life.crash is None and self.spec.restart is Restart.PERMANENT:
            self._crashed(life, Returned(self.path))
        now = self.tree.clock()
        uptime = 0.0 if life.up_at is None else now - life.up_at
        ended = self.policy.returned if life.crash is None else self.policy.crashed
        return ended(now, uptime=uptime, rng=self.tree.rng)

    def came_up(self, life: Life) -> None:
        if life.up_at is not None or self.life is not life:
            return
        self.was_up = True
        life.up_at = self.tree.clock()
        life.started_at = self.tree.wall()
        if not life.stop_asked:
            life.scope.deadline = math.inf
            self.become(State.RUNNING)
            if self.parent is None:
                self.tree.booted.set()

    def ask_stop(self, *, final: bool) -> None:
        """Begins an orderly stop of the present incarnation, if there is one. `final`: no other will follow."""
        life = self.life
        if life is None:
            return
        life.final = life.final or final
        if not life.stop_asked:
            life.stop_asked = True
            life.scope.deadline = trio.current_time() + self.spec.shutdown
            self.become(State.STOPPING)
        self.asked_to_stop(life)

    def dismiss(self, *, final: bool) -> None:
        """Ends this child's keeper, after an orderly stop."""
        self.dismissed = True
        if final:
            self.stopped_for_good = True
        self.ask_stop(final=final)
        self.bell.ring()
        if self.parent is not None:
            self.parent.child_changed(self)

    def recall(self) -> None:
        """Ends a backoff, a quarantine or a retirement now."""
        if not self.dismissed:
            self.recalled = True
            # At once, so that the caller's next message is queued and not refused.
            self.admit()
            self.bell.ring()

    async def rest(self, seconds: float) -> None:
        """Waits until the time has passed, or until the child is recalled or dismissed."""
        with trio.move_on_after(seconds):
            while not (self.recalled or self.dismissed):
                await self.bell.wait()

    def become(self, state: State, detail: str = "") -> None:
        if state is State.STOPPED is self.state:
            return
        self.state = state
        self.tree.emit(_EVENT_OF[state], self.path, detail)
        if self.parent is not None:
            self.parent.child_changed(self)

    def hired(self) -> None:
        """A keeper begins with this child, with a clean record."""
        self.gone = trio.Event()
        self.dismissed = self.recalled = self.holds_group = self.restart_wanted = False
        self.stopped_for_good = self.was_up = False
        self.state = State.STARTING
        self.policy.forgive()

    def retired(self) -> None:
        """The keeper is through with this child, which holds up no sibling any more."""
        self.holds_group = self.restart_wanted = False
        if self.stopped_for_good:
            self.refuse(ActorStopped)
        self.next_try = None
        self.become(State.STOPPED)
        if self.gone is not None:
            self.gone.set()
            self.gone = None

    def snapshot(self) -> Snapshot:
        life = self.life
        return Snapshot(
            name=self.name,
            path=self.path,
            kind=self.kind,
            state=self.state,
            restarts=max(0, self.lives - 1),
            crashes=self.crashes,
            started_at=life.started_at if life is not None else None,
            next_try=self.next_try,
            last_crash=self.last_crash,
            lanes=self.lanes(),
            annotations=dict(self.annotations),
            children=tuple(child.snapshot() for child in self.below()),
        )
