"""A message on its way: queued, begun, answered. The asker's task waits on it directly, without a channel."""

from __future__ import annotations

import math
from typing import Any

import trio


class Envelope:
    """One message. `deadline` is in seconds of the system's clock; a tell has none."""

    __slots__ = ("_asker", "_error", "_value", "answered", "began", "deadline", "message", "offered_at")

    def __init__(self, message: Any, offered_at: float, deadline: float) -> None:
        self.message = message
        self.offered_at = offered_at
        self.deadline = deadline
        self.began = False
        self.answered = False
        self._asker: trio.lowlevel.Task | None = None
        self._value: Any = None
        self._error: BaseException | None = None

    def answer(self, value: Any) -> None:
        """Gives the reply. Only the first answer of an envelope counts; for a tell nobody looks."""
        if not self.answered:
            self.answered = True
            self._value = value
            self._wake()

    def fail(self, error: BaseException) -> None:
        """Makes `reply` raise `error`. Only the first answer of an envelope counts."""
        if not self.answered:
            self.answered = True
            self._error = error
            self._wake()

    async def reply(self) -> Any:
        """Waits for the answer; a checkpoint. Cancelling it makes the envelope unwanted: its deadline has passed."""
        if not self.answered:
            self._asker = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abandon)
        if self._error is not None:
            raise self._error
        return self._value

    def _abandon(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        # The asker is gone as of now, even if its task gets to run only after a handler looked here.
        self._asker = None
        self.deadline = -math.inf
        return trio.lowlevel.Abort.SUCCEEDED

    def _wake(self) -> None:
        asker, self._asker = self._asker, None
        if asker is not None:
            trio.lowlevel.reschedule(asker)
