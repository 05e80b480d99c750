"""A row of GET /api/instances: the container as the store has it, without secrets."""

from __future__ import annotations

from typing import Any

from zlh.containers.cell import Cell
from zlh.model.containers import ContainerType
from zlh.model.observed import AgentState
from zlh.model.servers import rfc3339, rfc3339_of


def instance_row(cell: Cell) -> dict[str, Any]:
    """The contract's field names; `payload` is what was asked for."""
    row, agent = cell.row, cell.observed.agent
    state = agent.status.state if agent.status is not None else AgentState.UNKNOWN
    return {
        "vmid": row.vmid,
        "customerId": row.owner_id,
        "ctype": row.ctype.value,
        "name": row.name,
        "hostname": row.hostname,
        "dnsName": row.dns_name,
        "ip": row.address,
        "allocatedPorts": list(row.ports),
        "payload": {
            "container_type": row.ctype.value,
            ("game" if row.ctype is ContainerType.GAME else "runtime"): row.software.name,
            "variant": row.software.variant or None,
            "version": row.software.version,
            "world": row.software.world or None,
            "memory_mb": row.resources.memory_mib,
            "cpuCores": row.resources.cpu_cores,
            "diskGiB": row.resources.disk_gib,
        },
        "agentState": state.value,
        "agentLastSeen": rfc3339(agent.at) or rfc3339_of(row.agent_last_seen),
        "crashCount": agent.status.crash_count if agent.status is not None else row.crash_count,
        "lastCrashAt": rfc3339(cell.last_crash_at),
        "createdAt": rfc3339_of(row.created_at),
        "updatedAt": rfc3339_of(row.updated_at),
    }
