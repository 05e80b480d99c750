"""Operations: long work that is recorded before it is begun and survives a crash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class OperationKind(StrEnum):
    PROVISION = "provision"
    TEARDOWN = "teardown"
    START_HOST = "start_host"
    STOP_HOST = "stop_host"
    RESTART_HOST = "restart_host"
    UPGRADE = "upgrade"
    RESTORE = "restore"


class OperationState(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"

    @property
    def final(self) -> bool:
        return self in (OperationState.SUCCEEDED, OperationState.FAILED, OperationState.COMPENSATED)


class StepState(StrEnum):
    """STARTED is written before the effect, DONE after it was seen; UNDOING and UNDONE are the same for `undo`."""

    PENDING = "pending"
    STARTED = "started"
    DONE = "done"
    FAILED = "failed"
    UNDOING = "undoing"
    UNDONE = "undone"


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the journal. `data` holds what a later look needs: the UPID, the chosen node."""

    name: str
    state: StepState = StepState.PENDING
    attempts: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: str | None = None
    note: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def upid(self) -> str | None:
        """The Proxmox task that this step waits for, recorded the moment it was returned."""
        value = self.data.get("upid")
        return value if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class Operation:
    """`revision` rises by one with every journal write; `queued` is true until it was given a place to run.

    `actor_id` is the account that asked for it, None where the control plane did itself. `arguments` holds what the
    kind needs beyond the container's row: the sizes before an upgrade, whether a teardown was forced.
    """

    id: str
    kind: OperationKind
    vmid: int
    owner_id: int
    state: OperationState
    steps: tuple[Step, ...]
    created_at: datetime
    updated_at: datetime
    actor_id: int | None = None
    queued: bool = True
    error: str | None = None
    revision: int = 0
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def step(self, name: str) -> Step:
        """The step of that name; KeyError where the operation has none."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)
