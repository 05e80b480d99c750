"""/api/instances: what a customer has, and asking for more."""

from __future__ import annotations

import orjson
import sqlalchemy as sa
from quart import Response

from zlh.api.bodies import CreateInstance
from zlh.api.call import Call, json_response, raw_json
from zlh.api.operations import operation_json
from zlh.model.accounts import Account
from zlh.model.containers import Container, ContainerRequest, ContainerType, Resources, Software
from zlh.model.errors import AbsentError, InvalidError, PaymentRequiredError
from zlh.model.operations import Operation
from zlh.model.plans import Plan, plan_of


async def list_instances(call: Call) -> Response:
    fleet = call.services.fleet
    rows = [fleet.instance_row(container.vmid) for container in fleet.containers(call.sight)]
    return json_response({"ok": True, "rows": rows})


async def one_instance(call: Call, vmid: int) -> Response:
    return json_response({"ok": True, "row": call.services.fleet.instance_row(vmid)})


async def create_instance(call: Call) -> Response:
    body: CreateInstance = call.body
    software = _software(call, body)
    account = await _owner(call, body)
    request = ContainerRequest(
        ctype=body.ctype,
        name=body.name or software.name,
        software=software,
        resources=_resources(body, _plan(call, account)),
        ports=_ports(call, body),
    )

    def keep(connection: sa.Connection, container: Container, operation: Operation) -> None:
        call.keep(connection, 202, _accepted(container, operation))

    container, operation = await call.services.fleet.create(
        account, request, actor_id=call.principal.actor_id, also=keep
    )
    call.audit.subject_id, call.audit.vmid = account.id, container.vmid
    call.audit.details["operation"] = operation.id
    return raw_json(_accepted(container, operation), 202)


def _accepted(container: Container, operation: Operation) -> bytes:
    return orjson.dumps(
        {
            "ok": True,
            "vmid": container.vmid,
            "hostname": container.hostname,
            "ip": None,
            "operation": operation_json(operation),
        }
    )


def _software(call: Call, body: CreateInstance) -> Software:
    """Raises InvalidError for what is not in the catalog."""
    catalog, version = call.services.catalog(), body.version or ""
    if body.ctype is ContainerType.GAME:
        game, variant = body.game or "", body.variant or ""
        known = catalog.has_game(game, variant, version)
        words = f"{game} {variant} {version}"
        world = body.world or call.services.games.of(game).world
        software = Software(name=game, variant=variant, version=version, world=world)
    else:
        known = catalog.has_runtime(body.runtime or "", version)
        words = f"{body.runtime} {version}"
        software = Software(name=body.runtime or "", version=version)
    if not known:
        raise InvalidError(f"{words} is not in the catalog", code="not_in_catalog")
    return software


async def _owner(call: Call, body: CreateInstance) -> Account:
    """The caller; whoever an operator names. What a customer writes there is nobody's business."""
    accounts, principal = call.services.accounts, call.principal
    if body.customer_id is None or not principal.role.sees_all:
        return await accounts.account(principal.account_id)
    if type(body.customer_id) is not int or not 0 < body.customer_id < 2**63:
        raise InvalidError.of(("customerId", "an account's number is expected"))
    try:
        return await accounts.account(body.customer_id)
    except AbsentError:
        raise InvalidError(f"there is no account {body.customer_id}", code="no_such_customer") from None


def _plan(call: Call, account: Account) -> Plan:
    plan = plan_of(account, call.services.plans)
    if plan is None:
        raise PaymentRequiredError("there is no active plan; choose one first")
    return plan


def _resources(body: CreateInstance, plan: Plan) -> Resources:
    return Resources(
        memory_mib=body.memory_mib or plan.defaults.memory_mib,
        cpu_cores=body.cpu_cores or plan.defaults.cpu_cores,
        disk_gib=body.disk_gib or plan.defaults.disk_gib,
    )


def _ports(call: Call, body: CreateInstance) -> tuple[int, ...]:
    if body.ports or body.ctype is not ContainerType.GAME:
        return tuple(body.ports or ())
    return call.services.games.of(body.game or "").ports
