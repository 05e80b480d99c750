"""Carries one operation forward: one attempt at one step at a time, recorded before and after."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from zlh.containers.cell import Cell
from zlh.containers.journal import Journal
from zlh.containers.reconcile import reversible
from zlh.containers.steps import STEPS, TRIED, Again, Done, Failed, Job, LooksLast, Outcome, Site, Step, Taken, Task
from zlh.drivers.errors import Conflict, DriverError, Invalid, Locked, NotFound, Unreachable
from zlh.drivers.proxmox import Upid
from zlh.model.errors import ConflictError
from zlh.model.operations import Operation, OperationKind, StepState

ATTEMPT_SECONDS = 12.0
"""No single attempt holds the mailbox for longer; what did not come back by then is looked at again. Longer than the
ten seconds for which Proxmox waits for a lock, shorter than a client function waits for the mailbox."""

BACKOFF_CAP_SECONDS = 30.0

PATIENCE_SECONDS = 120.0
"""What has no time limit (a teardown, an undo) gives up its place when it waited so long for the same thing: a lock
that nobody lifts, or a task that never ends, must not keep all others waiting."""

SETBACKS = 3


class Runner:
    """`now` gives Unix seconds; `looked` is told whether the container runs whenever a step asked Proxmox that. The
    methods return the seconds until the next look, 0.0 for at once."""

    def __init__(
        self,
        cell: Cell,
        site: Site,
        journal: Journal,
        now: Callable[[], float],
        looked: Callable[[bool], None],
    ) -> None:
        self._cell = cell
        self._site = site
        self._journal = journal
        self._now = now
        self._looked = looked
        self._setbacks = 0
        self._in_line = ("", 0.0)
        self._waits = ("", "", "")
        self._overtime = (("", ""), 0.0)
        self._waits_since = 0.0

    async def do(self, name: str) -> Again:
        """One attempt to carry the step forward."""
        operation = self._operation
        step = _step(operation, name)
        record = operation.step(name)
        if record.state is StepState.PENDING:
            await self._journal.started(name)
        elif self._overdue(operation, step):
            return await self._time_is_up(step)
        outcome = await self._attempt(step.do, "upid", name)
        return await self._apply_do(name, outcome)

    async def undo(self, name: str) -> Again:
        """One attempt to take the step back; never given up."""
        operation = self._operation
        step = _step(operation, name)
        if operation.step(name).state is not StepState.UNDOING:
            await self._journal.undoing(name)
        outcome = await self._outlast(name) or await self._attempt(step.undo, "undo_upid", name)
        return await self._apply_undo(name, outcome)

    async def _outlast(self, name: str) -> Again | None:
        """What `do` began in Proxmox comes to its end, whichever, before anything is taken back."""
        if self._operation.step(name).upid is None:
            return None
        outcome = await self._attempt(_nothing, "upid", name)
        return outcome if isinstance(outcome, Again) else None

    @property
    def _operation(self) -> Operation:
        operation = self._cell.operation
        assert operation is not None
        return operation

    def _overdue(self, operation: Operation, step: Step) -> bool:
        started = operation.step(step.name).started_at
        if operation.kind is OperationKind.TEARDOWN or started is None:
            return False
        name, until = self._in_line
        began = max(started.timestamp(), until if name == step.name else 0.0)
        return self._now() - began > step.limit(self._site.options)

    async def _time_is_up(self, step: Step) -> Again:
        """Where a look can tell what became of it, nobody judges before one was answered, or could have been."""
        name, seconds = step.name, step.limit(self._site.options)
        note = self._operation.step(name).note or "no answer"
        if isinstance(step, LooksLast):
            outcome = await self._attempt(step.last_look, "upid", name)
            if not isinstance(outcome, Again) or self._within_overtime(name):
                return await self._apply_do(name, outcome)
            note = f"nobody knows how far it came: {outcome.note}"
        await self._fail(name, f"it took longer than {seconds:g} s: {note}")
        return Again(0.0, "")

    def _within_overtime(self, name: str) -> bool:
        of = (self._operation.id, name)
        if self._overtime[0] != of:
            self._overtime = of, self._now()
        return self._now() - self._overtime[1] < self._site.options.agent_seconds

    async def _attempt(self, work: Callable[[Job], Awaitable[Outcome]], key: str, name: str) -> Outcome:
        try:
            with trio.move_on_after(ATTEMPT_SECONDS):
                waiting = await self._follow(key, name)
                if waiting is not None:
                    return waiting
                remember = partial(self._journal.remember, name)
                outcome = await work(Job(self._site, self._cell.row, self._operation, remember, self._looked))
                self._setbacks = 0
                return outcome
        except DriverError as error:
            if not self._operation.step(name).data.get(key):
                # Nothing of ours runs in Proxmox: whoever waits for the same place may try meanwhile.
                self._release()
            return self._after_error(error)
        return Again(1.0, f"no answer within {ATTEMPT_SECONDS:g} s")

    async def _follow(self, key: str, name: str) -> Outcome | None:
        """Where a Proxmox task was recorded for this step: waits for its end; None when there is none to wait for."""
        upid = self._operation.step(name).data.get(key)
        if not isinstance(upid, str):
            return None
        self._adopt(upid)
        try:
            task = await self._site.proxmox.task(upid)
        except NotFound:
            await self._task_over(name, key)
            return None
        if task.running:
            return Again(0.25, f"Proxmox works on it: {upid.split(':')[5]}")
        await self._task_over(name, key)
        error = task.error()
        if error is None:
            return None
        if isinstance(error, Locked):
            return Again(random.uniform(1.0, 3.0), f"Proxmox: {error}")  # noqa: S311 - jitter, not a secret
        return Failed(f"Proxmox: {error}")

    def _adopt(self, upid: str) -> None:
        """A task that runs in Proxmox counts, also when it was begun before a restart of ours."""
        self._site.mutations.adopt(self._cell.row.node, self._cell.vmid)
        task = Upid.parse(upid)
        if task.type == "vzclone":
            self._site.clones.adopt(task.guest, self._cell.vmid)

    async def _task_over(self, name: str, key: str) -> None:
        self._release()
        await self._journal.remember(name, {key: None})

    def _after_error(self, error: DriverError) -> Outcome:
        """What a driver's error means for an operation: look again, or give up. After some setbacks in a row it lets
        others go first."""
        self._setbacks += 1
        idle = self._setbacks > SETBACKS
        if isinstance(error, Locked):
            return Again(random.uniform(1.0, 3.0), str(error), idle)  # noqa: S311 - jitter, not a secret
        if isinstance(error, Unreachable | Invalid):
            return Again(min(0.5 * 2**self._setbacks, BACKOFF_CAP_SECONDS), str(error), idle)
        if isinstance(error, Conflict):
            return Again(1.0, str(error), idle)
        return Failed(str(error))

    async def _apply_do(self, name: str, outcome: Outcome) -> Again:
        match outcome:
            case Done():
                return await self._done(name, outcome)
            case Task():
                await self._journal.remember(name, {"upid": outcome.upid})
                return Again(0.1, "")
            case Taken() if self._operation.kind is OperationKind.PROVISION:
                self._release()
                await self._journal.renumber(name, outcome.error)
                return Again(0.0, "")
            case Failed() | Taken():
                return await self._given_up(name, outcome.error)
            case Again():
                if outcome.in_line:
                    self._in_line = (name, self._now())
                await self._journal.noted(name, outcome.note, outcome.row)
                endless = self._operation.kind is OperationKind.TEARDOWN
                return self._patient(name, outcome) if endless else outcome

    async def _done(self, name: str, outcome: Done) -> Again:
        self._release()
        try:
            await self._journal.done(name, outcome.note, outcome.row)
        except ConflictError:
            # DHCP gave it an address that another row still claims: it may have one more.
            tried = self._operation.step(name).data.get(TRIED) or ()
            await self._journal.remember(name, {TRIED: [*tried, outcome.row["address"]]})
        return Again(0.0, "")

    async def _given_up(self, name: str, error: str) -> Again:
        """Teardown goes on for ever: what is not wanted must go, however long Proxmox refuses."""
        if self._operation.kind is OperationKind.TEARDOWN:
            await self._journal.noted(name, error, {})
            return Again(BACKOFF_CAP_SECONDS, error, idle=True)
        await self._fail(name, error)
        return Again(0.0, "")

    async def _apply_undo(self, name: str, outcome: Outcome) -> Again:
        match outcome:
            case Done():
                await self._journal.undone(name, outcome.row)
                self._release()
                return Again(0.0, "")
            case Task():
                await self._journal.remember(name, {"undo_upid": outcome.upid})
                return Again(0.1, "")
            case Failed() | Taken():
                await self._journal.noted(name, outcome.error, {})
                return Again(BACKOFF_CAP_SECONDS, outcome.error, idle=True)
            case Again():
                await self._journal.noted(name, outcome.note, outcome.row)
                return self._patient(name, outcome)

    def _patient(self, name: str, again: Again) -> Again:
        waits = (self._operation.id, name, again.note)
        if again.in_line or waits != self._waits:
            self._waits, self._waits_since = waits, self._now()
        if self._now() - self._waits_since < PATIENCE_SECONDS:
            return again
        return dataclasses.replace(again, seconds=max(again.seconds, BACKOFF_CAP_SECONDS), idle=True)

    async def _fail(self, name: str, error: str) -> None:
        self._release()
        await self._journal.failed(name, error, compensate=reversible(self._operation.kind, name))

    def _release(self) -> None:
        self._site.clones.leave(self._cell.vmid)
        self._site.mutations.leave(self._cell.vmid)


async def _nothing(_job: Job) -> Outcome:
    return Done()


def _step(operation: Operation, name: str) -> Step:
    for step in STEPS[operation.kind]:
        if step.name == name:
            return step
    raise LookupError(f"operation {operation.id} has a step {name!r} that {operation.kind} does not know")
