"""What is to be supervised: plain, reusable values. A tree of specs is written down once and reads as it runs."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, Unpack

from actors.lanes import DEFAULT_LANES, Lane, unique
from actors.restart import Backoff, Intensity, Restart
from actors.strategy import Strategy

if TYPE_CHECKING:
    from actors.context import Context
    from actors.kinds.actor import Actor

_INTENSITY = Intensity()
_BACKOFF = Backoff()


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """What every child has. Seconds throughout.

    `shutdown`: how long an orderly stop may take before the child is cancelled.
    `startup`: how long it may take to come up; later than that is a crash.
    `essential`: when its restart budget is spent, its supervisor fails with it instead of going on without it.
    """

    name: str
    restart: Restart = Restart.PERMANENT
    shutdown: float = 5.0
    startup: float = 60.0
    intensity: Intensity = _INTENSITY
    backoff: Backoff = _BACKOFF
    essential: bool = False

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise ValueError(f"a child's name is not empty and has no slash: {self.name!r}")
        if self.shutdown < 0 or self.startup <= 0:
            raise ValueError(f"{self.name}: shutdown and startup are times in seconds")


@dataclass(frozen=True, kw_only=True)
class ActorSpec(ChildSpec):
    factory: Callable[[], Actor]
    lanes: tuple[Lane, ...] = DEFAULT_LANES


@dataclass(frozen=True, kw_only=True)
class TaskSpec(ChildSpec):
    run: Callable[[Context], Awaitable[None]]
    graceful: bool = False


@dataclass(frozen=True, kw_only=True)
class SupervisorSpec(ChildSpec):
    shutdown: float = math.inf
    startup: float = math.inf
    children: tuple[ChildSpec, ...] = ()
    strategy: Strategy = Strategy.ONE_FOR_ONE

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [child.name for child in self.children]
        if len(set(names)) != len(names):
            raise ValueError(f"{self.name}: two children have the same name: {names}")


@dataclass(frozen=True, kw_only=True)
class DynamicSpec(ChildSpec):
    shutdown: float = math.inf
    startup: float = math.inf
    concurrent_starts: int = 16


class Options(TypedDict, total=False):
    """The fields of ChildSpec that every maker of specs takes."""

    restart: Restart
    shutdown: float
    startup: float
    intensity: Intensity
    backoff: Backoff
    essential: bool


def actor(
    name: str, factory: Callable[[], Actor], *, lanes: Sequence[Lane] = DEFAULT_LANES, **spec: Unpack[Options]
) -> ActorSpec:
    """An actor; `factory` makes a fresh instance for every start."""
    return ActorSpec(name=name, factory=factory, lanes=unique(lanes), **spec)


def task(
    name: str, run: Callable[[Context], Awaitable[None]], *, graceful: bool = False, **spec: Unpack[Options]
) -> TaskSpec:
    """A loop; it calls `ctx.started()` once it is up.

    To stop it, it is cancelled. A `graceful` one is told by `ctx.stop_requested()` instead, and is cancelled only
    when it has not returned after `shutdown` seconds.
    """
    return TaskSpec(name=name, run=run, graceful=graceful, **spec)


def supervisor(
    name: str,
    children: Sequence[ChildSpec],
    *,
    strategy: Strategy = Strategy.ONE_FOR_ONE,
    **spec: Unpack[Options],
) -> SupervisorSpec:
    """Children that start in this order, each when the one before is up, and stop in reverse.

    It takes as long as its children do: `shutdown` and `startup` are without limit unless given.
    """
    return SupervisorSpec(name=name, children=tuple(children), strategy=strategy, **spec)


def dynamic(name: str, *, concurrent_starts: int = 16, **spec: Unpack[Options]) -> DynamicSpec:
    """A supervisor whose children come and go, and know nothing of each other.

    At most `concurrent_starts` new children are on their way up at a time, the others queue. A restart does not
    queue: its backoff spreads it already, and a child that hangs while starting must not hold up the rest.
    """
    if concurrent_starts < 1:
        raise ValueError("concurrent_starts must be at least 1")
    return DynamicSpec(name=name, concurrent_starts=concurrent_starts, **spec)
