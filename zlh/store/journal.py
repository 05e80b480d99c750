"""Which state may follow which, for operations and for their steps. Pure.

operation   running ─> succeeded | failed | compensating;  compensating ─> compensated | failed
step        pending ─> started ─> done | failed;  failed ─> started;  a started step may be started again
            whatever was begun ─> undoing ─> undone;  an undo may be begun again, and may fail
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from zlh.model.operations import Operation, OperationState, Step, StepState
from zlh.store.errors import IllegalMoveError

OPERATION_MOVES: Final[Mapping[OperationState, frozenset[OperationState]]] = {
    OperationState.RUNNING: frozenset({OperationState.SUCCEEDED, OperationState.FAILED, OperationState.COMPENSATING}),
    OperationState.COMPENSATING: frozenset({OperationState.COMPENSATED, OperationState.FAILED}),
    OperationState.SUCCEEDED: frozenset(),
    OperationState.FAILED: frozenset(),
    OperationState.COMPENSATED: frozenset(),
}

STEP_MOVES: Final[Mapping[StepState, frozenset[StepState]]] = {
    StepState.PENDING: frozenset({StepState.STARTED}),
    StepState.STARTED: frozenset({StepState.STARTED, StepState.DONE, StepState.FAILED, StepState.UNDOING}),
    StepState.DONE: frozenset({StepState.UNDOING}),
    StepState.FAILED: frozenset({StepState.STARTED, StepState.UNDOING}),
    StepState.UNDOING: frozenset({StepState.UNDOING, StepState.UNDONE, StepState.FAILED}),
    StepState.UNDONE: frozenset(),
}

# A step is done while the operation goes forward, and undone while it goes back.
_GOES_WITH: Final[Mapping[StepState, OperationState]] = {
    StepState.STARTED: OperationState.RUNNING,
    StepState.DONE: OperationState.RUNNING,
    StepState.UNDOING: OperationState.COMPENSATING,
    StepState.UNDONE: OperationState.COMPENSATING,
}


def check_operation_move(operation: Operation, state: OperationState) -> None:
    """Raises IllegalMoveError."""
    if state not in OPERATION_MOVES[operation.state]:
        raise IllegalMoveError(f"operation {operation.id} is {operation.state}: it cannot become {state}")


def moved(operation: Operation, name: str, state: StepState, now: datetime, *, error: str | None = None) -> Step:
    """The step of that name in its next state. Raises IllegalMoveError, also for a step that does not exist.

    `attempts` counts the starts. `started_at` is the time of the first of them since it last failed, so that a
    restart of the program does not give a step more time; `ended_at` and `error` tell of the last end.
    """
    step = _step(operation, name)
    if state not in STEP_MOVES[step.state]:
        raise IllegalMoveError(f"step {name} of {operation.id} is {step.state}: it cannot become {state}")
    if operation.state is not _GOES_WITH.get(state, operation.state) or operation.state.final:
        raise IllegalMoveError(f"operation {operation.id} is {operation.state}: step {name} cannot become {state}")
    if state is StepState.STARTED:
        since = step.started_at if step.state is StepState.STARTED else now
        return replace(step, state=state, attempts=step.attempts + 1, started_at=since, ended_at=None, error=None)
    if state is StepState.UNDOING:
        return replace(step, state=state, ended_at=None)
    if state is StepState.FAILED:
        return replace(step, state=state, ended_at=now, error=error)
    return replace(step, state=state, ended_at=now)


def told(operation: Operation, name: str, *, data: Mapping[str, Any] | None = None, note: str | None = None) -> Step:
    """The step with `data` merged into its own (a None takes the entry out), and with the note where one is given.

    Raises IllegalMoveError.
    """
    step = _step(operation, name)
    if operation.state.final:
        raise IllegalMoveError(f"operation {operation.id} is {operation.state}: its journal is closed")
    merged = {key: value for key, value in {**step.data, **(data or {})}.items() if value is not None}
    return replace(step, data=merged, note=step.note if note is None else note)


def _step(operation: Operation, name: str) -> Step:
    try:
        return operation.step(name)
    except KeyError:
        raise IllegalMoveError(f"operation {operation.id} has no step {name}") from None
