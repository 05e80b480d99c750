"""Actors: the class that users subclass, and the place in the tree that runs one."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio

from actors.context import Context
from actors.envelope import Envelope
from actors.errors import ActorCrashed, ActorStopped, NotDelivered
from actors.kinds.child import Child, Life
from actors.mailbox import Mailbox, Queue
from actors.snapshot import LaneSnapshot
from actors.spec import ActorSpec

if TYPE_CHECKING:
    from actors.kinds.keeper import Keeper
    from actors.tree import Tree

# A worker that finds message after message lets others run after this many.
_BATCH = 16


class Actor:
    """Owns state that nobody else touches. Every start makes a fresh instance, a crash leaves nothing half-changed.

    Handlers of different lanes run side by side, and so do as many of one lane as its concurrency says; between two
    checkpoints a handler is alone.
    """

    async def started(self, ctx: Context) -> None:
        """Runs before the first message. Raising is a failed start."""

    async def handle(self, message: Any) -> Any:
        """The return value answers an ask. An expected refusal is one too: an exception crashes the actor."""
        raise NotImplementedError

    async def stopping(self) -> None:
        """Runs on an orderly stop, after the last handler, within the shutdown time-out. Not after a crash."""


class ActorChild(Child):
    """Handlers run in workers: a task per lane and free handler, made when a message comes and gone when the lane is
    empty. An idle actor is one sleeping task."""

    kind = "actor"
    spec: ActorSpec

    def __init__(self, spec: ActorSpec, parent: Keeper | None, tree: Tree) -> None:
        super().__init__(spec, parent, tree)
        self.mailbox = Mailbox(self.path, spec.lanes)

    async def run(self, life: Life) -> None:
        actor = self.spec.factory()
        await actor.started(life.context)
        self.came_up(life)
        async with trio.open_nursery() as nursery:
            crew = _Crew(self, actor, nursery)
            self.mailbox.consumer = crew.engage
            try:
                crew.take_over(self.mailbox)
                await life.over.wait()
            finally:
                crew.serving = False
                self.mailbox.consumer = None
        if crew.crash is not None:
            raise crew.crash
        await actor.stopping()

    def asked_to_stop(self, life: Life) -> None:
        if life.final:
            self.mailbox.close()
        life.over.set()

    def refuse(self, reason: Callable[[str], NotDelivered]) -> None:
        self.mailbox.close(reason)

    def admit(self) -> None:
        self.mailbox.open()

    def lanes(self) -> dict[str, LaneSnapshot]:
        now = self.tree.clock()
        return {
            name: LaneSnapshot(
                depth=queue.depth,
                capacity=queue.lane.capacity,
                oldest_age=queue.oldest_age(now),
                in_flight=queue.in_flight,
                handled=queue.handled,
                failed=queue.failed,
                dropped=queue.dropped,
            )
            for name, queue in self.mailbox.lanes.items()
        }


class _Crew:
    """The workers of one incarnation. The first handler that raises ends it."""

    def __init__(self, child: ActorChild, actor: Actor, nursery: trio.Nursery) -> None:
        self.serving = True
        self.crash: Exception | None = None
        self._child = child
        self._handle = actor.handle
        self._clock = child.tree.clock
        self._nursery = nursery
        self._workers = dict.fromkeys(child.mailbox.lanes, 0)
        self._loitering = dict.fromkeys(child.mailbox.lanes, 0)
        # A handler sees the actor's context variables, not those of whoever happened to send the message.
        self._context = contextvars.copy_context()

    def take_over(self, mailbox: Mailbox) -> None:
        """Engages as many workers as what waits already can keep busy."""
        for queue in mailbox.lanes.values():
            for _ in range(min(queue.depth, queue.lane.concurrency)):
                self.engage(queue)

    def engage(self, queue: Queue) -> None:
        """Sees to it that a worker looks into the lane."""
        lane = queue.lane
        if queue.depth > self._loitering[lane.name] and self._workers[lane.name] < lane.concurrency:
            self._workers[lane.name] += 1
            self._context.run(self._nursery.start_soon, self._work, queue)

    async def _work(self, queue: Queue) -> None:
        served = 0
        while self.serving:
            envelope = queue.next(self._clock())
            if envelope is not None:
                await self._serve(queue, envelope)
                served += 1
                if served % _BATCH == 0:
                    await trio.lowlevel.checkpoint()
            elif served:
                # Whoever was answered may ask again right now; a new task would cost three times as much as a look.
                served = 0
                self._loitering[queue.lane.name] += 1
                await trio.lowlevel.checkpoint()
                self._loitering[queue.lane.name] -= 1
            else:
                break
        self._workers[queue.lane.name] -= 1

    async def _serve(self, queue: Queue, envelope: Envelope) -> None:
        envelope.began = True
        ok = False
        try:
            value = await self._handle(envelope.message)
            ok = True
        except Exception as error:  # noqa: BLE001 - this is the boundary at which a crash is caught
            self._crashed(error)
        except BaseExceptionGroup as group:
            crash, rest = group.split(Exception)
            if crash is not None:
                self._crashed(crash)
            if rest is not None:
                raise rest from None
        finally:
            queue.done(ok=ok)
            if not ok:
                envelope.fail(self._cut_off())
        if ok:
            envelope.answer(value)

    def _crashed(self, error: Exception) -> None:
        self.serving = False
        self.crash = self.crash or error
        self._nursery.cancel_scope.cancel()

    def _cut_off(self) -> ActorCrashed | ActorStopped:
        path = self._child.path
        return ActorStopped(path, began=True) if self.crash is None else ActorCrashed(path, self.crash)
