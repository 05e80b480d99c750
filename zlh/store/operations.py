"""Operations and their journal. Every function runs in the caller's transaction.

Whoever changes an operation holds its row until the transaction ends, so the journal has one line of history. Every
change raises `revision` by one, returns the whole new operation, and nudges the channel "operations" with its id.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from zlh.model.errors import AbsentError, ConflictError
from zlh.model.operations import Operation, OperationKind, OperationState, Step, StepState
from zlh.store import journal
from zlh.store.notify import OPERATIONS, notify
from zlh.store.tables import UNFINISHED, containers, operation_steps, operations


def new_id(now: datetime) -> str:
    """Ids in byte order are in the order of their making (to the millisecond)."""
    return f"op-{int(now.timestamp() * 1000):011x}-{secrets.token_hex(8)}"


def begin(
    connection: sa.Connection,
    kind: OperationKind,
    vmid: int,
    *,
    owner_id: int,
    steps: Sequence[str],
    now: datetime,
    actor_id: int | None = None,
    arguments: Mapping[str, Any] | None = None,
    queued: bool = True,
) -> Operation:
    """Records an operation with all of its steps pending. `actor_id` is the account that asked for it.

    Raises ConflictError "operation_in_flight" (`details` = {"id", "kind", "state"}) while the container has another.
    """
    operation = Operation(
        id=new_id(now),
        kind=kind,
        vmid=vmid,
        owner_id=owner_id,
        state=OperationState.RUNNING,
        steps=tuple(Step(name) for name in steps),
        created_at=now,
        updated_at=now,
        actor_id=actor_id,
        queued=queued,
        arguments=dict(arguments or {}),
    )
    values = {column.name: getattr(operation, column.name) for column in operations.c if column.name != "finished_at"}
    values |= {"kind": kind.value, "state": operation.state.value}
    added = connection.execute(
        insert(operations)
        .values(values)
        .on_conflict_do_nothing(index_elements=["vmid"], index_where=UNFINISHED)
        .returning(operations.c.id)
    ).first()
    if added is None:
        raise _in_flight(connection, vmid)
    lines = [
        {"operation_id": operation.id, "position": position, **_step_values(step)}
        for position, step in enumerate(operation.steps)
    ]
    if lines:
        connection.execute(sa.insert(operation_steps), lines)
    notify(connection, OPERATIONS, operation.id)
    return operation


def get(connection: sa.Connection, operation_id: str) -> Operation | None:
    found = _load(connection, sa.select(operations).where(operations.c.id == operation_id))
    return found[0] if found else None


def of_container(connection: sa.Connection, vmid: int) -> Operation | None:
    """The one in flight, if any."""
    found = _load(connection, sa.select(operations).where(operations.c.vmid == vmid, UNFINISHED))
    return found[0] if found else None


def unfinished(connection: sa.Connection) -> list[Operation]:
    """In the order of their making: what a restarted program must carry on."""
    return _load(connection, sa.select(operations).where(UNFINISHED).order_by(operations.c.id))


def page(
    connection: sa.Connection,
    *,
    owner_id: int | None = None,
    shared: Collection[int] = (),
    vmid: int | None = None,
    before: str | None = None,
    limit: int = 50,
) -> list[Operation]:
    """The newest first, at most `limit`; `before` is the id of the last one of the page before. With those of one
    owner come those of the containers that are `shared`."""
    query = sa.select(operations).order_by(operations.c.id.desc()).limit(limit)
    if owner_id is not None:
        own = operations.c.owner_id == owner_id
        query = query.where(sa.or_(own, _of_containers(shared)) if shared else own)
    if vmid is not None:
        query = query.where(operations.c.vmid == vmid)
    if before is not None:
        query = query.where(operations.c.id < before)
    return _load(connection, query)


def _of_containers(vmids: Collection[int]) -> sa.ColumnElement[bool]:
    """A vmid is used again: what was done with the container that had it before is none of those."""
    present = sa.select(containers.c.vmid).where(
        containers.c.vmid == sa.any_(sa.literal(list(vmids), sa.ARRAY(sa.Integer))),
        containers.c.vmid == operations.c.vmid,
        containers.c.owner_id == operations.c.owner_id,
        containers.c.created_at <= operations.c.created_at,
    )
    return present.exists()


def set_state(
    connection: sa.Connection, operation_id: str, state: OperationState, now: datetime, *, error: str | None = None
) -> Operation:
    """Moves on; a final state closes the journal. An error that was recorded stays where None is given.

    Raises IllegalMoveError where that state cannot follow, AbsentError where there is no such operation.
    """
    operation = _lock(connection, operation_id)
    journal.check_operation_move(operation, state)
    changed = replace(operation, state=state, error=operation.error if error is None else error, queued=False)
    return _save(connection, changed, now, finished_at=now if state.final else None)


def dequeue(connection: sa.Connection, operation_id: str, now: datetime) -> Operation:
    """It was given a place to run. One that has a place already, or has ended, stays as it is."""
    operation = _lock(connection, operation_id)
    if not operation.queued or operation.state.final:
        return operation
    return _save(connection, replace(operation, queued=False), now)


def step_started(connection: sa.Connection, operation_id: str, name: str, now: datetime) -> Operation:
    """To be committed before the step's effect. This and what follows raise as `set_state` does."""
    return _move_step(connection, operation_id, name, StepState.STARTED, now)


def step_done(
    connection: sa.Connection, operation_id: str, name: str, now: datetime, *, note: str | None = None
) -> Operation:
    """To be committed after the effect was seen. The note tells of the outcome: what it waited for is over."""
    return _move_step(connection, operation_id, name, StepState.DONE, now, note=note)


def step_failed(connection: sa.Connection, operation_id: str, name: str, now: datetime, *, error: str) -> Operation:
    return _move_step(connection, operation_id, name, StepState.FAILED, now, error=error)


def step_undoing(connection: sa.Connection, operation_id: str, name: str, now: datetime) -> Operation:
    return _move_step(connection, operation_id, name, StepState.UNDOING, now)


def step_undone(
    connection: sa.Connection, operation_id: str, name: str, now: datetime, *, note: str | None = None
) -> Operation:
    return _move_step(connection, operation_id, name, StepState.UNDONE, now, note=note)


def step_data(
    connection: sa.Connection, operation_id: str, name: str, data: Mapping[str, Any], now: datetime
) -> Operation:
    """Merges `data` into the step's own, at the top level, and takes out what is None: the UPID, the moment that it
    was returned.
    """
    operation = _lock(connection, operation_id)
    return _save_step(connection, operation, journal.told(operation, name, data=data), now)


def step_noted(connection: sa.Connection, operation_id: str, name: str, note: str, now: datetime) -> Operation:
    """What the step waits for, in words. The same note again changes nothing, not even the revision."""
    operation = _lock(connection, operation_id)
    step = journal.told(operation, name, note=note)
    if step == operation.step(name):
        return operation
    return _save_step(connection, operation, step, now)


def renumber(connection: sa.Connection, vmid: int, new_vmid: int, now: datetime) -> Operation | None:
    """Moves the operation in flight, if there is one, to another vmid; `containers.renumber` moves the row."""
    operation_id = connection.execute(
        sa.select(operations.c.id).where(operations.c.vmid == vmid, UNFINISHED)
    ).scalar()
    if operation_id is None:
        return None
    return _save(connection, replace(_lock(connection, operation_id), vmid=new_vmid), now)


def _move_step(
    connection: sa.Connection,
    operation_id: str,
    name: str,
    state: StepState,
    now: datetime,
    *,
    error: str | None = None,
    note: str | None = None,
) -> Operation:
    operation = _lock(connection, operation_id)
    step = journal.moved(operation, name, state, now, error=error)
    if note is not None or state is StepState.DONE:
        step = replace(step, note=note)
    return _save_step(connection, operation, step, now)


def _save_step(connection: sa.Connection, operation: Operation, step: Step, now: datetime) -> Operation:
    connection.execute(
        sa.update(operation_steps)
        .where(operation_steps.c.operation_id == operation.id, operation_steps.c.name == step.name)
        .values(_step_values(step))
    )
    steps = tuple(step if one.name == step.name else one for one in operation.steps)
    return _save(connection, replace(operation, steps=steps), now)


def _save(
    connection: sa.Connection, operation: Operation, now: datetime, *, finished_at: datetime | None = None
) -> Operation:
    saved = replace(operation, revision=operation.revision + 1, updated_at=now)
    names = ("vmid", "queued", "error", "revision", "updated_at")
    values = {"state": saved.state.value, **{name: getattr(saved, name) for name in names}}
    statement = sa.update(operations).where(operations.c.id == saved.id)
    connection.execute(statement.values(**values, finished_at=finished_at))
    notify(connection, OPERATIONS, saved.id)
    return saved


def _lock(connection: sa.Connection, operation_id: str) -> Operation:
    found = _load(connection, sa.select(operations).where(operations.c.id == operation_id).with_for_update())
    if not found:
        raise AbsentError("no such operation")
    return found[0]


def _in_flight(connection: sa.Connection, vmid: int) -> ConflictError:
    other = of_container(connection, vmid)
    if other is None:  # it ended between the two statements
        return ConflictError("another operation was in flight; try again", code="operation_in_flight", retry_after=1)
    return ConflictError(
        f"operation {other.id} ({other.kind}) is in flight for container {vmid}",
        code="operation_in_flight",
        details={"id": other.id, "kind": other.kind.value, "state": other.state.value},
    )


def _load(connection: sa.Connection, query: sa.Select[Any]) -> list[Operation]:
    """Two statements, however many operations."""
    rows = [row._mapping for row in connection.execute(query)]
    steps = _steps(connection, [row["id"] for row in rows])
    return [_operation(row, steps.get(row["id"], ())) for row in rows]


def _steps(connection: sa.Connection, ids: Sequence[str]) -> dict[str, list[Step]]:
    if not ids:
        return {}
    query = (
        sa.select(operation_steps)
        .where(operation_steps.c.operation_id == sa.any_(sa.literal(list(ids), sa.ARRAY(sa.Text))))
        .order_by(operation_steps.c.operation_id, operation_steps.c.position)
    )
    found: dict[str, list[Step]] = {}
    for row in connection.execute(query):
        found.setdefault(row.operation_id, []).append(_step(row._mapping))
    return found


def _operation(row: Mapping[Any, Any], steps: Iterable[Step]) -> Operation:
    fields = {name: value for name, value in row.items() if name != "finished_at"}
    kind, state = OperationKind(row["kind"]), OperationState(row["state"])
    return Operation(**{**fields, "kind": kind, "state": state, "steps": tuple(steps)})


def _step(row: Mapping[Any, Any]) -> Step:
    fields = {name: value for name, value in row.items() if name not in ("operation_id", "position")}
    return Step(**{**fields, "state": StepState(row["state"])})


def _step_values(step: Step) -> dict[str, Any]:
    return {
        "name": step.name,
        "state": step.state.value,
        "attempts": step.attempts,
        "started_at": step.started_at,
        "ended_at": step.ended_at,
        "error": step.error,
        "note": step.note,
        "data": dict(step.data),
    }
