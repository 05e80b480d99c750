"""Backups of one container: what is asked of its agent about them, one change at a time, and how a restore begins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
import trio

from zlh.containers.calls import carry_out, refuse_unreachable, translate, unsupported
from zlh.containers.cell import Cell
from zlh.containers.crew import Crew
from zlh.drivers.agent import AgentClient, parse_backups
from zlh.drivers.errors import DriverError, Invalid
from zlh.model.accounts import Account
from zlh.model.agent_calls import AgentAnswer, AgentCall, Feature
from zlh.model.backups import Backup, Backups, BackupState, RestoreState
from zlh.model.errors import AbsentError, AgentProblemError, AgentUnreachableError, ConflictError, UnavailableError
from zlh.model.observed import AgentState, Status
from zlh.model.operations import Operation
from zlh.model.plans import Plan, check_backups

LIST = AgentCall(Feature.BACKUPS, "GET", "/backups", changes=False, max_body=4 << 20)

CHANGE_SECONDS = 40.0
"""How long a change may take: a look and a call of its own, and those of whoever was before it."""

LOOK_SECONDS = 10.0
"""How long the agent may take to say that nothing speaks against a restore: power commands wait for that."""

MOST_WAITING = 3


@dataclass(frozen=True, slots=True)
class CreateBackup:
    """Within `plan`, or so many `beyond` it; replies with an AgentAnswer or a ProblemError, as the next two."""

    name: str | None
    plan: Plan
    beyond: int = 0


@dataclass(frozen=True, slots=True)
class ChangeBackup:
    """`changes` has "name" or "locked" or both."""

    backup_id: str
    changes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DeleteBackup:
    backup_id: str


@dataclass(frozen=True, slots=True)
class RestoreBackup:
    """`stop`: a game that runs may be stopped. `start`: whether it is to run in the end, None for as it was. Replies
    with the Operation or a ProblemError."""

    backup_id: str
    stop: bool
    start: bool | None
    actor_id: int | None


Change = CreateBackup | ChangeBackup | DeleteBackup


class Ask(Protocol):
    """See `Fleet._ask`."""

    async def __call__(self, vmid: int, message: object, *, lane: str = ..., within: float = ...) -> object: ...


class BackupCommands:
    """The fleet's client functions about backups. All refusals are ProblemErrors; answers are the agent's."""

    def __init__(
        self, ask: Ask, call: Callable[[int, AgentCall], Awaitable[AgentAnswer]], plan: Callable[[Account], Plan]
    ) -> None:
        self._ask = ask
        self._call = call
        self._plan = plan

    async def list(self, vmid: int) -> AgentAnswer:
        """As the agent tells them."""
        return await self._call(vmid, LIST)

    async def all(self, vmid: int) -> Backups:
        """What the agent tells of them, understood. Raises AgentUnreachableError where it cannot be."""
        return understood(await self._call(vmid, LIST))

    async def create(self, vmid: int, owner: Account, name: str | None = None, *, beyond: int = 0) -> AgentAnswer:
        """Begins one: 202 `{"id"}`. `owner` is the container's. Raises PlanLimitError where the plan has no room, nor
        had it with so many more."""
        return await self._change(vmid, CreateBackup(name, self._plan(owner), beyond))

    async def change(self, vmid: int, backup_id: str, changes: Mapping[str, Any]) -> AgentAnswer:
        """Another name, locked or not. Raises AbsentError, AgentUnsupportedError."""
        return await self._change(vmid, ChangeBackup(backup_id, changes))

    async def delete(self, vmid: int, backup_id: str) -> AgentAnswer:
        """Raises AbsentError, ConflictError "locked" or "not_ready" (it is being made)."""
        return await self._change(vmid, DeleteBackup(backup_id))

    async def restore(
        self, vmid: int, backup_id: str, *, stop: bool = False, start: bool | None = None, actor_id: int | None = None
    ) -> Operation:
        """Puts the container's files back. Raises AbsentError, ConflictError "running" (unless `stop`),
        "not_ready", "restoring"."""
        message = RestoreBackup(backup_id, stop, start, actor_id)
        operation = await self._ask(vmid, message)
        assert isinstance(operation, Operation)
        return operation

    async def _change(self, vmid: int, message: Change) -> AgentAnswer:
        answer = await self._ask(vmid, message, lane="shared", within=CHANGE_SECONDS)
        assert isinstance(answer, AgentAnswer)
        return answer


class BackupKeeper:
    """One container's; part of its actor. Every change looks at what is there first, and no two overlap: what one has
    counted, another has not added to."""

    def __init__(self, cell: Cell, crew: Crew) -> None:
        self._cell = cell
        self._crew = crew
        self._lock = trio.Lock()

    @asynccontextmanager
    async def alone(self, *, most_waiting: int = MOST_WAITING) -> AsyncIterator[None]:
        """No other change is under way. Raises UnavailableError where that many wait for it already: they would hold
        the places of other calls."""
        if self._lock.locked() and self._lock.statistics().tasks_waiting >= most_waiting:
            raise UnavailableError("other changes of this container's backups are under way", retry_after=2.0)
        async with self._lock:
            yield

    async def carry_out(self, change: Change) -> AgentAnswer:
        async with self.alone():
            refuse_unreachable(self._cell)
            with self._client() as client:
                match change:
                    case CreateBackup():
                        return await self._create(client, change)
                    case ChangeBackup(backup_id, changes):
                        return await self._change(client, backup_id, changes)
                    case DeleteBackup(backup_id):
                        return await self._delete(client, backup_id)

    async def to_restore(self, wish: RestoreBackup) -> dict[str, Any]:
        """The arguments of the operation, once nothing speaks against it. To be called `alone`."""
        refuse_unreachable(self._cell)
        with self._client() as client:
            try:
                with trio.fail_after(LOOK_SECONDS):
                    found, status = await self._all(client), await client.status()
            except trio.TooSlowError:
                raise AgentUnreachableError(f"the agent did not answer within {LOOK_SECONDS:g} s") from None
            except DriverError as error:
                raise translate(error) from error
        refuse_restore(found, status, wish)
        ran = status.state in (AgentState.STARTING, AgentState.RUNNING)
        start = ran if wish.start is None else wish.start
        return {"backup": wish.backup_id, "stop": wish.stop, "ran": ran, "start": start}

    async def _create(self, client: AgentClient, wish: CreateBackup) -> AgentAnswer:
        """Where the answer is lost, what is new by then is what was asked for: nobody else makes any meanwhile."""
        before = await self._all(client)
        check_backups(wish.plan, before.backups, beyond=wish.beyond)
        body = {} if wish.name is None else {"name": wish.name}
        try:
            return await self._ask(client, AgentCall(Feature.BACKUPS, "POST", "/backups", body=body))
        except AgentUnreachableError as error:
            if not (error.details or {}).get("mayTakeEffect"):
                raise
            new = [backup.id for backup in (await self._all(client)).backups if before.find(backup.id) is None]
            if len(new) != 1:
                raise
            return AgentAnswer(202, orjson.dumps({"id": new[0]}))

    async def _change(self, client: AgentClient, backup_id: str, changes: Mapping[str, Any]) -> AgentAnswer:
        _named(await self._all(client), backup_id)
        path = f"/backups/{backup_id}"
        call = AgentCall(Feature.BACKUP_CHANGES, "PATCH", path, body=dict(changes), probe="/backups")
        try:
            return await self._ask(client, call)
        except AgentProblemError as refusal:
            if refusal.status != 404:
                raise
        # Gone in this moment, or the agent does not know the call.
        _named(await self._all(client), backup_id)
        self._cell.learn_lacking(Feature.BACKUP_CHANGES)
        raise unsupported(self._cell.agent_version, Feature.BACKUP_CHANGES)

    async def _delete(self, client: AgentClient, backup_id: str) -> AgentAnswer:
        backup = _named(await self._all(client), backup_id)
        if backup.locked:
            raise ConflictError("the backup is locked; unlock it first", code="locked")
        if backup.state is BackupState.CREATING:
            raise ConflictError("the backup is still being made", code="not_ready")
        call = AgentCall(Feature.BACKUPS, "DELETE", f"/backups/{backup_id}", probe="/backups")
        return await self._ask(client, call)

    async def _all(self, client: AgentClient) -> Backups:
        return understood(await self._ask(client, LIST))

    async def _ask(self, client: AgentClient, call: AgentCall) -> AgentAnswer:
        return await carry_out(call, client, self._cell)

    def _client(self) -> closing[AgentClient]:
        row = self._cell.row
        return closing(self._crew.site.agent(row, row.agent_token))


def understood(answer: AgentAnswer) -> Backups:
    """Raises AgentUnreachableError."""
    try:
        return parse_backups(answer.body)
    except Invalid as error:
        raise AgentUnreachableError(f"the agent's answer was not understood: /backups: {error}") from None


def refuse_restore(found: Backups, status: Status, wish: RestoreBackup) -> None:
    """Raises what speaks against restoring that backup now."""
    backup = _named(found, wish.backup_id)
    if backup.state is BackupState.FAILED:
        raise ConflictError(f"the backup failed: {backup.error or 'the agent gives no reason'}", code="backup_failed")
    if any(other.state is BackupState.CREATING for other in found.backups):
        raise ConflictError("a backup is being made; wait until it is ready", code="not_ready")
    if found.restore is not None and found.restore.state is RestoreState.RESTORING:
        raise ConflictError("the agent is restoring a backup", code="restoring")
    if status.state is AgentState.INSTALLING:
        raise ConflictError("the software is being installed", code="not_ready")
    if status.state in (AgentState.STARTING, AgentState.RUNNING, AgentState.STOPPING) and not wish.stop:
        raise ConflictError(
            f'it is {status.state.value}; stop it first, or send {{"stop": true}} to have it stopped', code="running"
        )


def _named(found: Backups, backup_id: str) -> Backup:
    backup = found.find(backup_id)
    if backup is None:
        raise AbsentError("there is no such backup")
    return backup
