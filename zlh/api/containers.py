"""/api/containers: teardown, and what was left over."""

from __future__ import annotations

from quart import Response

from zlh.api.bodies import Sweep, TeardownQuery
from zlh.api.call import Call, json_response
from zlh.api.operations import operation_json
from zlh.model.access import Permission
from zlh.model.edge import Entry
from zlh.model.errors import AbsentError
from zlh.model.operations import Operation, OperationKind, OperationState


async def teardown(call: Call, vmid: int) -> Response:
    """202 with the operation; 200 where `wait` saw it end."""
    query: TeardownQuery = call.query
    if call.services.access.may_see(call.principal, vmid):
        call.services.access.check(call.principal, vmid, Permission.OWN)
        operation = await call.services.fleet.teardown(vmid, force=query.force, actor_id=call.principal.actor_id)
    else:
        operation = await _last_teardown(call, vmid)
    call.audit.details["operation"] = operation.id
    call.audit.details["force"] = query.force
    if query.wait and not operation.state.final:
        operation = await call.services.fleet.wait(operation.id, within=query.wait)
    return json_response({"ok": True, "operation": operation_json(operation)}, 200 if operation.state.final else 202)


async def orphans(call: Call) -> Response:
    found = await call.services.fleet.orphans()
    found += [_at_target(name, entry) for name, entry in call.services.edge.orphans()]
    return json_response({"orphans": found})


async def sweep(call: Call) -> Response:
    body: Sweep = call.body
    call.audit.details["dry_run"] = body.dry_run
    found = await call.services.fleet.sweep(dry_run=body.dry_run, actor_id=call.principal.actor_id)
    if body.dry_run:
        at_targets = [(name, entry, "would be swept") for name, entry in call.services.edge.orphans()]
    else:
        at_targets = await call.services.edge.sweep()
    found += [{**_at_target(name, entry), "outcome": outcome} for name, entry, outcome in at_targets]
    return json_response({"dryRun": body.dry_run, "orphans": found})


def _at_target(name: str, entry: Entry) -> dict[str, object]:
    return {
        "vmid": entry.vmid or None,
        "where": name,
        "name": f"{entry.kind} {entry.name} {entry.value}",
        "node": None,
        "reason": "it bears our mark, and nobody knows its container",
        "sweep": "remove it",
    }


async def _last_teardown(call: Call, vmid: int) -> Operation:
    """A container that is gone was torn down once, or its provisioning was turned around: who asks again gets that
    operation. Raises AbsentError."""
    last = await call.services.fleet.operations(call.sight, vmid=vmid, limit=1)
    if not last or not (last[0].kind is OperationKind.TEARDOWN or last[0].state is OperationState.COMPENSATED):
        raise AbsentError("there is no such server")
    return last[0]
