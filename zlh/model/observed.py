"""What was last seen of a container, by whom and when. Times are Unix seconds, ages are computed, never stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from zlh.model.containers import Power


class Presence(StrEnum):
    """Whether Proxmox has the container. ABSENT only after a complete answer that does not list it."""

    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"


class Liveness(StrEnum):
    ONLINE = "online"
    OFFLINE = "offline"
    UNKNOWN = "unknown"


class AgentState(StrEnum):
    """`state` of the agent's GET /status; UNKNOWN is ours, for "never heard"."""

    IDLE = "idle"
    INSTALLING = "installing"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    CRASHED = "crashed"
    ERROR = "error"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class HostObservation:
    """Proxmox's word on one container.

    `absences` counts the complete answers in a row that did not list it: once is not absent. `since` is when presence
    or power last changed. `reason` says why the power is UNKNOWN ("node pve2 is offline"). `looked_at` is when
    Proxmox was last asked about this container alone; its list of all containers may be older for some seconds.
    """

    presence: Presence = Presence.UNKNOWN
    power: Power = Power.UNKNOWN
    node: str = ""
    lock: str = ""
    absences: int = 0
    at: float | None = None
    since: float | None = None
    looked_at: float | None = None
    reason: str = "Proxmox was not asked yet"


@dataclass(frozen=True, slots=True)
class Status:
    """A valid GET /status. `uptime_seconds`, `cpu_percent`, `memory_mb`, `disk_mb` are None where not told."""

    state: AgentState
    install_step: str | None = None
    crash_count: int = 0
    error: str | None = None
    uptime_seconds: int | None = None
    cpu_percent: float | None = None
    memory_mb: int | None = None
    disk_mb: int | None = None


@dataclass(frozen=True, slots=True)
class Readiness:
    ready: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Version:
    version: str
    commit: str | None = None


@dataclass(frozen=True, slots=True)
class Update:
    current: str
    latest: str
    available: bool
    state: str


@dataclass(frozen=True, slots=True)
class Players:
    online: int
    max: int
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentObservation:
    """What the agent last said, and whether it still answers.

    `at` is the time of the last good round, `asked_at` of the last attempt. `misses` counts failed rounds in a row;
    at three the agent is OFFLINE, with `reason` saying what the last attempt met. `stale` marks an observation that a
    restarted poller inherited and has not confirmed yet. `met_at` is the address at which it answered to this
    container's token, until the token is refused there.
    """

    liveness: Liveness = Liveness.UNKNOWN
    status: Status | None = None
    readiness: Readiness | None = None
    version: Version | None = None
    update: Update | None = None
    players: Players | None = None
    players_at: float | None = None
    at: float | None = None
    asked_at: float | None = None
    misses: int = 0
    stale: bool = False
    met_at: str | None = None
    reason: str = "the agent was not asked yet"


@dataclass(frozen=True, slots=True)
class Observed:
    host: HostObservation = field(default_factory=HostObservation)
    agent: AgentObservation = field(default_factory=AgentObservation)
