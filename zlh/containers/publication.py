"""What the outside is to learn of one container. Pure."""

from __future__ import annotations

from zlh.containers.cell import Cell
from zlh.model.containers import Lifecycle, Power
from zlh.model.edge import Publication, Stage
from zlh.model.observed import AgentState, Liveness, Observed
from zlh.model.operations import OperationKind, OperationState, StepState

PUBLISH = "publish"
"""The step of a provisioning from whose beginning on a container is to be found."""


def publication(cell: Cell) -> Publication:
    row = cell.row
    return Publication(
        vmid=row.vmid,
        owner_id=row.owner_id,
        ctype=row.ctype,
        software=row.software.name,
        variant=row.software.variant,
        hostname=row.dns_name,
        address=row.address,
        node=row.node,
        ports=row.ports,
        stage=_stage(cell),
        serving=_serving(cell.observed),
        power=cell.observed.host.power,
    )


def _stage(cell: Cell) -> Stage:
    operation = cell.operation
    kind = operation.kind if operation is not None else None
    if cell.gone or cell.row.desired.lifecycle is Lifecycle.ABSENT or kind is OperationKind.TEARDOWN:
        return Stage.LEAVING
    found = Stage.SUSPENDED if cell.row.desired.suspended else Stage.PUBLISHED
    if cell.row.provisioned:
        return found
    if operation is None or kind is not OperationKind.PROVISION or operation.state is not OperationState.RUNNING:
        return Stage.LEAVING
    begun = any(step.name == PUBLISH and step.state is not StepState.PENDING for step in operation.steps)
    return found if begun else Stage.MAKING


def _serving(observed: Observed) -> bool | None:
    """Whether the game is there for its players; None where nobody knows."""
    agent = observed.agent
    if observed.host.power is Power.OFF:
        return False
    if agent.liveness is not Liveness.ONLINE or agent.status is None or agent.stale:
        return None
    if agent.status.state is AgentState.UNKNOWN:
        return None
    return agent.status.state is AgentState.RUNNING and (agent.readiness is None or agent.readiness.ready)
