"""/api/operations: what is being done, step by step."""

from __future__ import annotations

import re
from typing import Any

from quart import Response

from zlh.api.bodies import OperationsQuery
from zlh.api.call import Call, json_response
from zlh.model.errors import AbsentError
from zlh.model.operations import Operation
from zlh.model.servers import rfc3339_of

OPERATION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def operation_json(operation: Operation) -> dict[str, Any]:
    """The contract's `operation`. A step's `data` stays inside: it is for the one who carries it out."""
    return {
        "id": operation.id,
        "kind": operation.kind.value,
        "vmid": operation.vmid,
        "state": operation.state.value,
        "queued": operation.queued,
        "steps": [
            {
                "name": step.name,
                "state": step.state.value,
                "attempts": step.attempts,
                "startedAt": rfc3339_of(step.started_at),
                "endedAt": rfc3339_of(step.ended_at),
                "error": step.error,
                "note": step.note,
            }
            for step in operation.steps
        ],
        "error": operation.error,
        "createdAt": rfc3339_of(operation.created_at),
        "updatedAt": rfc3339_of(operation.updated_at),
        "href": f"/api/operations/{operation.id}",
    }


async def list_operations(call: Call) -> Response:
    """The newest first; `next` is the `before` of the following page."""
    query: OperationsQuery = call.query
    found = await call.services.fleet.operations(call.sight, vmid=query.vmid, before=query.before, limit=query.limit)
    following = found[-1].id if len(found) == query.limit else None
    return json_response({"operations": [operation_json(operation) for operation in found], "next": following})


async def one_operation(call: Call, operation_id: str) -> Response:
    return json_response({"operation": operation_json(await visible(call, operation_id))})


async def visible(call: Call, operation_id: str) -> Operation:
    """Raises AbsentError also for the operation of somebody else."""
    absent = AbsentError("there is no such operation")
    if not OPERATION_ID.fullmatch(operation_id):
        raise absent
    try:
        operation = await call.services.fleet.operation(operation_id)
    except AbsentError:
        raise absent from None
    if not (call.principal.sees(operation.owner_id) or _shared(call, operation)):
        raise absent
    return operation


def _shared(call: Call, operation: Operation) -> bool:
    """Whether it is of a container that is shared with the caller, and not of one that had this vmid before."""
    if operation.vmid not in call.sight.shared:
        return False
    container = call.services.fleet.container(operation.vmid)
    return container.owner_id == operation.owner_id and container.created_at <= operation.created_at
