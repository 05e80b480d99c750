"""Who uses a container: what has to be silent for a while before its IDE counts as idle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Use(StrEnum):
    IDE = "ide"
    """Requests to the IDE or to a port of the container that was opened, and their websockets."""
    CONSOLE = "console"
    """Viewers of the console, and the lines that they type."""
    CALL = "call"
    """What was passed on to the agent: files, backups and the like."""


class Activity(Protocol):
    """Is told of every use. Nothing of it waits or raises, also for containers that do not exist."""

    def touched(self, vmid: int, use: Use) -> None:
        """It was used just now: one request, one line. Cheap enough for every request."""

    def opened(self, vmid: int, use: Use) -> None:
        """Something that lasts began: a websocket, a viewer. Counts as use until it is `closed`."""

    def closed(self, vmid: int, use: Use) -> None:
        """What was `opened` ended, exactly once for each."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What is known of a container's uses: how many are open now, and when each was last seen, in Unix seconds."""

    open: Mapping[Use, int] = field(default_factory=dict)
    at: Mapping[Use, float] = field(default_factory=dict)

    @property
    def busy(self) -> bool:
        return any(self.open.values())

    @property
    def last(self) -> float | None:
        """None where nobody was seen since this process began."""
        return max(self.at.values(), default=None)


@dataclass(frozen=True, slots=True)
class Idle:
    """Nobody has used it `since` then, and it will be stopped at `stops_at`, both in Unix seconds, unless somebody
    does before. `usage` is what that rests on."""

    since: float
    stops_at: float
    usage: Usage
