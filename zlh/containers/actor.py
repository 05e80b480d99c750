"""The mailbox of one container: executes its commands and carries its operation forward, one message at a time."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import trio

from actors import Actor, Context
from zlh.containers import reconcile as plans
from zlh.containers.backups import BackupKeeper, ChangeBackup, CreateBackup, DeleteBackup, RestoreBackup
from zlh.containers.calls import carry_out, refuse_in_flight, refuse_unfinished, refuse_unreachable, translate
from zlh.containers.cell import Cell
from zlh.containers.crew import Crew, Nudge
from zlh.containers.journal import Journal
from zlh.containers.poller import COMMAND_SECONDS
from zlh.containers.reconcile import Begin, Do, Finish, Nothing, Repairs, Undo, Wait, reconcile
from zlh.containers.retrieval import GameWord, game_word, opened
from zlh.containers.runner import Runner
from zlh.containers.steps import Again
from zlh.drivers.agent import AgentClient
from zlh.drivers.errors import DriverError
from zlh.model.agent_calls import AgentAnswer, AgentCall, Feature
from zlh.model.containers import Container, Lifecycle, Power, Resources
from zlh.model.errors import (
    AgentUnreachableError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    ProblemError,
    UnavailableError,
)
from zlh.model.names import RESERVED
from zlh.model.operations import Operation, OperationKind, OperationState
from zlh.model.plans import Plan
from zlh.store import StoreUnavailable

log = logging.getLogger("zlh.containers")

AGENT_SECONDS = 10.0
STORE_RETRY_SECONDS = 1.0
GAME_WORD_SECONDS = 4.0
"""How long the agent may take for a word about a suspended game: somebody may have a command for the container."""

GAME_WORD_PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class GamePower:
    """`verb` is "start", "stop", "restart" or "kill"; the reply is None or a ProblemError."""

    verb: str


@dataclass(frozen=True, slots=True)
class HostPower:
    """Record what is wanted of the container's power, and the operation that brings it about; replies with the
    Operation or a ProblemError."""

    kind: OperationKind
    actor_id: int | None


@dataclass(frozen=True, slots=True)
class Teardown:
    """Replies with the Operation that removes the container, or a ProblemError."""

    force: bool
    actor_id: int | None


@dataclass(frozen=True, slots=True)
class Retrieve:
    """Have a suspended container on for `seconds`, so that its data can be fetched; replies with the Operation that
    starts it, None where it is on, or a ProblemError."""

    seconds: float
    actor_id: int | None


@dataclass(frozen=True, slots=True)
class Upgrade:
    """Other sizes, within the plan; replies with the Operation or a ProblemError."""

    resources: Resources
    plan: Plan
    actor_id: int | None


@dataclass(frozen=True, slots=True)
class Rename:
    """Another name for people, in lower case, None for the default one; replies with the Container or a
    ProblemError."""

    label: str | None


@dataclass(frozen=True, slots=True)
class PassOn:
    """Put `call` to the agent; replies with an AgentAnswer or a ProblemError. Once `scope` is cancelled, nobody wants
    the answer any more, and what only looks is broken off: others wait for its place."""

    call: AgentCall
    scope: trio.CancelScope = field(default_factory=trio.CancelScope, compare=False)


class ContainerActor(Actor):
    """One fresh instance after every crash, on the same cell. Refusals are replies; an exception is a bug."""

    def __init__(self, cell: Cell, crew: Crew) -> None:
        self._cell = cell
        self._crew = crew
        self._journal = Journal(cell, crew)
        self._runner = Runner(cell, crew.site, self._journal, crew.now, partial(crew.looked_at_host, cell))
        self._backups = BackupKeeper(cell, crew)
        self._game_told_at = -math.inf
        self._ctx: Context | None = None

    async def started(self, ctx: Context) -> None:
        self._ctx = ctx
        # A nudge that was queued when the mailbox was emptied never came.
        self._crew.nudged(self._cell.vmid)
        self._crew.nudge(self._cell.vmid)

    async def handle(self, message: Any) -> Any:
        try:
            return await self._handle(message)
        except BaseException:
            # However long this container stays down now, nobody waits for a place that it held.
            self._crew.leave(self._cell.vmid)
            raise

    async def _handle(self, message: Any) -> Any:
        match message:
            case Nudge():
                return await self._look()
            case GamePower(verb):
                return await self._answer(self._game_power(verb))
            case HostPower(kind, actor_id):
                return await self._answer(self._host_power(kind, actor_id))
            case Teardown(force, actor_id):
                return await self._answer(self._teardown(force, actor_id))
            case Retrieve(seconds, actor_id):
                return await self._answer(self._retrieve(seconds, actor_id))
            case Upgrade(resources, plan, actor_id):
                return await self._answer(self._upgrade(resources, plan, actor_id))
            case Rename(label):
                return await self._answer(self._rename(label))
            case PassOn(call, scope) if not call.changes:
                with scope:
                    return await self._answer(self._pass_on(call))
                return UnavailableError("whoever asked has left")
            case PassOn(call):
                return await self._answer(self._pass_on(call))
            case CreateBackup() | ChangeBackup() | DeleteBackup():
                return await self._answer(self._backups.carry_out(message))
            case RestoreBackup():
                return await self._answer(self._restore(message))
        raise TypeError(f"a container does not understand {message!r}")

    # Looking and acting

    async def _look(self) -> None:
        self._crew.nudged(self._cell.vmid)
        try:
            await self._look_once()
        except StoreUnavailable as error:
            log.warning("container %s waits for the database: %s", self._cell.vmid, error)
            self._crew.alarm.set(self._cell.vmid, STORE_RETRY_SECONDS)

    async def _look_once(self) -> None:
        cell, crew = self._cell, self._crew
        await self._current()
        if cell.gone:
            crew.retire(cell)
            return
        await self._follow_node()
        plan = reconcile(cell.row, cell.observed.host, cell.operation, cell.repairs, crew.now())
        self._annotate(plan)
        if cell.operation is not None and not await self._has_place(cell.operation):
            return
        again = await self._apply(plan)
        if again is not None:
            crew.alarm.set(cell.vmid, again.seconds)
            if again.idle:
                crew.leave(cell.vmid)
        await self._mind_game()

    async def _apply(self, plan: plans.Plan) -> Again | None:
        match plan:
            case Nothing():
                return None
            case Wait(seconds, reason):
                return Again(seconds, reason)
            case Begin(kind, reason):
                log.info("container %s: %s, because %s", self._cell.vmid, kind, reason)
                await self._journal.begin(kind, arguments={"reason": reason})
                return Again(0.0, reason)
            case Do(step):
                again = await self._runner.do(step)
            case Undo(step):
                again = await self._runner.undo(step)
            case Finish(state):
                await self._journal.finish(state)
                again = Again(0.0, "")
        return self._settle() or again

    def _settle(self) -> Again | None:
        """After a write: an operation that ended gives up its places, and its outcome is remembered for repairs."""
        cell, crew = self._cell, self._crew
        if cell.operation is not None:
            return None
        crew.leave(cell.vmid)
        ended = crew.last_operation(cell.vmid)
        failed = cell.repairs.failed + 1 if ended is not None and ended.state is OperationState.FAILED else 0
        cell.set_repairs(Repairs(failed=failed, settled_at=crew.now()))
        cell.poll_asked.set()
        crew.look_at_hosts()
        if cell.gone:
            crew.retire(cell)
        return Again(1.0, "settled")

    async def _mind_game(self) -> None:
        """Tells the agent what a suspension means for its game, one attempt at a time, again and again."""
        cell, crew = self._cell, self._crew
        if cell.gone:
            return
        word = game_word(cell.row.desired, cell.observed, cell.operation)
        if word is None:
            return
        if word is GameWord.FORGET:
            await self._hold_game(False)
            return
        pause = self._game_told_at + GAME_WORD_PAUSE_SECONDS - crew.now()
        if pause <= 0:
            self._game_told_at = crew.now()
            await self._tell_game(word)
            pause = GAME_WORD_PAUSE_SECONDS
        crew.alarm.set(cell.vmid, pause)

    async def _tell_game(self, word: GameWord) -> None:
        """A stop is owed a start from before it is told: agents remember that they were stopped, over a boot too."""
        vmid = self._cell.vmid
        if word is GameWord.STOP:
            await self._hold_game(True)
        try:
            with trio.fail_after(GAME_WORD_SECONDS):
                await self._tell_agent(AgentClient.stop if word is GameWord.STOP else AgentClient.start)
        except (DriverError, trio.TooSlowError) as error:
            log.info("container %s: its game was told to %s, in vain: %s", vmid, word.value, error or "no answer")
            return
        log.info("container %s: its game was told to %s", vmid, word.value)
        if word is GameWord.START:
            await self._hold_game(False)
        self._cell.commanded_until = self._crew.now() + COMMAND_SECONDS
        self._cell.poll_asked.set()

    async def _hold_game(self, held: bool) -> None:
        desired = self._cell.row.desired
        if desired.game_held is not held:
            await self._journal.want(replace(desired, game_held=held))

    async def _has_place(self, operation: Operation) -> bool:
        if not self._crew.admission.enter(operation.vmid, operation.owner_id):
            return False
        if operation.queued:
            await self._journal.admitted()
        return True

    async def _follow_owner(self) -> None:
        """A container is suspended as long as its owner is, whoever did that and when. An owner whom nobody knows
        changes nothing."""
        row = self._cell.row
        suspended = self._crew.suspended(row.owner_id)
        if suspended is None or suspended is row.desired.suspended:
            return
        log.info("container %s: its account is %s", row.vmid, "suspended" if suspended else "not suspended any more")
        # The former power is what is wanted again afterwards.
        await self._journal.want(replace(row.desired, suspended=suspended, retrieval_until=None))

    async def _follow_node(self) -> None:
        """A container that was migrated by hand is where Proxmox says it is."""
        host, row = self._cell.observed.host, self._cell.row
        if row.provisioned and host.node and host.node != row.node and host.power is not Power.UNKNOWN:
            await self._journal.moved(host.node)

    def _annotate(self, plan: plans.Plan) -> None:
        if self._ctx is None:
            return
        operation = self._cell.operation
        self._ctx.annotate(
            plan=type(plan).__name__,
            reason=getattr(plan, "reason", None),
            operation=operation.id if operation else None,
            step=getattr(plan, "step", None),
        )

    # Commands

    async def _answer(self, work: Awaitable[Any]) -> Any:
        """Refusals become replies."""
        try:
            return await work
        except ProblemError as error:
            return error
        except StoreUnavailable:
            self._crew.alarm.set(self._cell.vmid, STORE_RETRY_SECONDS)
            return UnavailableError("the database does not answer; try again", retry_after=STORE_RETRY_SECONDS)

    async def _game_power(self, verb: str) -> None:
        refuse_power(self._cell, verb)
        try:
            with trio.fail_after(AGENT_SECONDS):
                await self._tell_agent(POWER[verb])
        except trio.TooSlowError:
            raise AgentUnreachableError(
                f"the agent did not answer within {AGENT_SECONDS:g} s", details={"mayTakeEffect": True}
            ) from None
        except DriverError as error:
            raise translate(error) from error
        self._cell.commanded_until = self._crew.now() + COMMAND_SECONDS
        self._cell.poll_asked.set()

    async def _pass_on(self, call: AgentCall) -> AgentAnswer:
        cell = self._cell
        refuse_unreachable(cell, changes=call.changes)
        with closing(self._crew.site.agent(cell.row, cell.row.agent_token)) as client:
            answer = await carry_out(call, client, cell)
        if call.changes and call.feature in (Feature.UPDATE, Feature.CODE_SERVER):
            # An agent that updates itself goes away for a moment, and is another version then; with an IDE its
            # readiness comes and goes.
            cell.commanded_until = self._crew.now() + COMMAND_SECONDS
            cell.version_asked = cell.version_asked or call.feature is Feature.UPDATE
            cell.poll_asked.set()
        return answer

    async def _tell_agent(self, call: Callable[[AgentClient], Awaitable[None]]) -> None:
        row = self._cell.row
        with closing(self._crew.site.agent(row, row.agent_token)) as client:
            await call(client)

    async def _host_power(self, kind: OperationKind, actor_id: int | None) -> Operation:
        await self._current()
        row = self._cell.row
        refuse_in_flight(self._cell)
        refuse_unfinished(row)
        if row.desired.suspended and kind is not OperationKind.STOP_HOST:
            raise ForbiddenError("the account is suspended", code="suspended")
        power = Power.OFF if kind is OperationKind.STOP_HOST else Power.ON
        if row.desired.suspended:
            # It ends a retrieval; what its owner wants counts again once the suspension is over.
            power = row.desired.power
        await self._journal.want(replace(row.desired, power=power, retrieval_until=None))
        operation = await self._journal.begin(kind, actor_id)
        self._crew.nudge(row.vmid)
        return operation

    async def _retrieve(self, seconds: float, actor_id: int | None) -> Operation | None:
        await self._current()
        cell, crew = self._cell, self._crew
        refuse_unfinished(cell.row)
        desired = opened(cell.row.desired, seconds, crew.now())
        present = cell.operation
        if present is None or present.kind is not OperationKind.START_HOST:
            refuse_in_flight(cell)
        await self._journal.want(desired)
        if present is None and cell.observed.host.power is not Power.ON:
            present = await self._journal.begin(OperationKind.START_HOST, actor_id)
        crew.nudge(cell.vmid)
        return present

    async def _upgrade(self, resources: Resources, plan: Plan, actor_id: int | None) -> Operation:
        await self._current()
        row = self._cell.row
        refuse_in_flight(self._cell)
        refuse_unfinished(row)
        if row.desired.suspended:
            raise ForbiddenError("the account is suspended", code="suspended")
        if resources.disk_gib < row.resources.disk_gib:
            raise InvalidError(f"the disk cannot shrink below {row.resources.disk_gib} GiB", code="disk_shrink")
        operation = await self._journal.upgrade(resources, plan, actor_id)
        self._crew.nudge(row.vmid)
        return operation

    async def _rename(self, label: str | None) -> Container:
        await self._current()
        cell = self._cell
        if cell.row.desired.lifecycle is Lifecycle.ABSENT or (cell.operation and _goes_away(cell.operation)):
            raise ConflictError("the container is being deleted", code="deleting")
        if label is not None and label in RESERVED | self._crew.site.options.reserved_names:
            raise InvalidError(f"{label} is a reserved name", code="name_reserved")
        if label != cell.row.label:
            await self._journal.renamed(label)
        return cell.row

    async def _restore(self, wish: RestoreBackup) -> Operation:
        await self._current()
        refuse_in_flight(self._cell)
        # Nobody waits here: power commands would wait behind.
        async with self._backups.alone(most_waiting=0):
            arguments = await self._backups.to_restore(wish)
            operation = await self._journal.begin(OperationKind.RESTORE, wish.actor_id, arguments)
        self._crew.nudge(self._cell.vmid)
        return operation

    async def _teardown(self, force: bool, actor_id: int | None) -> Operation:
        await self._current()
        cell, row = self._cell, self._cell.row
        present = cell.operation
        if present is not None and _goes_away(present):
            return present
        if not force and cell.observed.host.power is Power.ON and row.provisioned:
            raise ConflictError("the container is running; stop it first, or use force", code="running")
        desired = replace(row.desired, lifecycle=Lifecycle.ABSENT, power=Power.OFF)
        if present is not None:
            ended = await self._journal.give_up("the container is not wanted any more", desired)
            if ended.kind is OperationKind.PROVISION:
                self._crew.nudge(row.vmid)
                return ended
            self._crew.leave(row.vmid)
        else:
            await self._journal.want(desired)
        operation = await self._journal.begin(OperationKind.TEARDOWN, actor_id, {"force": force})
        self._crew.nudge(row.vmid)
        return operation

    async def _current(self) -> None:
        """What is known of the row is what is in the store, and follows its owner."""
        await self._sure()
        if not self._cell.gone:
            await self._follow_owner()

    async def _sure(self) -> None:
        """Reads again where a write's outcome was not seen; an operation that ended by it is settled all the same."""
        if not self._cell.unsure:
            return
        before = self._cell.operation
        await self._journal.reload()
        if before is not None:
            self._settle()


POWER: dict[str, Callable[[AgentClient], Awaitable[None]]] = {
    "start": AgentClient.start,
    "stop": AgentClient.stop,
    "restart": AgentClient.restart,
    "kill": AgentClient.kill,
}


def refuse_power(cell: Cell, verb: str) -> None:
    """Raises what keeps a game from being told `verb`; a kill is refused only where there is nothing to tell."""
    if verb != "kill":
        refuse_in_flight(cell)
        if cell.row.desired.suspended and verb != "stop":
            raise ForbiddenError("the account is suspended", code="suspended")
    refuse_unfinished(cell.row)
    if cell.observed.host.power is Power.OFF:
        raise ConflictError("the container is off; start it first", code="host_offline")


def _goes_away(operation: Operation) -> bool:
    if operation.kind is OperationKind.TEARDOWN:
        return True
    return operation.kind is OperationKind.PROVISION and operation.state is OperationState.COMPENSATING
