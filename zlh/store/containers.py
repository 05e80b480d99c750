"""Containers. Every function runs in the caller's transaction, on a database that was opened with a vault.

Those that return a Container raise AbsentError where there is no row.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from zlh.model.containers import Container, Desired, Resources
from zlh.model.errors import ConflictError
from zlh.store import rows
from zlh.store.notify import SHARES, notify
from zlh.store.reservations import renumber, reserve, resize_within, usage
from zlh.store.tables import accounts, containers

__all__ = [
    "Recorded",
    "all_containers",
    "delete",
    "get",
    "insert",
    "mark_provisioned",
    "of_owner",
    "record_observations",
    "renumber",
    "reserve",
    "resize_within",
    "set_address",
    "set_desired",
    "set_label",
    "set_node",
    "set_resources",
    "usage",
]


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is kept of an observation, for the time before the first poll after a restart."""

    vmid: int
    agent_state: str
    agent_last_seen: datetime | None
    crash_count: int
    last_crash_at: datetime | None


def get(connection: sa.Connection, vmid: int) -> Container | None:
    found = _load(connection, sa.select(containers).where(containers.c.vmid == vmid))
    return found[0] if found else None


def all_containers(connection: sa.Connection) -> list[Container]:
    """In the order of their vmids."""
    return _load(connection, sa.select(containers).order_by(containers.c.vmid))


def of_owner(connection: sa.Connection, owner_id: int) -> list[Container]:
    """In the order of their vmids."""
    return _load(
        connection, sa.select(containers).where(containers.c.owner_id == owner_id).order_by(containers.c.vmid)
    )


def insert(connection: sa.Connection, made: Iterable[Container]) -> None:
    """Records containers that exist already, as they are and without an operation: what is imported. No plan is
    asked. Raises ConflictError "exists" where one has a vmid, host name or address of another.
    """
    values = [
        {
            "vmid": row.vmid,
            "owner_id": row.owner_id,
            "ctype": row.ctype.value,
            "name": row.name,
            "hostname": row.hostname,
            **rows.software_values(row.software),
            **rows.resources_values(row.resources),
            "ports": list(row.ports),
            "agent_token": rows.sealed(connection, row.agent_token),
            **rows.desired_values(row.desired),
            "node": row.node,
            "address": row.address,
            "provisioned": row.provisioned,
            "created_at": row.created_at,
            "updated_at": row.updated_at,
        }
        for row in made
    ]
    if not values:
        return
    try:
        connection.execute(sa.insert(containers), values)
    except sa.exc.IntegrityError as error:
        raise ConflictError("a container of that number, name or address exists", code="exists") from error


def set_desired(connection: sa.Connection, vmid: int, desired: Desired) -> Container:
    """`desired.power` must be ON or OFF: nobody wants an unknown."""
    return rows.update(connection, vmid, **rows.desired_values(desired))


def set_label(connection: sa.Connection, vmid: int, label: str | None) -> Container:
    """The name that the owner chose, None for the default one. Raises ConflictError "name_taken"; of two who want
    one at once, one gets it."""
    if label is not None:
        first = sa.func.lower(sa.func.split_part(containers.c.hostname, ".", 1))
        if connection.execute(sa.select(sa.literal(1)).where(first == label, containers.c.vmid != vmid)).first():
            raise _taken(label)
    try:
        return rows.update(connection, vmid, label=label)
    except sa.exc.IntegrityError as error:
        raise _taken(str(label)) from error


def set_node(connection: sa.Connection, vmid: int, node: str) -> Container:
    return rows.update(connection, vmid, node=node)


def set_address(connection: sa.Connection, vmid: int, address: str | None) -> Container:
    """Raises ConflictError "address_taken" (`details` = {"vmid"}) where another container has that address."""
    if address is not None:
        other = sa.select(containers.c.vmid).where(containers.c.address == address, containers.c.vmid != vmid)
        holder = connection.execute(other).scalar()
        if holder is not None:
            raise ConflictError(
                f"container {holder} has the address {address}", code="address_taken", details={"vmid": holder}
            )
    return rows.update(connection, vmid, address=address)


def set_resources(connection: sa.Connection, vmid: int, resources: Resources) -> Container:
    """Asks no plan; `resize_within` does."""
    return rows.update(connection, vmid, **rows.resources_values(resources))


def mark_provisioned(connection: sa.Connection, vmid: int) -> Container:
    return rows.update(connection, vmid, provisioned=True)


def record_observations(connection: sa.Connection, recorded: Iterable[Recorded]) -> None:
    """Writes many in one statement; those whose row is gone are passed over. `updated_at` stays: nothing was changed
    by anybody.
    """
    # In the order of their vmids, as everybody locks rows.
    lines = sorted(recorded, key=lambda one: one.vmid)
    if not lines:
        return
    columns: dict[str, sa.types.TypeEngine[Any]] = {
        "vmid": sa.Integer(),
        "agent_state": sa.Text(),
        "agent_last_seen": sa.DateTime(timezone=True),
        "crash_count": sa.Integer(),
        "last_crash_at": sa.DateTime(timezone=True),
    }
    arrays = [
        sa.cast(sa.literal([getattr(line, name) for line in lines], ARRAY(kind)), ARRAY(kind))
        for name, kind in columns.items()
    ]
    values = sa.func.unnest(*arrays).table_valued(*(sa.column(name, kind) for name, kind in columns.items()))
    seen = values.render_derived(name="seen")
    statement = (
        sa.update(containers)
        .where(containers.c.vmid == seen.c.vmid)
        .values({name: seen.c[name] for name in columns if name != "vmid"})
    )
    connection.execute(statement)


def delete(connection: sa.Connection, vmid: int) -> bool:
    """Forgets the row, and with it the vmid's and the address's reservation and the shares; false where it was gone
    already. An account that is suspended for money may have nothing left to be suspended: it is reckoned anew."""
    notify(connection, SHARES, str(vmid))
    statement = sa.delete(containers).where(containers.c.vmid == vmid).returning(containers.c.owner_id)
    gone = connection.execute(statement).first()
    if gone is None:
        return False
    suspended = accounts.c.id == gone.owner_id, accounts.c.billing_suspended_at.is_not(None)
    connection.execute(sa.update(accounts).where(*suspended).values(billing_due_at=sa.func.now()))
    return True


def _taken(label: str) -> ConflictError:
    return ConflictError(f"another container has the name {label}", code="name_taken")


def _load(connection: sa.Connection, query: sa.Select[Any]) -> list[Container]:
    return [rows.container(connection, row._mapping) for row in connection.execute(query)]
