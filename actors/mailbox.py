"""The bounded mailbox of one actor. It belongs to the place in the tree, so it outlives every crash of the actor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from actors.envelope import Envelope
from actors.errors import ActorStopped, MailboxFull, NotDelivered
from actors.lanes import Lane, LaneQueue

Queue = LaneQueue[Envelope]


class Mailbox:
    """Lanes of envelopes, and one question: may anything come in? `consumer` is told when a lane has work."""

    __slots__ = ("_closed", "consumer", "lanes", "path")

    def __init__(self, path: str, lanes: Sequence[Lane]) -> None:
        self.path = path
        self.lanes: dict[str, Queue] = {lane.name: LaneQueue(lane) for lane in lanes}
        self.consumer: Callable[[Queue], None] | None = None
        self._closed: Callable[[str], NotDelivered] | None = None

    def offer(self, lane: str, envelope: Envelope) -> Queue:
        """Queues the envelope and returns where. MailboxFull, or the reason why the mailbox is closed; KeyError for
        an unknown lane."""
        queue = self.lanes[lane]
        if self._closed is not None:
            raise self._closed(self.path)
        if not queue.offer(envelope, envelope.offered_at):
            raise MailboxFull(self.path, lane)
        if self.consumer is not None:
            self.consumer(queue)
        return queue

    def open(self) -> None:
        """Takes messages again. They wait until a consumer comes."""
        self._closed = None

    def close(self, reason: Callable[[str], NotDelivered] = ActorStopped) -> None:
        """Answers everything that waits with `reason(path)`, and from now on whoever comes."""
        self._closed = reason
        for queue in self.lanes.values():
            for envelope in queue.clear():
                envelope.fail(reason(self.path))
