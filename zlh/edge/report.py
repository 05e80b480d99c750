"""What operators are told of a target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from zlh.edge.difference import Blocked
from zlh.model.edge import Change, Entry


@dataclass(frozen=True, slots=True)
class Repair:
    """A change that was made though nothing had been asked for: the target was not as it had been left. `at` in Unix
    seconds."""

    at: float
    change: Change


@dataclass(frozen=True, slots=True)
class Report:
    """Of one target. Times in Unix seconds; `reachable` is None until it was spoken to. `wanted` and `actual` count
    entries, `owed` are those to be removed. `blocked` are wanted entries whose places others hold, `orphans` bear our
    mark, but nobody knows their containers, and `refused` says by entry why a change could not be made."""

    name: str
    kind: str
    reachable: bool | None
    synced_at: float | None
    wanted: int
    actual: int | None
    owed: tuple[Entry, ...] = ()
    blocked: tuple[Blocked, ...] = ()
    orphans: tuple[Entry, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    error_at: float | None = None
    calls: int = 0
    repairs: tuple[Repair, ...] = ()
