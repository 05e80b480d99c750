"""/api/{game,dev}/<vmid>/backups: backups of a container's files. Good answers are the agent's own."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal, Self

import orjson
from pydantic import AfterValidator, ConfigDict, StringConstraints, model_validator
from quart import Response

from zlh.api.answers import Answer, Operation
from zlh.api.bodies import Body, printable
from zlh.api.call import Call, json_response, raw_json
from zlh.api.forwarding import require_type
from zlh.api.operations import operation_json
from zlh.model.agent_calls import AgentAnswer
from zlh.model.containers import ContainerType
from zlh.model.errors import AbsentError

BACKUP_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
BackupName = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), AfterValidator(printable)
]

Handler = Callable[..., Awaitable[Response]]


class CreateBackup(Body):
    name: BackupName | None = None


class ChangeBackup(Body):
    name: BackupName | None = None
    locked: bool | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.name is None and self.locked is None:
            raise ValueError("at least one of name and locked is needed")
        return self


class RestoreBackup(Body):
    """`stop`: a game that runs is stopped first. `start`: whether it runs in the end; as it was where it is not
    given."""

    stop: bool = False
    start: bool | None = None


class AgentTold(Answer):
    """What an agent says, as it came: there may be more in it."""

    model_config = ConfigDict(extra="allow")


class OneBackup(AgentTold):
    """`error` says why a failed one failed."""

    id: str
    name: str
    created_at: str
    size_bytes: int | None = None
    state: Literal["creating", "ready", "failed"]
    locked: bool = False
    error: str | None = None


class Backups(AgentTold):
    backups: list[OneBackup]


class BackupBegun(AgentTold):
    id: str


class Restoring(Answer):
    operation: Operation


def list_backups(ctype: ContainerType) -> Handler:
    async def handler(call: Call, vmid: int) -> Response:
        require_type(call, vmid, (ctype,))
        return _passed_on(await call.services.fleet.backups.list(vmid))

    return handler


def create(ctype: ContainerType) -> Handler:
    async def handler(call: Call, vmid: int) -> Response:
        body: CreateBackup = call.body
        require_type(call, vmid, (ctype,))
        owner = await call.services.accounts.account(call.services.fleet.container(vmid).owner_id)
        answer = await call.services.fleet.backups.create(vmid, owner, body.name)
        begun = orjson.loads(answer.body or b"null")
        if isinstance(begun, dict) and isinstance(begun.get("id"), str):
            call.audit.details["backup"] = begun["id"]
        return _passed_on(answer)

    return handler


def change(ctype: ContainerType) -> Handler:
    async def handler(call: Call, vmid: int, backup_id: str) -> Response:
        body: ChangeBackup = call.body
        _note(call, vmid, ctype, backup_id)
        if body.locked is not None:
            call.audit.details["locked"] = body.locked
        changes = body.model_dump(exclude_none=True)
        return _passed_on(await call.services.fleet.backups.change(vmid, backup_id, changes))

    return handler


def delete(ctype: ContainerType) -> Handler:
    async def handler(call: Call, vmid: int, backup_id: str) -> Response:
        _note(call, vmid, ctype, backup_id)
        return _passed_on(await call.services.fleet.backups.delete(vmid, backup_id))

    return handler


def restore(ctype: ContainerType) -> Handler:
    async def handler(call: Call, vmid: int, backup_id: str) -> Response:
        body: RestoreBackup = call.body
        _note(call, vmid, ctype, backup_id)
        operation = await call.services.fleet.backups.restore(
            vmid, backup_id, stop=body.stop, start=body.start, actor_id=call.principal.actor_id
        )
        call.audit.details["operation"] = operation.id
        return json_response({"operation": operation_json(operation)}, 202)

    return handler


def _note(call: Call, vmid: int, ctype: ContainerType, backup_id: str) -> None:
    """Raises AbsentError for what can be no backup: the id becomes part of an address at the agent."""
    require_type(call, vmid, (ctype,))
    if not BACKUP_ID.fullmatch(backup_id):
        raise AbsentError("there is no such backup")
    call.audit.details["backup"] = backup_id


def _passed_on(answer: AgentAnswer) -> Response:
    return raw_json(answer.body, answer.status)
