"""What the routes need, handed in by the composition root, and the face of the fleet as the API sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import sqlalchemy as sa

from actors import Snapshot
from zlh.accounts import AccessTable, Accounts, AccountServices
from zlh.api.origins import Origins
from zlh.api.traffic import Traffic
from zlh.billing import BillingServices
from zlh.containers.rollouts import Rollouts
from zlh.edge import Outlets
from zlh.edge.documents import Documents
from zlh.ide import ForwardedPorts, Names
from zlh.model.access import Shared, Sight
from zlh.model.accounts import Account
from zlh.model.agent_calls import AgentAnswer, AgentCall
from zlh.model.catalog import Catalog
from zlh.model.containers import Container, ContainerRequest, Resources
from zlh.model.games import Games
from zlh.model.observed import Players
from zlh.model.operations import Operation
from zlh.model.plans import Plan
from zlh.model.servers import Server
from zlh.schedules import ScheduleBook
from zlh.store import Database

AlsoRecord = Callable[[sa.Connection, Container, Operation], None]


class Changes(Protocol):
    """The vmids that changed since the last time that it was asked; coalesced, so never more than one waits."""

    def __aiter__(self) -> AsyncIterator[set[int]]: ...

    def share(self, shared: Shared) -> None:
        """What others share from now on; what is different about that counts as a change."""


class Backups(Protocol):
    """Backups of containers. Answers are the agent's; what is refused raises ProblemError."""

    async def list(self, vmid: int) -> AgentAnswer: ...

    async def create(self, vmid: int, owner: Account, name: str | None = None) -> AgentAnswer:
        """`owner` is the container's, whose plan counts."""

    async def change(self, vmid: int, backup_id: str, changes: Mapping[str, Any]) -> AgentAnswer: ...

    async def delete(self, vmid: int, backup_id: str) -> AgentAnswer: ...

    async def restore(
        self, vmid: int, backup_id: str, *, stop: bool, start: bool | None, actor_id: int
    ) -> Operation: ...


class Fleet(Protocol):
    """The containers. Reads answer from memory; commands raise ProblemError where they are refused."""

    @property
    def backups(self) -> Backups: ...

    def servers_json(self, sight: Sight) -> bytes:
        """`{"servers": [...]}`, rendered once per state; with `"shared": {vmid: [permission]}` where there is any."""

    def server(self, vmid: int) -> Server: ...

    def container(self, vmid: int) -> Container: ...

    def containers(self, sight: Sight) -> list[Container]: ...

    def instance_row(self, vmid: int) -> Mapping[str, Any]: ...

    def changes(self, sight: Sight) -> AbstractAsyncContextManager[Changes]: ...

    async def create(
        self, account: Account, request: ContainerRequest, *, actor_id: int, also: AlsoRecord | None = None
    ) -> tuple[Container, Operation]:
        """`also` is called inside the transaction that records the container."""

    async def teardown(self, vmid: int, *, force: bool, actor_id: int) -> Operation: ...

    async def start_host(self, vmid: int, *, actor_id: int) -> Operation: ...

    async def stop_host(self, vmid: int, *, actor_id: int) -> Operation: ...

    async def restart_host(self, vmid: int, *, actor_id: int) -> Operation: ...

    async def retrieve(self, vmid: int, *, seconds: float, actor_id: int) -> Operation | None:
        """Has a suspended container on for so long; the operation that starts it, None where it is on."""

    async def upgrade(self, account: Account, vmid: int, resources: Resources, *, actor_id: int) -> Operation:
        """`account` is the owner, whose plan counts."""

    async def rename(self, vmid: int, label: str | None) -> Container:
        """Another name for people, None for the default one."""

    async def start_game(self, vmid: int) -> None: ...

    async def stop_game(self, vmid: int) -> None: ...

    async def restart_game(self, vmid: int) -> None: ...

    async def kill_game(self, vmid: int) -> None: ...

    async def call(self, vmid: int, call: AgentCall) -> AgentAnswer:
        """Passes a call on to the container's agent."""

    async def players(self, vmid: int, *, fresh: bool) -> tuple[Players, float]:
        """Who plays, and when that was seen (Unix seconds)."""

    async def operation(self, operation_id: str) -> Operation: ...

    async def operations(
        self, sight: Sight, *, vmid: int | None = None, before: str | None = None, limit: int = 50
    ) -> list[Operation]: ...

    def follow(self, operation_id: str) -> AbstractAsyncContextManager[AsyncIterator[Operation]]:
        """First the operation as it is, then every change; ends when it is final. A wait for the next one may be
        cancelled without losing it."""

    async def wait(self, operation_id: str, *, within: float) -> Operation:
        """The operation when it is final, or as it is after `within` seconds."""

    async def orphans(self) -> list[dict[str, Any]]: ...

    async def sweep(self, *, dry_run: bool, actor_id: int) -> list[dict[str, Any]]: ...

    def statistics(self) -> Mapping[str, float]:
        """Numbers for /metrics, by name."""


class Tree(Protocol):
    """The supervision tree, for operators."""

    def snapshot(self) -> Snapshot: ...

    def snapshot_of(self, path: str) -> Snapshot:
        """LookupError where nothing has that path; so do the next two."""

    def restart(self, path: str) -> object: ...

    def release(self, path: str) -> object: ...


@dataclass(frozen=True)
class Services:
    """`catalog` gives the present one; `readiness` each part that must work, with what is wrong with it, or None;
    `statistics` what the gateway counts: name -> number, or name -> {label: number}. `started_at` is Unix seconds,
    `url` how browsers reach this API."""

    people: AccountServices
    fleet: Fleet
    rollouts: Rollouts
    catalog: Callable[[], Catalog]
    games: Games
    plans: Mapping[str, Plan]
    database: Database
    schedules: ScheduleBook
    tree: Tree
    readiness: Callable[[], Awaitable[Mapping[str, str | None]]]
    statistics: Callable[[], Mapping[str, float | Mapping[str, float]]]
    origins: Origins
    version: str
    started_at: float
    url: Callable[[], str]
    ports: ForwardedPorts
    names: Names
    edge: Outlets
    documents: Documents
    billing: BillingServices
    traffic: Traffic = field(default_factory=Traffic)

    @property
    def accounts(self) -> Accounts:
        return self.people.accounts

    @property
    def access(self) -> AccessTable:
        return self.people.access
