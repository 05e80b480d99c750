"""Files on their way between customers and agents: what is remembered of an upload that may be continued, and of who
moved what."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from zlh.model.accounts import Principal
from zlh.model.agent_calls import Agents
from zlh.model.console import Visit
from zlh.model.paths import UPLOADS


class UploadState(StrEnum):
    OPEN = "open"
    MOVING = "moving"
    """All of it is there; it is being put in its place, or has been."""
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file that arrives in pieces. `path` is its place once it is whole, `length` its bytes then; how many are
    there only the agent knows."""

    id: str
    vmid: int
    path: str
    length: int
    state: UploadState
    expires_at: datetime

    @property
    def part(self) -> str:
        """Where it waits until it is whole."""
        return f"{UPLOADS}/{self.id}"


class Uploads(Protocol):
    """Uploads that outlive connections, and restarts of ours and of the agent.

    Every method raises AbsentError for an upload that is gone, what a call to the agent raises, and UnavailableError
    where the database is away.
    """

    async def begin(self, vmid: int, path: str, length: int) -> Upload:
        """Raises ConflictError where a file cannot be at `path`, TooManyError, AgentUnsupportedError."""

    async def find(self, vmid: int, upload_id: str) -> Upload: ...

    async def offset(self, upload: Upload) -> int:
        """How many bytes are there; what is whole is put into its place first."""

    async def keep(self, upload: Upload) -> Upload:
        """The same, expiring later: it is being worked on."""

    async def finish(self, upload: Upload) -> None:
        """Puts what is whole into its place, over what is there. May be repeated."""

    async def drop(self, upload: Upload) -> None:
        """Forgets it, and what has arrived of it."""


class TransferBook(Protocol):
    """Remembers what was moved, by whom, and how it ended: `status` is HTTP's, None where it broke off. Never waits.
    `size` in bytes."""

    def uploaded(self, principal: Principal, visit: Visit, path: str, size: int, status: int | None) -> None: ...

    def downloaded(self, principal: Principal, visit: Visit, backup: str, size: int, status: int | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Depot:
    """Where files come from and go to; `book` None: nobody remembers it."""

    agents: Agents
    uploads: Uploads
    book: TransferBook | None = None
