"""How everyone else speaks to an actor."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import trio

from actors.envelope import Envelope
from actors.errors import ActorStopped, AskTimeout
from actors.mailbox import Mailbox


class Directory(Protocol):
    """Where a ref looks its actor up at each use."""

    clock: Callable[[], float]

    def mailbox(self, path: str) -> Mailbox | None: ...


class Ref:
    """An address, not an actor: it stays good while the actor behind it crashes, restarts, goes and comes back.

    Two refs are equal when they name the same path of the same system.
    """

    __slots__ = ("_directory", "path")

    def __init__(self, path: str, directory: Directory) -> None:
        self.path = path
        self._directory = directory

    def tell(self, message: Any, *, lane: str = "exclusive") -> None:
        """Queues `message` and returns at once. MailboxFull, ActorStopped, ActorQuarantined; KeyError for a lane
        that the actor does not have."""
        self._mailbox().offer(lane, Envelope(message, self._directory.clock(), math.inf))

    async def ask(self, message: Any, *, within: float, lane: str = "exclusive") -> Any:
        """Queues `message` and waits up to `within` seconds for the handler's return value.

        Raises AskTimeout, ActorCrashed, ActorStopped, ActorQuarantined, MailboxFull; KeyError for a lane that the
        actor does not have. When the caller is cancelled or the time is up before a handler has begun, the message
        is never handled.
        """
        # The bare scope, because `move_on_after` would cost another tenth of the whole ask. Made before the envelope
        # is queued: a `within` that is no time raises ValueError here.
        scope = trio.CancelScope(relative_deadline=within)
        now = self._directory.clock()
        envelope = Envelope(message, now, now + within)
        queue = self._mailbox().offer(lane, envelope)
        try:
            with scope:
                return await envelope.reply()
        finally:
            if not envelope.began and not envelope.answered:
                queue.withdraw(envelope)
        raise AskTimeout(self.path, within, began=envelope.began)

    def _mailbox(self) -> Mailbox:
        mailbox = self._directory.mailbox(self.path)
        if mailbox is None:
            raise ActorStopped(self.path)
        return mailbox

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and (self.path, self._directory) == (other.path, other._directory)

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        return f"<Ref {self.path}>"
