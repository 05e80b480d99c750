"""What the actors of all containers share: the outside world, the limits, and the ways to reach each other."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import trio

from actors import ActorQuarantined, ActorStopped, MailboxFull, Ref
from zlh.containers.admission import Admission
from zlh.containers.alarm import Alarm
from zlh.containers.cell import Cell
from zlh.containers.followers import Followers
from zlh.containers.steps import Site
from zlh.model.containers import Container
from zlh.model.operations import Operation
from zlh.store import Database

log = logging.getLogger("zlh.containers")

BUSY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Departure:
    """The row is gone: its actor is to be stopped. Another cell under the same vmid is another container."""

    cell: Cell


@dataclass(frozen=True, slots=True)
class Arrival:
    """A new row, or one that has another vmid from now on: an actor is to be started for it."""

    row: Container
    operation: Operation | None


@dataclass(frozen=True, slots=True)
class Census:
    """A write's outcome was not seen: rows that nobody knows of are to be looked for."""


class Crew:
    """`now` gives Unix seconds; `look_at_hosts` asks the watcher for an answer now, `looked_at_host` tells it what an
    operation was answered about one container; `suspended` says of an account whether it is, None where nobody knows
    it.

    `moves` tells the fleet whose actor to stop and whose to start: no actor does that to itself.
    """

    def __init__(
        self,
        *,
        db: Database,
        now: Callable[[], float],
        concurrent_operations: int,
        followers: Followers,
        look_at_hosts: Callable[[], None],
        looked_at_host: Callable[[Cell, bool], None],
        suspended: Callable[[int], bool | None],
    ) -> None:
        self.db = db
        self._now = now
        self.admission = Admission(concurrent_operations)
        self.alarm = Alarm(self.nudge)
        self.look_at_hosts = look_at_hosts
        self.looked_at_host = looked_at_host
        self.suspended = suspended
        self.site: Site
        self._followers = followers
        self._mailboxes: dict[int, Ref] = {}
        self._nudged: set[int] = set()
        self._last: dict[int, Operation] = {}
        self._moves, self.moves = trio.open_memory_channel[Departure | Arrival | Census](math.inf)

    def now(self) -> float:
        """Unix seconds."""
        return self._now()

    def joined(self, vmid: int, mailbox: Ref) -> None:
        self._mailboxes[vmid] = mailbox

    def parted(self, vmid: int) -> None:
        """The container's actor is gone: nothing of it stays."""
        self._mailboxes.pop(vmid, None)
        self._last.pop(vmid, None)
        self._nudged.discard(vmid)
        self.alarm.clear(vmid)
        self.leave(vmid)

    def mailbox(self, vmid: int) -> Ref | None:
        return self._mailboxes.get(vmid)

    def nudge(self, vmid: int) -> None:
        """Tells the container to look for itself; at most one nudge waits in a mailbox."""
        mailbox = self._mailboxes.get(vmid)
        if mailbox is None or vmid in self._nudged:
            return
        try:
            mailbox.tell(NUDGE)
        except MailboxFull:
            self.alarm.set(vmid, BUSY_SECONDS)
        except ActorQuarantined:
            # It looks for itself when it starts again. Until then the place that it was just given is another's.
            self.leave(vmid)
        except ActorStopped:
            return
        else:
            self._nudged.add(vmid)

    def nudged(self, vmid: int) -> None:
        """The nudge is being handled: the next one counts again."""
        self._nudged.discard(vmid)

    def publish(self, operation: Operation) -> None:
        self._last[operation.vmid] = operation
        self._followers.publish(operation)

    def last_operation(self, vmid: int) -> Operation | None:
        return self._last.get(vmid)

    def leave(self, vmid: int) -> None:
        """Gives up the container's place among running operations and all that Proxmox limits."""
        self.site.clones.leave(vmid)
        self.site.mutations.leave(vmid)
        for granted in self.admission.leave(vmid):
            self.nudge(granted)

    def retire(self, cell: Cell) -> None:
        self._moves.send_nowait(Departure(cell))

    def arrived(self, row: Container, operation: Operation | None) -> None:
        self._moves.send_nowait(Arrival(row, operation))

    def count_anew(self) -> None:
        self._moves.send_nowait(Census())

    def vmids(self, row: Container) -> range:
        return self.site.options.vmids[row.ctype]

    def taken(self) -> set[int]:
        """The vmids that Proxmox is known to have."""
        cluster = self.site.cluster()
        return {guest.vmid for guest in cluster.guests} if cluster is not None else set()


class Nudge:
    """Look for yourself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Nudge()"


NUDGE = Nudge()
