"""Supervised actors on Trio: a tree of children that may crash, and are started again.

Write the tree down as specs (`actor`, `task`, `supervisor`, `dynamic`), run it with `open_system`, speak to actors
through a `Ref`. docs/actors.md has a complete example. Nothing in here knows what the actors are for.
"""

from actors.context import Context
from actors.errors import (
    ActorCrashed,
    ActorError,
    ActorQuarantined,
    ActorStopped,
    AskTimeout,
    ChildExists,
    ChildFault,
    MailboxFull,
    NotDelivered,
    Returned,
    StartTimeout,
    UnknownPath,
)
from actors.events import Event, EventKind, Subscription
from actors.kinds.actor import Actor
from actors.lanes import DEFAULT_LANES, Lane
from actors.ref import Ref
from actors.restart import Backoff, Intensity, Restart
from actors.snapshot import LaneSnapshot, LastCrash, Snapshot
from actors.spec import ChildSpec, actor, dynamic, supervisor, task
from actors.strategy import State, Strategy
from actors.system import Dynamic, System, open_system

__all__ = [
    "DEFAULT_LANES",
    "Actor",
    "ActorCrashed",
    "ActorError",
    "ActorQuarantined",
    "ActorStopped",
    "AskTimeout",
    "Backoff",
    "ChildExists",
    "ChildFault",
    "ChildSpec",
    "Context",
    "Dynamic",
    "Event",
    "EventKind",
    "Intensity",
    "Lane",
    "LaneSnapshot",
    "LastCrash",
    "MailboxFull",
    "NotDelivered",
    "Ref",
    "Restart",
    "Returned",
    "Snapshot",
    "StartTimeout",
    "State",
    "Strategy",
    "Subscription",
    "System",
    "UnknownPath",
    "actor",
    "dynamic",
    "open_system",
    "supervisor",
    "task",
]
