"""Whether somebody can be let through to a container at this moment, and if not, why."""

from __future__ import annotations

from enum import StrEnum

from zlh.model.containers import ContainerType, Lifecycle, Power
from zlh.model.operations import OperationKind
from zlh.model.whereabouts import Whereabouts


class Condition(StrEnum):
    OPEN = "open"
    MAKING = "making"  # it is being made, or has no address yet
    OFF = "off"
    STARTING = "starting"
    STOPPING = "stopping"
    SUSPENDED = "suspended"
    DELETING = "deleting"
    FOREIGN = "foreign"  # a game server has neither an IDE nor forwarded ports


_BY_OPERATION = {
    OperationKind.TEARDOWN: Condition.DELETING,
    OperationKind.STOP_HOST: Condition.STOPPING,
    OperationKind.START_HOST: Condition.STARTING,
    OperationKind.RESTART_HOST: Condition.STARTING,
}


def condition(found: Whereabouts) -> Condition:
    """A power that is not known lets through: the connection will tell."""
    row = found.row
    if row.ctype is not ContainerType.DEV:
        return Condition.FOREIGN
    if row.desired.lifecycle is Lifecycle.ABSENT:
        return Condition.DELETING
    if row.desired.suspended:
        return Condition.SUSPENDED
    if found.doing in _BY_OPERATION:
        return _BY_OPERATION[found.doing]
    if not row.provisioned or row.address is None:
        return Condition.MAKING
    if found.power is Power.OFF:
        return Condition.OFF
    return Condition.OPEN
