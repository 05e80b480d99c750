from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from tests.store.samples import NOW, STEPS, add_account
from zlh.model.errors import AbsentError, ConflictError
from zlh.model.operations import Operation, OperationKind, OperationState, StepState
from zlh.store import Database, IllegalMoveError, operations
from zlh.store.listener import Listening, Notification, listen

LATER = NOW + timedelta(seconds=5)


@pytest.fixture
def owner_id(connection: sa.Connection) -> int:
    return add_account(connection).id


@pytest.fixture
def operation(connection: sa.Connection, owner_id: int) -> Operation:
    return begin(connection, owner_id)


def begin(connection: sa.Connection, owner_id: int, vmid: int = 5000, **changes: Any) -> Operation:
    arguments = {"steps": STEPS, "now": NOW, **changes}
    return operations.begin(connection, OperationKind.PROVISION, vmid, owner_id=owner_id, **arguments)


def test_an_operation_comes_back_as_it_was_begun(connection: sa.Connection, owner_id: int) -> None:
    made = begin(connection, owner_id, arguments={"before": {"memory_mib": 1}}, actor_id=owner_id, queued=False)
    assert made.state is OperationState.RUNNING
    assert made.revision == 0
    assert operations.get(connection, made.id) == made
    assert operations.get(connection, "op-none") is None
    assert operations.of_container(connection, 5000) == made


def test_the_one_in_flight_is_named(connection: sa.Connection, owner_id: int, operation: Operation) -> None:
    with pytest.raises(ConflictError) as caught:
        begin(connection, owner_id)
    assert caught.value.code == "operation_in_flight"
    assert caught.value.details == {"id": operation.id, "kind": "provision", "state": "running"}
    operations.set_state(connection, operation.id, OperationState.FAILED, LATER)
    assert begin(connection, owner_id).id != operation.id


def test_the_hundredth_is_begun_as_the_first(connection: sa.Connection, owner_id: int) -> None:
    """After some uses of a statement psycopg prepares it and PostgreSQL plans it without looking at its values."""
    for vmid in range(5000, 5100):
        begin(connection, owner_id, vmid)
    assert len(operations.unfinished(connection)) == 100
    with pytest.raises(ConflictError):
        begin(connection, owner_id, 5000)


def test_every_write_raises_the_revision_and_is_kept(connection: sa.Connection, operation: Operation) -> None:
    writes = [
        operations.dequeue(connection, operation.id, LATER),
        operations.step_started(connection, operation.id, "clone", LATER),
        operations.step_data(connection, operation.id, "clone", {"upid": "UPID:a", "node": "pve1"}, LATER),
        operations.step_noted(connection, operation.id, "clone", "Proxmox works on it", LATER),
        operations.step_done(connection, operation.id, "clone", LATER, note="cloned"),
    ]
    assert [write.revision for write in writes] == [1, 2, 3, 4, 5]
    assert all(write.updated_at == LATER for write in writes)
    last = operations.get(connection, operation.id)
    assert last == writes[-1]
    step = writes[-1].step("clone")
    assert (step.state, step.attempts, step.upid, step.note) == (StepState.DONE, 1, "UPID:a", "cloned")
    assert step.data == {"upid": "UPID:a", "node": "pve1"}
    assert (step.started_at, step.ended_at) == (LATER, LATER)
    assert not writes[-1].queued


def test_data_can_be_taken_out(connection: sa.Connection, operation: Operation) -> None:
    operations.step_data(connection, operation.id, "clone", {"upid": "UPID:a", "node": "pve1"}, NOW)
    left = operations.step_data(connection, operation.id, "clone", {"upid": None}, NOW)
    assert left.step("clone").data == {"node": "pve1"}
    assert operations.get(connection, operation.id) == left


def test_what_changes_nothing_writes_nothing(connection: sa.Connection, operation: Operation) -> None:
    noted = operations.step_noted(connection, operation.id, "clone", "waits", NOW)
    assert operations.step_noted(connection, operation.id, "clone", "waits", LATER) == noted
    dequeued = operations.dequeue(connection, operation.id, NOW)
    assert operations.dequeue(connection, operation.id, LATER) == dequeued


def test_a_failure_is_taken_back_step_by_step(connection: sa.Connection, operation: Operation) -> None:
    operations.step_started(connection, operation.id, "clone", NOW)
    failed = operations.step_failed(connection, operation.id, "clone", NOW, error="no space")
    assert failed.step("clone").error == "no space"
    taken_back = operations.set_state(connection, operation.id, OperationState.COMPENSATING, NOW, error="no space")
    assert taken_back.error == "no space"
    operations.step_undoing(connection, operation.id, "clone", NOW)
    assert operations.step_undone(connection, operation.id, "clone", LATER).step("clone").ended_at == LATER
    ended = operations.set_state(connection, operation.id, OperationState.COMPENSATED, LATER)
    assert (ended.state, ended.error) == (OperationState.COMPENSATED, "no space")
    assert operations.unfinished(connection) == []
    assert operations.of_container(connection, operation.vmid) is None


def test_what_has_ended_stays(connection: sa.Connection, operation: Operation) -> None:
    ended = operations.set_state(connection, operation.id, OperationState.FAILED, NOW, error="given up")
    with pytest.raises(IllegalMoveError):
        operations.set_state(connection, operation.id, OperationState.RUNNING, NOW)
    with pytest.raises(IllegalMoveError):
        operations.step_started(connection, operation.id, "clone", NOW)
    with pytest.raises(IllegalMoveError):
        operations.step_data(connection, operation.id, "clone", {"upid": "UPID:late"}, NOW)
    assert operations.dequeue(connection, operation.id, LATER) == ended
    assert operations.get(connection, operation.id) == ended


def test_strangers(connection: sa.Connection, operation: Operation) -> None:
    with pytest.raises(AbsentError):
        operations.step_started(connection, "op-none", "clone", NOW)
    with pytest.raises(IllegalMoveError, match="no step"):
        operations.step_started(connection, operation.id, "dance", NOW)


def test_pages_from_the_newest(connection: sa.Connection, owner_id: int) -> None:
    made = [
        begin(connection, owner_id, vmid, now=NOW + timedelta(seconds=vmid - 5000)).id for vmid in range(5000, 5005)
    ]
    stranger = begin(connection, add_account(connection, "grace").id, 6000, now=NOW + timedelta(hours=1)).id
    newest = [*reversed(made)]
    assert [one.id for one in operations.page(connection)] == [stranger, *newest]
    first = operations.page(connection, owner_id=owner_id, limit=2)
    rest = operations.page(connection, owner_id=owner_id, before=first[-1].id)
    assert [one.id for one in (*first, *rest)] == newest
    assert [one.id for one in operations.page(connection, vmid=5003)] == [made[3]]
    assert [one.id for one in operations.unfinished(connection)] == [*made, stranger]


async def test_other_processes_are_nudged_by_commits(db: Database, postgres_url: str) -> None:
    def make(connection: sa.Connection) -> Operation:
        return begin(connection, add_account(connection).id)

    async with listen(postgres_url, "operations") as notifications:
        assert isinstance(await anext(notifications), Listening)
        made = await db.run(make)
        assert await anext(notifications) == Notification(made.id)
        await db.run(operations.step_started, made.id, "clone", NOW)
        assert await anext(notifications) == Notification(made.id)
