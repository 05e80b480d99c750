"""What the outside learns of containers: names, routes, entries of other systems that lead to them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Protocol

from zlh.model.containers import ContainerType, Power

Key = tuple[str, str, str]
"""Kind, name and value of an entry."""


def endpoint(address: str, port: int) -> str:
    """As "address:port"; an IPv6 address in brackets, and in the one way of writing it (RFC 5952)."""
    try:
        address = ip_address(address).compressed
    except ValueError:
        return f"{address}:{port}"
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Stage(StrEnum):
    """Whether a container is to be found. MAKING: not yet, and what bears its number is left alone until then.
    SUSPENDED: not now, and what is its own stays reserved."""

    MAKING = "making"
    PUBLISHED = "published"
    SUSPENDED = "suspended"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True)
class Publication:
    """All that targets need to know of one container.

    `hostname` is the full DNS name that people use, `address` the container's own, `ports` those that its game
    listens on and `public_ports` those that lead to them from outside, one for one: None where it is reached at its
    own, empty where it is to have some and none are free.
    `serving`: the game runs and is ready; None where nobody knows at the moment. `power` is the container's own, and
    `forwards` are those of its ports that were opened to the outside through us.
    """

    vmid: int
    owner_id: int
    ctype: ContainerType
    software: str
    variant: str
    hostname: str
    address: str | None
    node: str
    ports: tuple[int, ...]
    stage: Stage
    serving: bool | None
    public_ports: tuple[int, ...] | None = None
    power: Power = Power.UNKNOWN
    forwards: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry at a target. For DNS `kind` is the record's type, `name` a full name in lower case without the last
    dot, `value` the data as in a zone file (names in it as in `name`) and `ttl` in seconds; for Velocity `kind` is
    "server", `name` the server's and `value` "address:port". Only one holder may have entries of a kind at a name."""

    vmid: int
    kind: str
    name: str
    value: str
    ttl: int = 0

    @property
    def slot(self) -> tuple[str, str]:
        return self.kind, self.name

    @property
    def key(self) -> Key:
        return self.kind, self.name, self.value

    def __str__(self) -> str:
        return f"{self.kind} {self.name} {self.value}"


class Verb(StrEnum):
    ADD = "add"
    REPLACE = "replace"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Found:
    """An entry that is at a target. `mine`: it bears our mark; None where the target keeps no marks."""

    entry: Entry
    mine: bool | None


@dataclass(frozen=True, slots=True)
class Change:
    """`before` is the entry that a REPLACE takes away, in the same step where the target can do that."""

    verb: Verb
    entry: Entry
    reason: str
    before: Entry | None = None


class System(Protocol):
    """Another system that is told entry by entry. `batch` changes go into one call at most, and `per_second` are made
    in a second. What it was told counts only when it was seen."""

    kind: str
    batch: int
    per_second: float

    async def look(self, names: Collection[str] | None) -> Sequence[Found]:
        """Every entry of the kinds that we make (and for DNS every CNAME) at those names, or at all names; others'
        too. `vmid` is 0 where no mark tells it. Raises DriverError."""

    async def apply(self, changes: Sequence[Change]) -> Sequence[str | None]:
        """Makes up to `batch` changes; for each None or why it could not be made. Never touches what is not ours,
        also where that has come since the last look. Raises DriverError where the system as a whole fails: nobody
        knows then which were made."""

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Lag:
    """Why a target is not yet as it should be for one container. `soon`: worth a wait; otherwise it is owed, for as
    long as the reason lasts."""

    target: str
    reason: str
    soon: bool


@dataclass(frozen=True, slots=True)
class Reachability:
    """What a player types, once it leads somewhere; until then None, and `reason` says why."""

    address: str | None
    reason: str | None = None


class Edge(Protocol):
    """What operations ask of the edge. Never waits."""

    def lags(self, vmid: int) -> Collection[Lag]:
        """Empty once every target has what is wanted of the container, and nothing else of it."""

    def on_progress(self, nudge: Callable[[int], None]) -> None:
        """`nudge(vmid)` is called whenever a container's lags may be others."""


class NoEdge:
    """Where nothing is published anywhere."""

    def lags(self, vmid: int) -> Collection[Lag]:
        return ()

    def on_progress(self, nudge: Callable[[int], None]) -> None:
        pass
