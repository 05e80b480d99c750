"""Which steps each kind of operation has, in order."""

from __future__ import annotations

from zlh.containers.steps.agent import AwaitAgent, AwaitRunning, SendConfig
from zlh.containers.steps.base import Step
from zlh.containers.steps.edge import Publish, Withdraw
from zlh.containers.steps.host import Address, Clone, Configure, Destroy, Resize, Shutdown, Start
from zlh.containers.steps.restore import AwaitRestored, Restore, StartGame, StopGame
from zlh.model.operations import OperationKind

STEPS: dict[OperationKind, tuple[Step, ...]] = {
    OperationKind.PROVISION: (
        Clone(),
        Configure(),
        Resize(),
        Start(),
        Address(),
        AwaitAgent(),
        SendConfig(),
        AwaitRunning(),
        Publish(),
    ),
    OperationKind.TEARDOWN: (Withdraw(), Shutdown(), Destroy()),
    OperationKind.START_HOST: (Start(), Address(), AwaitAgent()),
    OperationKind.STOP_HOST: (Shutdown(),),
    OperationKind.RESTART_HOST: (Shutdown(), Start(), Address(), AwaitAgent()),
    OperationKind.UPGRADE: (Configure(), Resize()),
    OperationKind.RESTORE: (StopGame(), Restore(), AwaitRestored(), StartGame()),
}


def step_names(kind: OperationKind) -> tuple[str, ...]:
    return tuple(step.name for step in STEPS[kind])
