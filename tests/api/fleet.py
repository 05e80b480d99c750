"""A fleet in memory with the face that the API codes against; operations move when a test says so."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import trio

from tests.api.agent_answers import good_answer
from zlh.accounts import AccessTable
from zlh.containers.followers import Followers
from zlh.containers.instances import instance_row
from zlh.containers.projection import Changes, Projection
from zlh.model.access import Sight
from zlh.model.accounts import Account
from zlh.model.agent_calls import AgentAnswer, AgentCall, Feature
from zlh.model.containers import Container, ContainerRequest, Desired, Resources
from zlh.model.errors import AbsentError, ProblemError
from zlh.model.names import hostname
from zlh.model.observed import Players
from zlh.model.operations import Operation, OperationKind, OperationState, Step
from zlh.model.servers import Server

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class FakeFleet:
    """`calls` records every command; `refuse` is raised by the next one."""

    def __init__(self, access: AccessTable, now: Any = trio.current_time) -> None:
        self._access = access
        self._now = now
        self.projection = Projection(now)
        self._followers = Followers()
        self._numbers = itertools.count(1)
        self._vmids = itertools.count(5001)
        self._operations: dict[str, Operation] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.answers: dict[Feature, AgentAnswer] = {}
        self.refuse: ProblemError | None = None
        self.pause = 0.0
        self.backups = FakeBackups(self)

    def add(self, account: Account, request: ContainerRequest) -> Container:
        vmid = next(self._vmids)
        row = Container(
            vmid=vmid,
            owner_id=account.id,
            ctype=request.ctype,
            name=request.name,
            hostname=hostname(request.name, vmid),
            software=request.software,
            resources=request.resources,
            ports=request.ports,
            agent_token="agent-secret-token",
            created_at=AT,
            updated_at=AT,
        )
        self._access.owner_changed(vmid, account.id)
        self.projection.add(row)
        return row

    def remove(self, vmid: int) -> None:
        self._access.owner_changed(vmid, None)
        self.projection.remove(vmid)

    def touch(self, vmid: int, **changes: Any) -> None:
        cell = self.projection.cell(vmid)
        cell.set_row(replace(cell.row, **changes))

    def advance(self, operation_id: str, state: OperationState = OperationState.RUNNING) -> Operation:
        known = self._operations[operation_id]
        moved = replace(known, state=state, revision=known.revision + 1)
        self._operations[operation_id] = moved
        self._followers.publish(moved)
        return moved

    def servers_json(self, sight: Sight) -> bytes:
        return self.projection.servers_json(sight)

    def server(self, vmid: int) -> Server:
        return self.projection.cell(vmid).server(self._now())

    def container(self, vmid: int) -> Container:
        return self.projection.cell(vmid).row

    def containers(self, sight: Sight) -> list[Container]:
        own = [cell.row for cell in self.projection.cells(sight.owner_id)]
        return own + [self.container(vmid) for vmid in sight.shared]

    def instance_row(self, vmid: int) -> dict[str, Any]:
        return instance_row(self.projection.cell(vmid))

    @asynccontextmanager
    async def changes(self, sight: Sight) -> AsyncIterator[Changes]:
        async with self.projection.changes(sight) as changes:
            yield changes

    async def create(
        self, account: Account, request: ContainerRequest, *, actor_id: int, also: object = None
    ) -> tuple[Container, Operation]:
        # `also` needs the transaction of a real fleet; tests/journeys have one.
        await self._called("create", account.id, request, actor_id)
        row = self.add(account, request)
        return row, self._begin(OperationKind.PROVISION, row.vmid, account.id)

    async def teardown(self, vmid: int, *, force: bool, actor_id: int) -> Operation:
        await self._called("teardown", vmid, force, actor_id)
        return self._begin(OperationKind.TEARDOWN, vmid, self.container(vmid).owner_id)

    async def start_host(self, vmid: int, *, actor_id: int) -> Operation:
        await self._called("start_host", vmid, actor_id)
        return self._begin(OperationKind.START_HOST, vmid, self.container(vmid).owner_id)

    async def stop_host(self, vmid: int, *, actor_id: int) -> Operation:
        await self._called("stop_host", vmid, actor_id)
        return self._begin(OperationKind.STOP_HOST, vmid, self.container(vmid).owner_id)

    async def restart_host(self, vmid: int, *, actor_id: int) -> Operation:
        await self._called("restart_host", vmid, actor_id)
        return self._begin(OperationKind.RESTART_HOST, vmid, self.container(vmid).owner_id)

    async def retrieve(self, vmid: int, *, seconds: float, actor_id: int) -> Operation | None:
        """Of an hour: for half as long the container is on already."""
        await self._called("retrieve", vmid, seconds, actor_id)
        until = datetime.fromtimestamp(self._now() + seconds, UTC)
        self.touch(vmid, desired=Desired(suspended=True, retrieval_until=until))
        if seconds < 3600:
            return None
        return self._begin(OperationKind.START_HOST, vmid, self.container(vmid).owner_id)

    async def upgrade(self, account: Account, vmid: int, resources: Resources, *, actor_id: int) -> Operation:
        await self._called("upgrade", account.id, vmid, resources, actor_id)
        return self._begin(OperationKind.UPGRADE, vmid, account.id)

    async def rename(self, vmid: int, label: str | None) -> Container:
        await self._called("rename", vmid, label)
        self.touch(vmid, label=label)
        return self.container(vmid)

    async def start_game(self, vmid: int) -> None:
        await self._called("start_game", vmid)

    async def stop_game(self, vmid: int) -> None:
        await self._called("stop_game", vmid)

    async def restart_game(self, vmid: int) -> None:
        await self._called("restart_game", vmid)

    async def kill_game(self, vmid: int) -> None:
        await self._called("kill_game", vmid)

    async def call(self, vmid: int, call: AgentCall) -> AgentAnswer:
        """Answers with what `answers` holds for the call's feature, as a good agent by default."""
        answer = self.answers.get(call.feature) or good_answer(call)
        await self._called("call", vmid, call)
        return answer

    async def players(self, vmid: int, *, fresh: bool) -> tuple[Players, float]:
        await self._called("players", vmid, fresh)
        return Players(1, 20, ("alice",)), AT.timestamp()

    async def operation(self, operation_id: str) -> Operation:
        if operation_id not in self._operations:
            raise AbsentError("there is no such operation")
        return self._operations[operation_id]

    async def operations(
        self, sight: Sight, *, vmid: int | None = None, before: str | None = None, limit: int = 50
    ) -> list[Operation]:
        found = [
            operation
            for operation in reversed(self._operations.values())
            if (sight.owner_id in (None, operation.owner_id) or operation.vmid in sight.shared)
            and vmid in (None, operation.vmid)
            and (before is None or operation.id < before)
        ]
        return found[:limit]

    @asynccontextmanager
    async def follow(self, operation_id: str) -> AsyncIterator[AsyncIterator[Operation]]:
        with self._followers.follow(self._operations[operation_id]) as follower:
            yield follower

    async def wait(self, operation_id: str, *, within: float) -> Operation:
        with trio.move_on_after(within):
            async with self.follow(operation_id) as states:
                async for _ in states:
                    pass
        return self._operations[operation_id]

    async def orphans(self) -> list[dict[str, Any]]:
        return [{"vmid": 5999, "where": "proxmox", "name": "left"}]

    async def sweep(self, *, dry_run: bool, actor_id: int) -> list[dict[str, Any]]:
        await self._called("sweep", dry_run, actor_id)
        return [{"vmid": 5999, "where": "proxmox", "outcome": "would be swept"}]

    def statistics(self) -> dict[str, int]:
        return {"containers": len(self.projection)}

    async def _called(self, *call: Any) -> None:
        if self.refuse is not None:
            refusal, self.refuse = self.refuse, None
            raise refusal
        await trio.sleep(self.pause)
        self.calls.append(call)

    def _begin(self, kind: OperationKind, vmid: int, owner_id: int) -> Operation:
        operation = Operation(
            id=f"op{next(self._numbers):04}",
            kind=kind,
            vmid=vmid,
            owner_id=owner_id,
            state=OperationState.RUNNING,
            steps=(Step("clone", data={"upid": "UPID:secret"}), Step("start")),
            created_at=AT,
            updated_at=AT,
        )
        self._operations[operation.id] = operation
        return operation


class FakeBackups:
    """Every agent has one backup."""

    def __init__(self, fleet: FakeFleet) -> None:
        self._fleet = fleet
        self.backup = {"id": "1", "name": "one", "createdAt": "2026-01-02T03:04:05Z", "state": "ready", "odd": True}

    async def list(self, vmid: int) -> AgentAnswer:
        await self._fleet._called("backups.list", vmid)
        return AgentAnswer(200, orjson.dumps({"backups": [self.backup]}))

    async def create(self, vmid: int, owner: Account, name: str | None = None) -> AgentAnswer:
        await self._fleet._called("backups.create", vmid, owner.id, name)
        return AgentAnswer(202, b'{"id":"2"}')

    async def change(self, vmid: int, backup_id: str, changes: Mapping[str, Any]) -> AgentAnswer:
        self._named(backup_id)
        await self._fleet._called("backups.change", vmid, backup_id, dict(changes))
        return AgentAnswer(200, orjson.dumps(self.backup | dict(changes)))

    async def delete(self, vmid: int, backup_id: str) -> AgentAnswer:
        self._named(backup_id)
        await self._fleet._called("backups.delete", vmid, backup_id)
        return AgentAnswer(204, b"")

    async def restore(self, vmid: int, backup_id: str, *, stop: bool, start: bool | None, actor_id: int) -> Operation:
        self._named(backup_id)
        await self._fleet._called("backups.restore", vmid, backup_id, stop, start, actor_id)
        return self._fleet._begin(OperationKind.RESTORE, vmid, self._fleet.container(vmid).owner_id)

    def _named(self, backup_id: str) -> None:
        if backup_id != self.backup["id"]:
            raise AbsentError("there is no such backup")
