from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.store.samples import NOW
from zlh.model.operations import Operation, OperationKind, OperationState, Step, StepState
from zlh.store.errors import IllegalMoveError
from zlh.store.journal import OPERATION_MOVES, STEP_MOVES, check_operation_move, moved, told


def operation(state: OperationState = OperationState.RUNNING, step: Step | None = None) -> Operation:
    steps = (step or Step("clone"),)
    return Operation("op-1", OperationKind.PROVISION, 5000, 1, state, steps, NOW, NOW)


def test_every_state_has_its_moves() -> None:
    assert set(OPERATION_MOVES) == set(OperationState)
    assert set(STEP_MOVES) == set(StepState)
    assert {state for state, moves in OPERATION_MOVES.items() if not moves} == {s for s in OperationState if s.final}


@pytest.mark.parametrize(("present", "following"), list(itertools.product(OperationState, repeat=2)))
def test_operations_move_only_as_the_table_says(present: OperationState, following: OperationState) -> None:
    if following in OPERATION_MOVES[present]:
        check_operation_move(operation(present), following)
    else:
        with pytest.raises(IllegalMoveError):
            check_operation_move(operation(present), following)


@given(st.lists(st.sampled_from(StepState)), st.sampled_from(OperationState))
def test_no_course_of_moves_is_against_the_table(wishes: list[StepState], state: OperationState) -> None:
    present = Step("clone")
    for number, wish in enumerate(wishes):
        now = NOW + timedelta(seconds=number)
        try:
            following = moved(operation(state, present), "clone", wish, now)
        except IllegalMoveError:
            continue
        assert wish in STEP_MOVES[present.state]
        assert not state.final
        assert (following.state in (StepState.STARTED, StepState.DONE)) <= (state is OperationState.RUNNING)
        assert (following.state in (StepState.UNDOING, StepState.UNDONE)) <= (state is OperationState.COMPENSATING)
        assert following.attempts - present.attempts == (wish is StepState.STARTED)
        assert (following.ended_at is None) == (wish in (StepState.STARTED, StepState.UNDOING))
        present = following


def test_a_restart_of_the_program_gives_a_step_no_more_time() -> None:
    first = moved(operation(), "clone", StepState.STARTED, NOW)
    again = moved(operation(step=first), "clone", StepState.STARTED, NOW + timedelta(minutes=1))
    assert (again.started_at, again.attempts) == (NOW, 2)


def test_a_step_that_failed_begins_anew() -> None:
    failed = Step("clone", StepState.FAILED, attempts=1, started_at=NOW, ended_at=NOW, error="locked")
    later = NOW + timedelta(minutes=1)
    again = moved(operation(step=failed), "clone", StepState.STARTED, later)
    assert (again.started_at, again.ended_at, again.error, again.attempts) == (later, None, None, 2)


def test_telling_merges_and_takes_out() -> None:
    step = Step("clone", data={"node": "pve1", "upid": "UPID:a"}, note="waits")
    after = told(operation(step=step), "clone", data={"upid": None, "try": 1})
    assert after.data == {"node": "pve1", "try": 1}
    assert after.note == "waits"
    assert told(operation(step=step), "clone", note="goes on").note == "goes on"
