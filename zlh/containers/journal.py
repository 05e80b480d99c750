"""The written course of one container's operation. Every write is one transaction and raises the revision."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import sqlalchemy as sa

from zlh.containers.cell import Cell
from zlh.containers.steps import step_names
from zlh.model.containers import Container, Desired, Resources
from zlh.model.operations import Operation, OperationKind, OperationState
from zlh.model.plans import Plan
from zlh.store import Database, containers, operations, reservations


class Desk(Protocol):
    """What a journal needs of the fleet around it."""

    db: Database

    def now(self) -> float:
        """Unix seconds."""

    def publish(self, operation: Operation) -> None:
        """Is told every new state of the operation."""

    def arrived(self, row: Container, operation: Operation) -> None:
        """Is told of a row that has another vmid from now on."""

    def count_anew(self) -> None:
        """Is told that there may be a row that nobody knows of."""

    def vmids(self, row: Container) -> range:
        """The range that the row's vmid comes from."""

    def taken(self) -> set[int]:
        """The vmids that Proxmox is known to have."""


class Journal:
    """Writes of the mailbox actor alone. While a write is under way, or its outcome is not known (the connection
    broke, the actor was cancelled), the cell is `unsure`, and `reload` must come before anything else.
    """

    def __init__(self, cell: Cell, desk: Desk) -> None:
        self._cell = cell
        self._desk = desk

    async def reload(self) -> None:
        """Reads row and operation again, as the store has them, and tells what became of the one that was known."""
        vmid, known = self._cell.vmid, self._cell.operation

        def read(connection: sa.Connection) -> tuple[Container | None, Operation | None, Operation | None]:
            former = operations.get(connection, known.id) if known is not None else None
            return containers.get(connection, vmid), operations.of_container(connection, vmid), former

        row, operation, former = await self._desk.db.run(read)
        self._cell.unsure = False
        self._cell.gone = row is None
        if row is not None:
            self._cell.set_row(row)
        self._cell.set_operation(operation)
        if former is not None:
            self._desk.publish(former)
        if row is None:
            # It was removed, or moved to another vmid under which nobody works on it yet.
            self._desk.count_anew()

    async def begin(
        self, kind: OperationKind, actor_id: int | None = None, arguments: Mapping[str, Any] | None = None
    ) -> Operation:
        """Records a new operation. Raises ConflictError when one is in flight."""
        row = self._cell.row

        def write(connection: sa.Connection, now: datetime) -> tuple[Operation, None]:
            operation = operations.begin(
                connection,
                kind,
                row.vmid,
                owner_id=row.owner_id,
                actor_id=actor_id,
                steps=step_names(kind),
                arguments=dict(arguments or {}),
                now=now,
            )
            return operation, None

        return await self._write(write)

    async def upgrade(self, resources: Resources, plan: Plan, actor_id: int | None) -> Operation:
        """Reserves the new sizes within the plan and records the operation. Raises PlanLimitError, ConflictError."""
        before = self._cell.row

        def write(connection: sa.Connection, now: datetime) -> tuple[Operation, Container]:
            row = reservations.resize_within(connection, before.vmid, resources, plan)
            operation = operations.begin(
                connection,
                OperationKind.UPGRADE,
                row.vmid,
                owner_id=row.owner_id,
                actor_id=actor_id,
                steps=step_names(OperationKind.UPGRADE),
                arguments={"before": dataclasses.asdict(before.resources), "after": dataclasses.asdict(resources)},
                now=now,
            )
            return operation, row

        return await self._write(write)

    async def want(self, desired: Desired) -> None:
        """Records what is wanted from now on."""
        await self._write_row(lambda connection: containers.set_desired(connection, self._cell.vmid, desired))

    async def renamed(self, label: str | None) -> None:
        """Raises ConflictError "name_taken"."""
        await self._write_row(lambda connection: containers.set_label(connection, self._cell.vmid, label))

    async def moved(self, node: str) -> None:
        await self._write_row(lambda connection: containers.set_node(connection, self._cell.vmid, node))

    async def admitted(self) -> None:
        """The operation has a place among the running ones."""
        await self._write_step(lambda connection, now, id_: operations.dequeue(connection, id_, now))

    async def started(self, step: str) -> None:
        await self._write_step(lambda connection, now, id_: operations.step_started(connection, id_, step, now))

    async def remember(self, step: str, data: Mapping[str, Any]) -> None:
        """Merges into the step's data; a None takes the entry out."""
        await self._write_step(lambda connection, now, id_: operations.step_data(connection, id_, step, data, now))

    async def noted(self, step: str, note: str, row: Mapping[str, Any]) -> None:
        """Records why the step waits, when that changed, and columns of the row that the step found out."""
        operation = self._cell.operation
        if operation is None or (operation.step(step).note == note and not row):
            return

        def write(connection: sa.Connection, now: datetime) -> tuple[Operation, Container | None]:
            changed = _set_row(connection, operation.vmid, row)
            return operations.step_noted(connection, operation.id, step, note, now), changed

        await self._write(write)

    async def done(self, step: str, note: str | None, row: Mapping[str, Any]) -> None:
        operation = self._operation

        def write(connection: sa.Connection, now: datetime) -> tuple[Operation, Container | None]:
            changed = _set_row(connection, operation.vmid, row)
            return operations.step_done(connection, operation.id, step, now, note=note), changed

        await self._write(write)

    async def failed(self, step: str, error: str, *, compensate: bool) -> None:
        """The step failed for good: the operation is taken back, or ends here."""
        operation = self._operation

        def write(connection: sa.Connection, now: datetime) -> tuple[Operation, None]:
            operations.step_failed(connection, operation.id, step, now, error=error)
            state = OperationState.COMPENSATING if compensate else OperationState.FAILED
            return operations.set_state(connection, operation.id, state, now, error=f"{step}: {error}"), None

        await self._write(write)

    async def undoing(self, step: str) -> None:
        await self._write_step(lambda connection, now, id_: operations.step_undoing(connection, id_, step, now))

    async def renumber(self, step: str, why: str) -> None:
        """The vmid turned out to be taken in Proxmox: row and operation move to the next free one. This cell is over
        then; `arrived` takes the row up under its new vmid."""
        operation = self._operation

        def write(connection: sa.Connection, now: datetime) -> tuple[Operation, Container]:
            operations.step_noted(connection, operation.id, step, why, now)
            row, moved = reservations.renumber(
                connection,
                operation.vmid,
                vmids=self._desk.vmids(self._cell.row),
                exclude=self._desk.taken(),
                now=now,
            )
            assert moved is not None
            return moved, row

        now = datetime.fromtimestamp(self._desk.now(), UTC)
        self._cell.unsure = True
        moved, row = await self._desk.db.run(lambda connection: write(connection, now))
        self._cell.unsure = False
        self._cell.gone = True
        self._cell.set_operation(None)
        self._desk.arrived(row, moved)
        self._desk.publish(moved)

    async def undone(self, step: str, row: Mapping[str, Any]) -> None:
        operation = self._operation

        def write(connection: sa.Connection, now: datetime) -> tuple[Operation, Container | None]:
            changed = _set_row(connection, operation.vmid, row)
            return operations.step_undone(connection, operation.id, step, now), changed

        await self._write(write)

    async def give_up(self, error: str, desired: Desired) -> Operation:
        """Somebody wants the container gone while it is being made, or worked on: the operation in flight is taken
        back (provisioning) or ended, in one transaction with what is wanted now."""
        operation = self._operation
        compensate = operation.kind is OperationKind.PROVISION
        state = OperationState.COMPENSATING if compensate else OperationState.FAILED

        def write(connection: sa.Connection, now: datetime) -> tuple[Operation, Container]:
            row = containers.set_desired(connection, operation.vmid, desired)
            return operations.set_state(connection, operation.id, state, now, error=error), row

        return await self._write(write)

    async def finish(self, state: OperationState) -> None:
        """Records the end, and in the same transaction what it means for the row."""
        operation = self._operation

        def write(connection: sa.Connection, now: datetime) -> tuple[Operation, Container | None]:
            finished = operations.set_state(connection, operation.id, state, now)
            return finished, _settle(connection, finished)

        await self._write(write)
        self._cell.gone = removes_row(operation.kind, state)

    @property
    def _operation(self) -> Operation:
        operation = self._cell.operation
        assert operation is not None
        return operation

    async def _write_step(self, write: Callable[[sa.Connection, datetime, str], Operation]) -> None:
        operation_id = self._operation.id
        await self._write(lambda connection, now: (write(connection, now, operation_id), None))

    async def _write_row(self, write: Callable[[sa.Connection], Container]) -> None:
        self._cell.unsure = True
        row = await self._desk.db.run(write)
        self._cell.unsure = False
        self._cell.set_row(row)

    async def _write(
        self, write: Callable[[sa.Connection, datetime], tuple[Operation, Container | None]]
    ) -> Operation:
        now = datetime.fromtimestamp(self._desk.now(), UTC)
        self._cell.unsure = True
        operation, row = await self._desk.db.run(lambda connection: write(connection, now))
        self._cell.unsure = False
        if row is not None:
            self._cell.set_row(row)
        self._cell.set_operation(None if operation.state.final else operation)
        self._desk.publish(operation)
        return operation


def removes_row(kind: OperationKind, state: OperationState) -> bool:
    """Whether the container is gone, row and all, once an operation of this kind ends so."""
    return (kind, state) in (
        (OperationKind.TEARDOWN, OperationState.SUCCEEDED),
        (OperationKind.PROVISION, OperationState.COMPENSATED),
    )


def _settle(connection: sa.Connection, operation: Operation) -> Container | None:
    if removes_row(operation.kind, operation.state):
        containers.delete(connection, operation.vmid)
        return None
    if operation.kind is OperationKind.PROVISION:
        return containers.mark_provisioned(connection, operation.vmid)
    if operation.kind is OperationKind.UPGRADE and operation.state is OperationState.COMPENSATED:
        return containers.set_resources(connection, operation.vmid, Resources(**operation.arguments["before"]))
    return containers.get(connection, operation.vmid)


def _set_row(connection: sa.Connection, vmid: int, row: Mapping[str, Any]) -> Container | None:
    changed = None
    if "node" in row:
        changed = containers.set_node(connection, vmid, row["node"])
    if "address" in row:
        changed = containers.set_address(connection, vmid, row["address"])
    return changed
