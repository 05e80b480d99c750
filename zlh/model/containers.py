"""Containers: what a customer asked for, and what a row says is wanted."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class ContainerType(StrEnum):
    GAME = "game"
    DEV = "dev"


class Lifecycle(StrEnum):
    """Whether the container is wanted at all."""

    PRESENT = "present"
    ABSENT = "absent"


class Power(StrEnum):
    """Power of the LXC container, never of the game in it. UNKNOWN is what we say when we could not ask."""

    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Resources:
    """A container's size: memory in MiB, CPU cores, root disk in GiB."""

    memory_mib: int
    cpu_cores: int
    disk_gib: int


@dataclass(frozen=True, slots=True)
class Software:
    """What runs in the container. `name` is the game or the runtime; `variant` and `world` are empty for dev."""

    name: str
    version: str
    variant: str = ""
    world: str = ""


@dataclass(frozen=True, slots=True)
class Desired:
    """What is wanted of one container; written and carried out by the container's actor.

    `power` is what its owner wants, also while it is `suspended`: then it is off, but for a retrieval. That is on
    until `retrieval_until`; `retrieval_since` is when the first one of its day began. `game_held`: the game was
    stopped because of the suspension, and is to run again once that is over.
    """

    lifecycle: Lifecycle = Lifecycle.PRESENT
    power: Power = Power.ON
    suspended: bool = False
    retrieval_since: datetime | None = None
    retrieval_until: datetime | None = None
    game_held: bool = False

    def retrieval_left(self, now: float) -> float:
        """For how many seconds more a suspended container is on, so that its data can be fetched; 0.0 for none.
        `now` is in Unix seconds."""
        if not self.suspended or self.retrieval_until is None:
            return 0.0
        return max(0.0, self.retrieval_until.timestamp() - now)

    def power_at(self, now: float) -> Power:
        """What the container's power is to be."""
        if not self.suspended:
            return self.power
        return Power.ON if self.retrieval_left(now) > 0 else Power.OFF


@dataclass(frozen=True, slots=True)
class Container:
    """One container's row.

    `node` is empty until it was chosen. `address` is the reserved IP address without a prefix length, or None while
    DHCP has not answered. `agent_token` is the token in clear; the store keeps it encrypted. `agent_state`,
    `agent_last_seen`, `crash_count` and `last_crash_at` are the last recorded observation, for the time before the
    first poll after a restart. `label` is the name that the owner chose for DNS, if any.
    """

    vmid: int
    owner_id: int
    ctype: ContainerType
    name: str
    hostname: str
    software: Software
    resources: Resources
    ports: tuple[int, ...]
    agent_token: str = field(repr=False)
    created_at: datetime
    updated_at: datetime
    desired: Desired = Desired()
    node: str = ""
    address: str | None = None
    provisioned: bool = False
    agent_state: str = "unknown"
    agent_last_seen: datetime | None = None
    crash_count: int = 0
    last_crash_at: datetime | None = None
    label: str | None = None

    @property
    def dns_name(self) -> str:
        """The full name that people use: the owner's label in the zone of the host name, or the host name."""
        _, dot, zone = self.hostname.partition(".")
        return f"{self.label}{dot}{zone}" if self.label else self.hostname


@dataclass(frozen=True, slots=True)
class ContainerRequest:
    """A validated wish for a new container; sizes are filled in from the plan's defaults."""

    ctype: ContainerType
    name: str
    software: Software
    resources: Resources
    ports: tuple[int, ...] = ()
