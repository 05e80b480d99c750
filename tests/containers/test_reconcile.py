"""What is to be done next is decided by a pure function: whatever it is given, it never does these things."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.containers.samples import EPOCH, IN_FLIGHT, NOW, a_row, an_operation, desires, hosts, operations, rows
from zlh.containers.reconcile import (
    CONFIRM_SECONDS,
    REVERSIBLE,
    Begin,
    Do,
    Finish,
    Nothing,
    Repairs,
    Undo,
    Wait,
    advance,
    reconcile,
    reversible,
)
from zlh.model.containers import Container, Desired, Lifecycle, Power
from zlh.model.observed import HostObservation, Presence
from zlh.model.operations import Operation, OperationKind, OperationState, StepState
from zlh.store import journal

repairs = st.builds(Repairs, failed=st.integers(0, 40), settled_at=st.floats(0, NOW))
none_or_final = st.one_of(st.none(), operations(states=tuple(state for state in OperationState if state.final)))


@given(st.one_of(st.none(), rows), hosts, st.one_of(st.none(), operations()), repairs)
def test_teardown_begins_for_the_unwanted_alone(
    row: Container | None, host: HostObservation, operation: Operation | None, settled: Repairs
) -> None:
    plan = reconcile(row, host, operation, settled, NOW)
    if isinstance(plan, Begin) and plan.kind is OperationKind.TEARDOWN:
        assert row is not None
        assert row.desired.lifecycle is Lifecycle.ABSENT
    # It never makes anything either: only a customer does.
    assert not (isinstance(plan, Begin) and plan.kind in REVERSIBLE)


@given(rows, hosts, operations(states=IN_FLIGHT), repairs)
def test_an_operation_in_flight_is_advanced_and_no_other_begun(
    row: Container, host: HostObservation, operation: Operation, settled: Repairs
) -> None:
    assert reconcile(row, host, operation, settled, NOW) == advance(operation)
    assert isinstance(advance(operation), Do | Undo | Finish)


unknown = st.one_of(
    hosts.map(lambda host: replace(host, presence=Presence.UNKNOWN)),
    hosts.map(lambda host: replace(host, power=Power.UNKNOWN)),
)


@given(rows, unknown, none_or_final, st.booleans())
def test_unknown_begins_nothing_with_power(
    row: Container, host: HostObservation, operation: Operation | None, ripe: bool
) -> None:
    if ripe:
        # Nothing but the unknown keeps it from a repair.
        host = replace(host, lock="", at=NOW, since=NOW - 5000)
        row = replace(row, provisioned=True)
    plan = reconcile(row, host, operation, Repairs(), NOW)
    if row.desired.lifecycle is Lifecycle.PRESENT:
        assert isinstance(plan, Nothing)


@given(hosts, none_or_final, repairs)
def test_nothing_recorded_is_nothing_to_do(
    host: HostObservation, operation: Operation | None, settled: Repairs
) -> None:
    assert isinstance(reconcile(None, host, operation, settled, NOW), Nothing)


@given(rows, hosts, repairs)
def test_a_repair_brings_about_what_is_wanted(row: Container, host: HostObservation, settled: Repairs) -> None:
    plan = reconcile(row, host, None, settled, NOW)
    if not isinstance(plan, Begin) or plan.kind is OperationKind.TEARDOWN:
        return
    wanted = row.desired.power_at(NOW)
    assert plan.kind is (OperationKind.START_HOST if wanted is Power.ON else OperationKind.STOP_HOST)
    assert host.power not in (wanted, Power.UNKNOWN)
    assert row.provisioned
    assert not host.lock
    assert host.at is not None
    assert host.at > settled.settled_at, "it was seen before the last operation ended"


@given(desires, hosts, none_or_final, repairs)
def test_a_suspended_container_is_on_for_retrieval_alone(
    desired: Desired, host: HostObservation, operation: Operation | None, settled: Repairs
) -> None:
    row = a_row(desired=replace(desired, lifecycle=Lifecycle.PRESENT, suspended=True))
    until = row.desired.retrieval_until
    retrieving = until is not None and until.timestamp() > NOW
    plan = reconcile(row, host, operation, settled, NOW)
    if isinstance(plan, Begin):
        assert plan.kind is (OperationKind.START_HOST if retrieving else OperationKind.STOP_HOST)
    # On, and known to be, it is looked at again when the time is over: nobody else will say so.
    if retrieving and host.presence is Presence.PRESENT and host.power is Power.ON:
        assert until is not None
        assert isinstance(plan, Wait)
        assert plan.seconds == until.timestamp() - NOW


@given(desires, st.sampled_from([Power.ON, Power.OFF]))
def test_whatever_was_in_between_the_former_power_is_wanted_again(desired: Desired, power: Power) -> None:
    held = replace(desired, lifecycle=Lifecycle.PRESENT, power=power, suspended=True)
    assert replace(held, suspended=False).power_at(NOW) is power
    other = Power.OFF if power is Power.ON else Power.ON
    host = HostObservation(Presence.PRESENT, other, "pve1", at=NOW, since=NOW - 500)
    plan = reconcile(a_row(desired=replace(held, suspended=False)), host, None, Repairs(), NOW)
    assert isinstance(plan, Begin)
    assert plan.kind is (OperationKind.START_HOST if power is Power.ON else OperationKind.STOP_HOST)


@given(st.integers(0, 30), st.floats(0, 2000))
def test_a_difference_is_confirmed_and_repairs_back_off(failed: int, seen_for: float) -> None:
    host = HostObservation(Presence.PRESENT, Power.OFF, "pve1", at=NOW, since=NOW - seen_for)
    plan = reconcile(a_row(), host, None, Repairs(failed), NOW)
    patience = min(CONFIRM_SECONDS * 2**failed, 900.0)
    if isinstance(plan, Wait):
        assert seen_for <= patience
        assert 1.0 <= plan.seconds <= 900.0
        later = replace(host, at=NOW + plan.seconds)
        assert isinstance(reconcile(a_row(), later, None, Repairs(failed), NOW + plan.seconds), Begin)
    else:
        assert isinstance(plan, Begin)
        assert seen_for >= patience


def test_a_lock_and_an_absence_are_left_alone() -> None:
    locked = HostObservation(Presence.PRESENT, Power.OFF, "pve1", lock="backup", at=NOW, since=NOW - 500)
    assert isinstance(reconcile(a_row(), locked, None, Repairs(), NOW), Nothing)
    absent = HostObservation(Presence.ABSENT, Power.UNKNOWN, absences=9, at=NOW, since=NOW - 500)
    assert isinstance(reconcile(a_row(), absent, None, Repairs(), NOW), Nothing)
    unwanted = a_row(desired=Desired(Lifecycle.ABSENT))
    assert isinstance(reconcile(unwanted, absent, None, Repairs(), NOW), Begin)


@given(st.sampled_from(OperationKind), st.lists(st.sampled_from(["done", "again", "fail"]), max_size=60), st.data())
def test_every_operation_ends_and_undoes_what_was_begun_in_reverse(
    kind: OperationKind, outcomes: list[str], data: st.DataObject
) -> None:
    """Plays any course of outcomes through the store's own journal, which refuses illegal moves."""
    operation = an_operation(kind)
    begun: list[str] = []
    undone: list[str] = []
    looks = 0
    while not isinstance(plan := advance(operation), Finish):
        looks += 1
        assert looks < 200, "it goes round in circles"
        outcome = outcomes.pop() if outcomes else "done"
        if isinstance(plan, Do):
            if operation.step(plan.step).state is StepState.PENDING:
                begun.append(plan.step)
                operation = moved(operation, plan.step, StepState.STARTED)
            if outcome == "done":
                operation = moved(operation, plan.step, StepState.DONE)
            elif outcome == "fail" and reversible(kind, plan.step):
                operation = moved(operation, plan.step, StepState.FAILED)
                operation = ended(operation, OperationState.COMPENSATING)
        elif isinstance(plan, Undo):
            operation = moved(operation, plan.step, StepState.UNDOING)
            if outcome == "done":
                undone.append(plan.step)
                operation = moved(operation, plan.step, StepState.UNDONE)
    ended(operation, plan.state)
    if plan.state is OperationState.COMPENSATED:
        assert undone == begun[::-1]
    else:
        assert plan.state is OperationState.SUCCEEDED
        assert begun == [step.name for step in operation.steps]
        assert undone == []


def moved(operation: Operation, name: str, state: StepState) -> Operation:
    step = journal.moved(operation, name, state, EPOCH)
    return replace(operation, steps=tuple(step if one.name == name else one for one in operation.steps))


def ended(operation: Operation, state: OperationState) -> Operation:
    journal.check_operation_move(operation, state)
    return replace(operation, state=state)
