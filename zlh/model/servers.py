"""What the Portal shows of a container: one normalized answer out of everything that was wanted and observed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from zlh.model.activity import Idle, Use
from zlh.model.agent_calls import Feature, features_of
from zlh.model.containers import Container, ContainerType, Lifecycle, Power
from zlh.model.edge import Reachability
from zlh.model.observed import (
    AgentObservation,
    AgentState,
    HostObservation,
    Liveness,
    Observed,
    Presence,
    Readiness,
)
from zlh.model.operations import Operation, OperationKind, OperationState, StepState

HOST_STATUS = {Power.ON: "online", Power.OFF: "offline", Power.UNKNOWN: "unknown"}

AGENT_STATUS = {
    AgentState.IDLE: "stopped",
    AgentState.INSTALLING: "installing",
    AgentState.STARTING: "starting",
    AgentState.RUNNING: "running",
    AgentState.STOPPING: "stopping",
    AgentState.CRASHED: "crashed",
    AgentState.ERROR: "error",
    AgentState.UNKNOWN: "unknown",
}

HOST_OPERATIONS = {
    OperationKind.START_HOST: ("starting", "the container is being started"),
    OperationKind.STOP_HOST: ("stopping", "the container is being stopped"),
    OperationKind.RESTART_HOST: ("starting", "the container is being restarted"),
}


@dataclass(frozen=True, slots=True)
class Server:
    """`Server` of the HTTP contract. Times are Unix seconds; `as_dict` gives the wire shape.

    `lacking` is what the agent was found to be too old for; what nobody asked for yet counts as there. `reachability`
    is None where containers are not published: people use their own addresses then. `retrieval_until` is how long a
    suspended container is on, so that its data can be fetched.
    """

    container: Container
    status: str
    reason: str
    host_status: str
    agent_status: str
    agent: AgentObservation
    observed_at: float | None
    stale_seconds: int | None
    operation: Operation | None
    lacking: frozenset[Feature] = frozenset()
    idle: Idle | None = None
    reachability: Reachability | None = None
    retrieval_until: datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        row, agent = self.container, self.agent
        status = agent.status
        return {
            "id": str(row.vmid),
            "name": row.name,
            "category": row.ctype.value.upper(),
            "type": row.ctype.value.upper(),
            "runtime": row.software.name,
            "flavor": row.software.variant or None,
            "version": row.software.version,
            "hostname": row.hostname,
            "dnsName": row.dns_name,
            "hostStatus": self.host_status,
            "status": self.status,
            "agentStatus": self.agent_status,
            "installStep": status.install_step if status else None,
            "crashCount": status.crash_count if status else row.crash_count,
            "lastSeen": rfc3339(agent.at) or (rfc3339_of(row.agent_last_seen)),
            "ip": row.address,
            "ready": self.status == "running" and bool(agent.readiness and agent.readiness.ready),
            "players": _players(agent),
            "resources": {
                "cpuPercent": status.cpu_percent if status else None,
                "memoryMb": status.memory_mb if status else None,
                "diskMb": status.disk_mb if status else None,
            },
            "agentVersion": agent.version.version if agent.version else None,
            "updateAvailable": agent.update.available if agent.update else None,
            "address": _address(row) if self.reachability is None else self.reachability.address,
            "addressReason": None if self.reachability is None else self.reachability.reason,
            "observedAt": rfc3339(self.observed_at),
            "staleSeconds": self.stale_seconds,
            "reason": self.reason,
            "operation": _operation(self.operation),
            "suspended": row.desired.suspended,
            "retrievalUntil": rfc3339_of(self.retrieval_until),
            "features": [feature.value for feature in features_of(row.ctype) if feature not in self.lacking],
            "idle": _idle(self.idle),
        }


def normalize(
    row: Container,
    observed: Observed,
    operation: Operation | None,
    now: float,
    lacking: frozenset[Feature] = frozenset(),
    idle: Idle | None = None,
    reachability: Reachability | None = None,
) -> Server:
    """The one answer about a container, with what it rests on. Never raises, never waits.

    Unknown never becomes stopped: "stopped" is only said when the agent itself said "idle", and "host offline" only
    when Proxmox said so.
    """
    status, reason = _status(row, observed, operation)
    observed_at = _observed_at(observed)
    return Server(
        container=row,
        status=status,
        reason=reason,
        host_status=HOST_STATUS[observed.host.power],
        agent_status=observed.agent.liveness.value,
        agent=observed.agent,
        observed_at=observed_at,
        stale_seconds=None if observed_at is None else max(0, int(now - observed_at)),
        operation=operation,
        lacking=lacking,
        idle=idle,
        reachability=reachability,
        retrieval_until=row.desired.retrieval_until if row.desired.retrieval_left(now) else None,
    )


def _status(row: Container, observed: Observed, operation: Operation | None) -> tuple[str, str]:
    host, agent = observed.host, observed.agent
    if operation is not None and _being_undone(operation):
        return "deleting", f"provisioning is being undone: {operation.error or 'no reason was recorded'}"
    if row.desired.lifecycle is Lifecycle.ABSENT or (operation and operation.kind is OperationKind.TEARDOWN):
        return "deleting", "teardown is under way"
    if operation is not None and operation.kind is OperationKind.PROVISION:
        return _provisioning(operation, agent)
    if operation is not None and operation.kind in HOST_OPERATIONS:
        return HOST_OPERATIONS[operation.kind]
    if host.presence is Presence.ABSENT:
        return "error", "the container does not exist in Proxmox any more"
    if host.power is Power.OFF:
        why = "; its account is suspended" if row.desired.suspended else ""
        return "host offline", f"Proxmox says that the container is stopped{why}"
    status, reason = _by_agent(host, agent)
    if operation is not None and operation.kind is OperationKind.RESTORE:
        return status, f"a backup is being restored; {reason}"
    return status, reason


def _being_undone(operation: Operation) -> bool:
    return operation.kind is OperationKind.PROVISION and operation.state is OperationState.COMPENSATING


def _provisioning(operation: Operation, agent: AgentObservation) -> tuple[str, str]:
    if operation.queued:
        return "provisioning", "waits for its turn: other operations are under way"
    heard = agent.status if agent.liveness is Liveness.ONLINE else None
    if heard is not None and heard.state in (AgentState.INSTALLING, AgentState.STARTING):
        return AGENT_STATUS[heard.state], heard.install_step or "the agent says so"
    step = next((step for step in operation.steps if step.state is not StepState.DONE), None)
    if step is None:
        return "provisioning", "the last step is being recorded"
    return "provisioning", f"step {step.name}: {step.error or step.note or step.state.value}"


def _by_agent(host: HostObservation, agent: AgentObservation) -> tuple[str, str]:
    """The agent's word counts also when Proxmox does not answer: a game that runs is never called unknown."""
    doubt = "" if host.power is Power.ON else f"; {host.reason}"
    if agent.liveness is Liveness.ONLINE and agent.status is not None:
        reason = agent.status.error or agent.status.install_step or _confirmed(agent.status.state, agent.readiness)
        if agent.stale:
            reason = f"last heard before a restart: {reason}"
        return AGENT_STATUS[agent.status.state], reason + doubt
    if agent.liveness is Liveness.OFFLINE and host.power is Power.ON:
        return "offline", f"the agent does not answer: {agent.reason}"
    if host.power is Power.UNKNOWN:
        return "unknown", f"{host.reason}; {agent.reason}"
    return "unknown", agent.reason


def _confirmed(state: AgentState, readiness: Readiness | None) -> str:
    if state is AgentState.RUNNING and readiness is not None and not readiness.ready:
        return f"the agent says so, but not that it is ready: {readiness.reason or 'no reason is given'}"
    return "the agent says so"


def _observed_at(observed: Observed) -> float | None:
    """Of what the status rests on: the agent while it answers, otherwise Proxmox."""
    if observed.agent.liveness is Liveness.ONLINE and observed.host.power is not Power.OFF:
        return observed.agent.at
    return observed.host.at if observed.host.at is not None else observed.agent.at


def _players(agent: AgentObservation) -> dict[str, Any] | None:
    if agent.players is None:
        return None
    return {"online": agent.players.online, "max": agent.players.max, "names": list(agent.players.names)}


def _address(row: Container) -> str | None:
    if row.address is None:
        return None
    if row.ctype is ContainerType.GAME and row.ports:
        return f"{row.address}:{row.ports[0]}"
    return row.address


def _operation(operation: Operation | None) -> dict[str, Any] | None:
    if operation is None:
        return None
    return {
        "id": operation.id,
        "kind": operation.kind.value,
        "state": operation.state.value,
        "queued": operation.queued,
        "href": f"/api/operations/{operation.id}",
    }


def _idle(idle: Idle | None) -> dict[str, Any] | None:
    if idle is None:
        return None
    usage = idle.usage
    return {
        "since": rfc3339(idle.since),
        "stopsAt": rfc3339(idle.stops_at),
        "evidence": {
            "ideConnections": usage.open.get(Use.IDE, 0),
            "consoleViewers": usage.open.get(Use.CONSOLE, 0),
            "lastIde": rfc3339(usage.at.get(Use.IDE)),
            "lastConsole": rfc3339(usage.at.get(Use.CONSOLE)),
            "lastCall": rfc3339(usage.at.get(Use.CALL)),
        },
    }


def rfc3339(at: float | None) -> str | None:
    """Unix seconds as the contract writes times."""
    return None if at is None else rfc3339_of(datetime.fromtimestamp(at, UTC))


def rfc3339_of(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
