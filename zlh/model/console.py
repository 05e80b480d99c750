"""Console lines on their way from one agent to many viewers.

The relay of a container (one upstream, however many watch) hands every viewer the same `Batch`; whoever turns lines
into websocket frames keeps the built frame in the batch, so that it is built once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from zlh.model.access import Permission, Scope
from zlh.model.accounts import Principal


class Line(NamedTuple):
    """`seq` rises by one per line of this container's console, and by more where lines are missing; `at` is Unix
    seconds of arrival here."""

    seq: int
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Stretch:
    """Lines in a row, as an agent tells them. An agent that numbers its lines says of which `epoch` they are (when it
    began to count, in Unix milliseconds) and the number of the `first`; both are None for one that does not."""

    lines: tuple[str, ...]
    epoch: int | None = None
    first: int | None = None

    @property
    def end(self) -> int:
        """The number that the next line has."""
        assert self.first is not None
        return self.first + len(self.lines)


@dataclass(frozen=True, slots=True)
class Batch:
    """What one read from the upstream brought, in order. `frames` maps a format's name to its built frames."""

    lines: tuple[Line, ...]
    frames: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)


class Viewer(Protocol):
    """One who watches. No method may block or raise: a slow viewer drops lines of its own and tells itself so."""

    def deliver(self, batch: Batch) -> None: ...

    def event(self, name: str, fields: dict[str, object]) -> None:
        """A control event: "gap" {"dropped": n | None} where lines are missing, "state" {"upstream": "connecting" |
        "connected" | "reconnecting", "code"?, "reason"?}."""

    def end(self, code: int, reason: str) -> None:
        """Access or the container is gone: close with that websocket code."""


class Attachment(Protocol):
    """A viewer's place at a console; `detach` may be called more than once."""

    async def send_line(self, line: str) -> None:
        """Sends one command line to the agent. Raises TooManyError, UnavailableError, InvalidError."""

    def detach(self) -> None: ...


class Consoles(Protocol):
    """What the gateway needs of the containers."""

    def attach(self, vmid: int, viewer: Viewer, *, after: int | None = None) -> Attachment:
        """Joins. The history after `after` (all that is retained, for None) is delivered first, with a "gap" event
        where lines after `after` are retained no more, or where `after` is not a number of this console: before it
        returns, or, where nothing is known yet because the agent was not reached since our start, once it is. Raises
        AbsentError, TooManyError."""


class Grant(Protocol):
    """The right to be at one container's console, files or ports, as long as it lasts."""

    principal: Principal
    may_type: bool
    expires_at: float

    def on_end(self, callback: EndCallback) -> None:
        """Calls `callback(code, reason)` once, at once, when access ends (logout, suspension, the container deleted,
        the token expired)."""

    def release(self) -> None:
        """The connection is gone; the callback is dropped. May be called more than once."""


class EndCallback(Protocol):
    def __call__(self, code: int, reason: str) -> None: ...


class Doorkeeper(Protocol):
    """Authorises from memory; never waits."""

    def enter(
        self,
        token: str,
        vmid: int,
        permission: Permission,
        scope: Scope,
        *,
        changes: bool,
        address: str = "",
        lasting: float = 0.0,
        suspended: bool = False,
    ) -> Grant:
        """For a client at `address`: an operator in a customer's place who may only look is refused where it
        `changes` anything, and a suspended account unless it is `suspended` that may, too. For so many `lasting`
        seconds a grant of somebody who signed in does not end because the token does: what was begun in time may take
        longer than a token lives. Raises UnauthenticatedError,
        ForbiddenError or AbsentError (does not exist, or is not yours)."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A viewer's connection to one console: to which, from where, with what program, by which request."""

    vmid: int
    address: str
    agent: str
    request_id: str


class Guestbook(Protocol):
    """Remembers who could type into a console; never waits."""

    def arrived(self, principal: Principal, visit: Visit) -> None: ...

    def left(self, principal: Principal, visit: Visit, lines: int) -> None:
        """`lines` were typed."""
