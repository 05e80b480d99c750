"""A place for a new container: within the plan, with a vmid and an address of its own, and the operation to make it.

Locks are taken in one order everywhere (account, vmid range, addresses): reservations wait and never deadlock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from zlh.model.containers import Container, ContainerRequest, ContainerType, Resources
from zlh.model.errors import AbsentError, ForbiddenError
from zlh.model.names import hostname
from zlh.model.operations import Operation, OperationKind
from zlh.model.plans import Plan, Usage, check_plan
from zlh.store import accounts, operations, rows
from zlh.store.notify import SHARES, notify
from zlh.store.places import AddressPool, next_address, next_vmid
from zlh.store.tables import UNFINISHED, containers, vmid_cursors
from zlh.store.tables import operations as operations_table

_ADDRESS_LOCK: Final = 0x7A616464


def reserve(
    connection: sa.Connection,
    owner_id: int,
    request: ContainerRequest,
    plan: Plan,
    *,
    vmids: range,
    address_pool: AddressPool | None,
    agent_token: str,
    steps: Sequence[str],
    now: datetime,
    exclude: Collection[int] = (),
    zone: str = "",
    kind: OperationKind = OperationKind.PROVISION,
    actor_id: int | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> tuple[Container, Operation]:
    """Records a container and its operation, or neither. Two who want the last place of a plan do not both get it.

    `exclude` are vmids that Proxmox has but no row of ours. `address_pool` is None where DHCP gives the address.
    Raises PlanLimitError, ForbiddenError "suspended", AbsentError for an unknown owner, and UnavailableError
    "no_vmid_left" or "no_address_left".
    """
    owner = accounts.lock(connection, owner_id)
    if owner.suspended_at is not None:
        raise ForbiddenError("the account is suspended", code="suspended")
    check_plan(plan, usage(connection, owner_id).plus(request.ctype, request.resources))
    vmid = _take_vmid(connection, vmids, exclude)
    values = {
        "vmid": vmid,
        "owner_id": owner_id,
        "ctype": request.ctype.value,
        "name": request.name,
        "hostname": hostname(request.name, vmid, zone),
        **rows.software_values(request.software),
        **rows.resources_values(request.resources),
        "ports": list(request.ports),
        "agent_token": rows.sealed(connection, agent_token),
        **rows.desired_values(rows.NEW),
        "address": _take_address(connection, address_pool),
        "created_at": now,
        "updated_at": now,
    }
    row = connection.execute(sa.insert(containers).values(values).returning(containers)).one()
    operation = operations.begin(
        connection,
        kind,
        vmid,
        owner_id=owner_id,
        steps=steps,
        now=now,
        actor_id=actor_id,
        arguments=arguments,
    )
    return rows.container(connection, row._mapping), operation


def renumber(
    connection: sa.Connection,
    vmid: int,
    *,
    vmids: range,
    now: datetime,
    exclude: Collection[int] = (),
) -> tuple[Container, Operation | None]:
    """Moves a container that Proxmox refused as "already exists" to the next free vmid, with the operation in flight.

    Its host name follows, in the zone that it was in. Raises AbsentError, and UnavailableError "no_vmid_left".
    """
    query = sa.select(containers.c.name, containers.c.hostname).where(containers.c.vmid == vmid).with_for_update()
    found = connection.execute(query).first()
    if found is None:
        raise AbsentError(f"there is no container {vmid}")
    new = _take_vmid(connection, vmids, {vmid, *exclude})
    operation = operations.renumber(connection, vmid, new, now)
    _label, _, zone = found.hostname.partition(".")
    statement = (
        sa.update(containers)
        .where(containers.c.vmid == vmid)
        .values(vmid=new, hostname=hostname(found.name, new, zone), updated_at=now)
        .returning(containers)
    )
    row = rows.container(connection, connection.execute(statement).one()._mapping)
    # The shares follow the row.
    for number in (vmid, new):
        notify(connection, SHARES, str(number))
    return row, operation


def resize_within(connection: sa.Connection, vmid: int, resources: Resources, plan: Plan) -> Container:
    """Gives a container another size where the owner's plan has room for it, counting all of the owner's containers.

    Raises PlanLimitError, AbsentError.
    """
    query = sa.select(containers.c.owner_id, containers.c.ctype).where(containers.c.vmid == vmid)
    found = connection.execute(query).first()
    if found is None:
        raise AbsentError(f"there is no container {vmid}")
    accounts.lock(connection, found.owner_id)
    others = usage(connection, found.owner_id, without=vmid)
    check_plan(plan, others.plus(ContainerType(found.ctype), resources))
    return rows.update(connection, vmid, **rows.resources_values(resources))


def usage(connection: sa.Connection, owner_id: int, *, without: int | None = None) -> Usage:
    """What the owner's containers take together; one that is being torn down counts until it is gone."""
    query = sa.select(
        containers.c.ctype, containers.c.memory_mib, containers.c.cpu_cores, containers.c.disk_gib
    ).where(containers.c.owner_id == owner_id)
    if without is not None:
        query = query.where(containers.c.vmid != without)
    return Usage.of((ContainerType(ctype), Resources(*sizes)) for ctype, *sizes in connection.execute(query))


def _take_vmid(connection: sa.Connection, vmids: range, exclude: Collection[int]) -> int:
    """Whoever takes one of this range holds the range's cursor until the transaction ends."""
    name = f"{vmids.start}-{vmids.stop - 1}"
    fresh = insert(vmid_cursors).values(range=name, last=vmids[-1]).on_conflict_do_nothing()
    connection.execute(fresh)
    cursor = sa.select(vmid_cursors.c.last).where(vmid_cursors.c.range == name).with_for_update()
    last = connection.execute(cursor).scalar_one()
    # An operation may outlive its row by a moment: its vmid is not free yet.
    used = sa.union(
        sa.select(containers.c.vmid),
        sa.select(operations_table.c.vmid).where(UNFINISHED),
    )
    vmid = next_vmid(vmids, last, {*connection.execute(used).scalars(), *exclude})
    connection.execute(sa.update(vmid_cursors).where(vmid_cursors.c.range == name).values(last=vmid))
    return vmid


def _take_address(connection: sa.Connection, pool: AddressPool | None) -> str | None:
    if pool is None:
        return None
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADDRESS_LOCK)))
    taken = connection.execute(sa.select(containers.c.address).where(containers.c.address.is_not(None))).scalars()
    return next_address(pool, set(taken))
