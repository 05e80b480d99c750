"""What a step is, what it may answer, and what it works with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from zlh.containers.options import Options
from zlh.containers.turnstile import Turnstile
from zlh.drivers.agent import AgentClient
from zlh.drivers.errors import NotFound
from zlh.drivers.proxmox import Cluster, GuestConfig, ProxmoxDriver
from zlh.model.containers import Container
from zlh.model.edge import Edge, NoEdge
from zlh.model.games import Games
from zlh.model.operations import Operation


@dataclass(frozen=True, slots=True)
class Done:
    """What the step is for was seen to be so. `row` holds columns of the container's row to record with it."""

    note: str | None = None
    row: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Again:
    """Look again in `seconds`. `idle` gives up the place among running operations meanwhile: nothing can be done.
    `row` holds columns of the container's row to record first. `in_line` waits for the work of others: the step's own
    time does not pass."""

    seconds: float
    note: str
    idle: bool = False
    row: Mapping[str, Any] = field(default_factory=dict)
    in_line: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """Proxmox took it on; the UPID is recorded at once and followed, then the step looks again."""

    upid: str


@dataclass(frozen=True, slots=True)
class Failed:
    """It cannot succeed by trying again."""

    error: str


@dataclass(frozen=True, slots=True)
class Taken:
    """Proxmox has a container of somebody else under this vmid: take the next."""

    error: str


Outcome = Done | Again | Task | Failed | Taken


@dataclass(slots=True)
class Site:
    """What steps work with; one for the whole fleet.

    `cluster` is the watcher's last complete answer, `clones` and `mutations` are the limits that Proxmox sets us.
    """

    proxmox: ProxmoxDriver
    options: Options
    games: Games
    clones: Turnstile
    mutations: Turnstile
    cluster: Callable[[], Cluster | None]
    pending_memory: Callable[[str], int]
    edge: Edge = field(default_factory=NoEdge)

    def agent(self, row: Container, token: str) -> AgentClient:
        """A client for one row's agent; the caller closes it. The row has an address by now."""
        assert row.address is not None
        return AgentClient(row.address, self.options.agent_port, token)


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt at one step. `remember` merges into the step's data at once, for what must be on record before it
    is done. `looked` is told whether the container runs whenever the step asked that."""

    site: Site
    row: Container
    operation: Operation
    remember: Callable[[Mapping[str, Any]], Awaitable[None]]
    looked: Callable[[bool], None]

    @property
    def node(self) -> str:
        return self.row.node

    def may_mutate(self, key: str = "") -> bool:
        """A place among the mutations of the container's node; the runner gives it back when the step ends."""
        return self.site.mutations.enter(key or self.node, self.row.vmid)

    async def config(self) -> GuestConfig | None:
        """The container's own configuration, None where Proxmox has none under this vmid on this node."""
        if not self.node:
            return None
        try:
            return await self.site.proxmox.config(self.node, self.row.vmid)
        except NotFound:
            return None

    async def running(self) -> bool:
        """Whether Proxmox says that the container runs. Raises NotFound."""
        status = await self.site.proxmox.status(self.node, self.row.vmid)
        self.looked(status.running)
        return status.running

    def owns(self, config: GuestConfig) -> bool:
        """Whether it is the container of this row: vmids are used again, also by people."""
        marked = MARK in (config.description or "") or TAG in config.tags
        return marked and config.hostname == self.row.hostname


MARK = "Managed by ZLH"
TAG = "zlh"
"""Every container that we made has the mark in its description from its clone on, and the tag from its configuration
on. What has neither is never started, stopped or destroyed."""

BUSY = Again(3.0, "waits: enough changes are under way on this node", in_line=True)


class Step(Protocol):
    """One step of an operation. `do` and `undo` look first, act only on a difference, and never wait for long: both
    are called again until they answer Done or Failed. `limit` names the setting that bounds `do`, in seconds."""

    name: str

    def limit(self, options: Options) -> float: ...

    async def do(self, job: Job) -> Outcome: ...

    async def undo(self, job: Job) -> Outcome: ...


@runtime_checkable
class LooksLast(Protocol):
    """A step whose work goes on without us: when its time is up, all of it may have passed while we were away."""

    async def last_look(self, job: Job) -> Outcome:
        """What became of it, found out by looking alone: Done, or Failed with what is known; Again where nobody
        answers."""
