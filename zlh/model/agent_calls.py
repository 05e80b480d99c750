"""Calls that are only passed on: what the API asks of an agent, and what an agent may be too old to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from zlh.model.containers import Container, ContainerType


class Feature(StrEnum):
    """What an agent can do that an older one may lack; the values are the words of `Server.features`."""

    PLAYERS = "players"
    COMMAND = "command"
    HISTORY = "history"
    FILES = "files"
    FILE_SEARCH = "file-search"
    FILE_VERSIONS = "file-versions"
    """ETag and If-Match: two editors cannot silently overwrite each other."""
    RESUMABLE_UPLOADS = "resumable-uploads"
    MODS = "mods"
    MOD_UPDATES = "mod-updates"
    BACKUPS = "backups"
    BACKUP_CHANGES = "backup-changes"
    """Renaming and locking."""
    CONSOLE_NUMBERS = "console-numbers"
    """Lines that the agent numbers itself: nothing is lost over a restart of ours."""
    UPDATE = "update"
    CODE_SERVER = "code-server"


_OF_GAMES = frozenset((Feature.PLAYERS, Feature.MODS, Feature.MOD_UPDATES))
_OF_DEVS = frozenset((Feature.CODE_SERVER,))


def features_of(ctype: ContainerType) -> tuple[Feature, ...]:
    """What a container of this type can have, always in the same order."""
    foreign = _OF_DEVS if ctype is ContainerType.GAME else _OF_GAMES
    return tuple(feature for feature in Feature if feature not in foreign)


@dataclass(frozen=True, slots=True)
class AgentCall:
    """One call with a small JSON body, as the agent's contract writes it.

    `changes` is false for what only looks. A 404 means that the agent lacks `feature`, unless `probe` is given: a
    path that every agent with the feature answers; where it does, the 404 is about what the call names, and is passed
    on.
    `seconds` is how long the agent may take, `max_body` how large its answer may be, in bytes.
    """

    feature: Feature
    method: str
    path: str
    query: Mapping[str, str] | None = None
    body: Any = None
    changes: bool = True
    probe: str | None = None
    seconds: float = 10.0
    max_body: int = 1 << 20


@dataclass(frozen=True, slots=True)
class AgentAnswer:
    """A success, as the agent gave it; `body` is empty or valid JSON."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class AgentPlace:
    """Where one agent is reached, and how much room its container has: the size of its disk, and what of it is used
    as far as the agent has told, in bytes. `address` is an IP literal."""

    address: str
    port: int
    token: str = field(repr=False)
    disk_bytes: int
    used_bytes: int | None


class Agents(Protocol):
    """What the gateway needs of the containers to move bytes to and from agents."""

    def container(self, vmid: int) -> Container:
        """Raises AbsentError."""

    def reach(self, vmid: int, feature: Feature, *, changes: bool) -> AgentPlace:
        """Never waits. Raises AbsentError, ConflictError (not in a state to be asked), ForbiddenError (suspended),
        AgentUnsupportedError."""

    def learn_lacking(self, vmid: int, feature: Feature) -> None:
        """The agent of this container was found to be too old for that."""
