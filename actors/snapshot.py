"""What an operator sees of the tree: plain values, taken at one moment, safe to keep."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime
from enum import Enum
from typing import Any

from actors.strategy import State


@dataclass(frozen=True, slots=True)
class LastCrash:
    """`at` is wall-clock time in seconds since the epoch."""

    type: str
    message: str
    traceback: str
    at: float


@dataclass(frozen=True, slots=True)
class LaneSnapshot:
    """`oldest_age` is in seconds, None when nothing waits."""

    depth: int
    capacity: int
    oldest_age: float | None
    in_flight: int
    handled: int
    failed: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One child and what is below it. Times are wall-clock seconds since the epoch; `started_at` is None while it is
    not up; `next_try` is when a backoff or a quarantine ends. `restarts` counts how often it was started again."""

    name: str
    path: str
    kind: str
    state: State
    restarts: int
    crashes: int
    started_at: float | None
    next_try: float | None
    last_crash: LastCrash | None
    lanes: Mapping[str, LaneSnapshot]
    annotations: Mapping[str, Any]
    children: tuple[Snapshot, ...]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON, keys in camelCase. Annotations of a type that JSON lacks become text."""
        found: dict[str, Any] = _plain(self)
        return found

    def walk(self) -> Iterator[Snapshot]:
        """This one and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


def _plain(value: Any) -> Any:
    if isinstance(value, Snapshot):
        # Annotations come as keyword arguments, so their names are Python's.
        named = {_camel(name): item for name, item in value.annotations.items()}
        return _fields(value) | {"annotations": _plain(named)}
    if isinstance(value, LaneSnapshot | LastCrash):
        return _fields(value)
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value)


def _fields(value: Snapshot | LaneSnapshot | LastCrash) -> dict[str, Any]:
    return {_camel(field.name): _plain(getattr(value, field.name)) for field in fields(value)}


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)
