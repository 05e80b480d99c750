"""What good answers look like, for the API document; tests hold every answer against it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from zlh.model.access import Permission
from zlh.model.accounts import Role
from zlh.model.agent_calls import Feature
from zlh.model.containers import ContainerType
from zlh.model.operations import OperationKind, OperationState, StepState

Status = Literal[
    "provisioning",
    "installing",
    "starting",
    "running",
    "stopping",
    "stopped",
    "crashed",
    "error",
    "offline",
    "host offline",
    "deleting",
    "unknown",
]
Tristate = Literal["online", "offline", "unknown"]


class Answer(BaseModel):
    """The base of every answer; names in camelCase unless the contract says otherwise."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, protected_namespaces=())


class Problem(Answer):
    """Every refusal."""

    error: str
    code: str
    details: Any
    request_id: str


class Ok(Answer):
    ok: Literal[True]


class User(Answer):
    """`suspended_at` is since when the account is suspended; while it is unpaid and in grace, when it will be: a time
    in the future."""

    id: int
    email: str
    username: str
    display_name: str
    first_name: str
    last_name: str
    role: Role
    billing_status: str | None = Field(alias="billing_status")
    suspended_at: str | None = Field(alias="suspended_at")
    email_verified: bool
    second_factor: bool


class SignedIn(Answer):
    token: str
    refresh_token: str
    expires_in: int
    token_type: Literal["Bearer"]
    user: User


class Registered(SignedIn):
    ok: Literal[True]


class Me(Answer):
    ok: Literal[True]
    user: User


class BillingProfile(Answer):
    billing_status: Literal["active", "inactive", "past_due", "canceled"] | None = Field(alias="billing_status")
    plan_name: str | None = Field(alias="plan_name")
    plan_price: float | None = Field(alias="plan_price")


class Step(Answer):
    name: str
    state: StepState
    attempts: int
    started_at: str | None
    ended_at: str | None
    error: str | None
    note: str | None


class Operation(Answer):
    id: str
    kind: OperationKind
    vmid: int
    state: OperationState
    queued: bool
    steps: list[Step]
    error: str | None
    created_at: str
    updated_at: str
    href: str


class OneOperation(Answer):
    operation: Operation


class TornDown(OneOperation):
    ok: Literal[True]


class OperationPage(Answer):
    operations: list[Operation]
    next: str | None


class Instance(Answer):
    vmid: int
    customer_id: int
    ctype: ContainerType
    name: str
    hostname: str
    dns_name: str
    ip: str | None
    allocated_ports: list[int]
    payload: dict[str, Any]
    agent_state: str
    agent_last_seen: str | None
    crash_count: int
    last_crash_at: str | None
    created_at: str
    updated_at: str


class Instances(Answer):
    ok: Literal[True]
    rows: list[Instance]


class OneInstance(Answer):
    ok: Literal[True]
    row: Instance


class Created(Answer):
    ok: Literal[True]
    vmid: int
    hostname: str
    ip: None
    operation: Operation


class Orphan(Answer):
    """`where` is "proxmox", "database", or the name of a target of the edge; there `vmid` may be unknown."""

    model_config = ConfigDict(extra="allow", alias_generator=to_camel)

    vmid: int | None
    where: str


class Orphans(Answer):
    orphans: list[Orphan]


class Swept(Orphans):
    dry_run: bool


class Players(Answer):
    online: int
    max: int
    names: list[str]


class Usage(Answer):
    cpu_percent: float | None
    memory_mb: int | None
    disk_mb: int | None


class OperationInFlight(Answer):
    id: str
    kind: OperationKind
    state: OperationState
    queued: bool
    href: str


class Evidence(Answer):
    """What is open now, and when each was last seen since the control plane started (null: not seen)."""

    ide_connections: int
    console_viewers: int
    last_ide: str | None
    last_console: str | None
    last_call: str | None


class Idle(Answer):
    """The IDE will be stopped at `stopsAt`, unless somebody uses the container before."""

    since: str
    stops_at: str
    evidence: Evidence


class Server(Answer):
    """`retrievalUntil`: until then a suspended server is on, without its game, so that its data can be fetched."""

    id: str
    name: str
    category: Literal["GAME", "DEV"]
    type: Literal["GAME", "DEV"]
    runtime: str
    flavor: str | None
    version: str
    hostname: str
    dns_name: str
    host_status: Tristate
    status: Status
    agent_status: Tristate
    install_step: str | None
    crash_count: int
    last_seen: str | None
    ip: str | None
    ready: bool
    players: Players | None
    resources: Usage
    agent_version: str | None
    update_available: bool | None
    address: str | None
    address_reason: str | None
    observed_at: str | None
    stale_seconds: int | None
    reason: str
    operation: OperationInFlight | None
    suspended: bool
    retrieval_until: str | None
    features: list[Feature]
    idle: Idle | None


class Servers(Answer):
    """`shared`: of the servers that others share, by their ids, what may be done there."""

    servers: list[Server]
    shared: dict[str, list[Permission]] = {}


class Limits(Answer):
    """Memory in MiB, disk in GiB, CPU cores."""

    memory: int
    disk: int
    cpu: int


class OneServer(Server):
    server: Server
    limits: Limits
    permissions: list[Permission]


class HostPower(Answer):
    success: Literal[True]
    message: str
    operation: Operation


class Upgraded(Answer):
    success: Literal[True]
    operation: Operation


class Versions(Answer):
    id: str
    versions: list[str]


class Game(Answer):
    id: str
    variants: list[Versions]


class GameCatalog(Answer):
    games: list[Game]


class DevCatalog(Answer):
    runtimes: list[Versions]


class Health(Answer):
    status: Literal["ok"]
    version: str
    uptime_seconds: int


class Check(Answer):
    ok: bool
    problem: str | None


class Ready(Answer):
    ready: bool
    checks: dict[str, Check]


class ActorTree(Answer):
    actors: dict[str, Any]


class OneActor(Answer):
    actor: dict[str, Any]
