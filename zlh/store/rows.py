"""Between a row of `containers` and the model's Container."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from zlh.model.containers import Container, ContainerType, Desired, Lifecycle, Power, Resources, Software
from zlh.model.errors import AbsentError
from zlh.store.tables import containers
from zlh.store.vault import vault_of

NEW: Final = Desired()

_PLAIN: Final = (
    "vmid",
    "owner_id",
    "name",
    "hostname",
    "label",
    "created_at",
    "updated_at",
    "node",
    "address",
    "provisioned",
    "agent_state",
    "agent_last_seen",
    "crash_count",
    "last_crash_at",
)

_DESIRED: Final = ("suspended", "retrieval_since", "retrieval_until", "game_held")


def container(connection: sa.Connection, row: Mapping[Any, Any]) -> Container:
    return Container(
        **{name: row[name] for name in _PLAIN},
        ctype=ContainerType(row["ctype"]),
        software=Software(row["software"], row["version"], row["variant"], row["world"]),
        resources=Resources(row["memory_mib"], row["cpu_cores"], row["disk_gib"]),
        ports=tuple(row["ports"]),
        agent_token=vault_of(connection).open(row["agent_token"]),
        desired=Desired(
            Lifecycle(row["desired_lifecycle"]),
            Power(row["desired_power"]),
            **{name: row[name] for name in _DESIRED},
        ),
    )


def update(connection: sa.Connection, vmid: int, **values: Any) -> Container:
    """Writes those columns. Raises AbsentError."""
    statement = (
        sa.update(containers)
        .where(containers.c.vmid == vmid)
        .values(**values, updated_at=sa.func.now())
        .returning(containers)
    )
    row = connection.execute(statement).first()
    if row is None:
        raise AbsentError(f"there is no container {vmid}")
    return container(connection, row._mapping)


def sealed(connection: sa.Connection, agent_token: str) -> bytes:
    return vault_of(connection).seal(agent_token)


def software_values(software: Software) -> dict[str, str]:
    return {
        "software": software.name,
        "version": software.version,
        "variant": software.variant,
        "world": software.world,
    }


def resources_values(resources: Resources) -> dict[str, int]:
    return {
        "memory_mib": resources.memory_mib,
        "cpu_cores": resources.cpu_cores,
        "disk_gib": resources.disk_gib,
    }


def desired_values(desired: Desired) -> dict[str, object]:
    return {
        "desired_lifecycle": desired.lifecycle.value,
        "desired_power": desired.power.value,
        **{name: getattr(desired, name) for name in _DESIRED},
    }
