"""/api/servers: normalized state from memory, and power."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from quart import Response

from zlh.api.bodies import Upgrade
from zlh.api.call import Call, json_response, raw_json
from zlh.api.operations import operation_json
from zlh.api.services import Fleet
from zlh.model.access import told
from zlh.model.containers import Resources
from zlh.model.operations import Operation

DONE = {"start": "started", "stop": "stopped", "restart": "restarted"}


async def list_servers(call: Call) -> Response:
    return raw_json(call.services.fleet.servers_json(call.sight))


async def one_server(call: Call, vmid: int) -> Response:
    """The server's fields stand at the top level too: the Portal reads them there."""
    fleet = call.services.fleet
    server, sizes = fleet.server(vmid).as_dict(), fleet.container(vmid).resources
    limits = {"memory": sizes.memory_mib, "disk": sizes.disk_gib, "cpu": sizes.cpu_cores}
    permissions = told(call.services.access.permissions(call.principal, vmid))
    return json_response({**server, "server": server, "limits": limits, "permissions": permissions})


def game(verb: str) -> Callable[..., Awaitable[Response]]:
    """The handler of one game command: start, stop, restart or kill."""

    async def handler(call: Call, vmid: int) -> Response:
        fleet = call.services.fleet
        commands = {
            "start": fleet.start_game,
            "stop": fleet.stop_game,
            "restart": fleet.restart_game,
            "kill": fleet.kill_game,
        }
        await commands[verb](vmid)
        return json_response({"ok": True})

    return handler


def host(verb: str) -> Callable[..., Awaitable[Response]]:
    """The handler of one host command: start, stop or restart."""

    async def handler(call: Call, vmid: int) -> Response:
        operation = await _host(call.services.fleet, verb, vmid, call.principal.actor_id)
        call.audit.details["operation"] = operation.id
        answer = {
            "success": True,
            "message": f"the server is being {DONE[verb]}",
            "operation": operation_json(operation),
        }
        return json_response(answer, 202)

    return handler


async def upgrade(call: Call, vmid: int) -> Response:
    body: Upgrade = call.body
    container = call.services.fleet.container(vmid)
    sizes = Resources(
        memory_mib=body.memory or container.resources.memory_mib,
        cpu_cores=body.cpu or container.resources.cpu_cores,
        disk_gib=body.disk or container.resources.disk_gib,
    )
    owner = await call.services.accounts.account(container.owner_id)
    operation = await call.services.fleet.upgrade(owner, vmid, sizes, actor_id=call.principal.actor_id)
    call.audit.details["operation"] = operation.id
    return json_response({"success": True, "operation": operation_json(operation)}, 202)


async def _host(fleet: Fleet, verb: str, vmid: int, actor_id: int) -> Operation:
    commands = {"start": fleet.start_host, "stop": fleet.stop_host, "restart": fleet.restart_host}
    return await commands[verb](vmid, actor_id=actor_id)
