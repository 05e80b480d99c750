"""What to do next about one container: a pure function of what is wanted, what was seen and what is under way.

The container's actor calls it after every nudge and applies the plan; nothing in here waits, reads or writes.
"""

from __future__ import annotations

from dataclasses import dataclass

from zlh.model.containers import Container, Desired, Lifecycle, Power
from zlh.model.observed import HostObservation, Presence
from zlh.model.operations import Operation, OperationKind, OperationState, Step, StepState


@dataclass(frozen=True, slots=True)
class Nothing:
    """All is as wanted, or it is not ours to change; `reason` says which."""

    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again in `seconds`."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Begin:
    """Record an operation of this kind, then look again."""

    kind: OperationKind
    reason: str


@dataclass(frozen=True, slots=True)
class Do:
    """Carry `step` forward."""

    step: str


@dataclass(frozen=True, slots=True)
class Undo:
    """Take `step` back."""

    step: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Every step is done, or undone: record the end."""

    state: OperationState


Plan = Nothing | Wait | Begin | Do | Undo | Finish


@dataclass(frozen=True, slots=True)
class Repairs:
    """How repairs of this container's power went: `failed` in a row, and when an operation last ended."""

    failed: int = 0
    settled_at: float = 0.0


CONFIRM_SECONDS = 15.0
"""A power that differs from the wanted one counts once it was seen for this long: a reboot from inside looks like a
stop for a few seconds."""

REPAIR_BACKOFF_CAP_SECONDS = 900.0

REVERSIBLE = (OperationKind.PROVISION, OperationKind.UPGRADE, OperationKind.RESTORE)
"""The kinds that are compensated when a step fails for good; the others fail, or (teardown) go on."""


def reversible(kind: OperationKind, step: str) -> bool:
    """Whether the operation is taken back where this step of it fails for good. A backup that was restored stays so,
    also where the game does not start with it."""
    return kind in REVERSIBLE and (kind, step) != (OperationKind.RESTORE, "start")


def reconcile(
    row: Container | None,
    host: HostObservation,
    operation: Operation | None,
    repairs: Repairs,
    now: float,
) -> Plan:
    """The next step, a wait, or nothing. Never deletes what is wanted: TEARDOWN begins for Lifecycle.ABSENT alone."""
    if operation is not None and not operation.state.final:
        return advance(operation)
    if row is None:
        return Nothing("nothing is recorded")
    if row.desired.lifecycle is Lifecycle.ABSENT:
        return Begin(OperationKind.TEARDOWN, "the container is not wanted any more")
    if not row.provisioned:
        return Nothing("it was never provisioned to the end; delete it")
    return _power(row.desired, host, repairs, now)


def advance(operation: Operation) -> Plan:
    """Forward through the journal while RUNNING, backwards through what was begun while COMPENSATING."""
    if operation.state is OperationState.COMPENSATING:
        for step in reversed(operation.steps):
            if _to_undo(step):
                return Undo(step.name)
        return Finish(OperationState.COMPENSATED)
    for step in operation.steps:
        if step.state is not StepState.DONE:
            return Do(step.name)
    return Finish(OperationState.SUCCEEDED)


def _to_undo(step: Step) -> bool:
    return step.state not in (StepState.PENDING, StepState.UNDONE)


def _power(desired: Desired, host: HostObservation, repairs: Repairs, now: float) -> Plan:
    if host.presence is Presence.ABSENT:
        return Nothing("it does not exist in Proxmox, though it is wanted: an operator decides")
    if host.presence is Presence.UNKNOWN or host.power is Power.UNKNOWN:
        return Nothing(f"the power is unknown: {host.reason}")
    wanted = desired.power_at(now)
    if host.power is wanted:
        left = desired.retrieval_left(now)
        return Wait(left, "it is on so that its data can be fetched") if left else Nothing("as wanted")
    if host.lock:
        return Nothing(f"Proxmox holds it: {host.lock}")
    return _repair(wanted, host, repairs, now, "; its account is suspended" if desired.suspended else "")


def _repair(wanted: Power, host: HostObservation, repairs: Repairs, now: float, why: str) -> Plan:
    patience = min(CONFIRM_SECONDS * 2**repairs.failed, REPAIR_BACKOFF_CAP_SECONDS)
    seen_since = max(host.since or now, repairs.settled_at)
    if now - seen_since < patience or (host.at or 0.0) <= repairs.settled_at:
        return Wait(
            max(1.0, patience - (now - seen_since)), f"power is {host.power}, wanted {wanted}: to be confirmed"
        )
    kind = OperationKind.START_HOST if wanted is Power.ON else OperationKind.STOP_HOST
    return Begin(kind, f"power is {host.power}, wanted {wanted}{why}")
