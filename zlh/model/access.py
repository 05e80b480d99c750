"""What somebody may do: the permissions that one has at a container, and the scopes that an API key was given."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class Permission(StrEnum):
    """What one may do with one container. The owner and operators may all of it."""

    VIEW = "view"
    """See that it is there, its state and its operations; everybody who may anything may that."""
    POWER = "power"
    """Start, stop and restart, game and host."""
    WATCH = "watch"
    """Read the console."""
    CONSOLE = "console"
    """Read the console and type into it."""
    FILES = "files"
    MODS = "mods"
    BACKUPS = "backups"
    IDE = "ide"
    OWN = "own"
    """Tear down, resize, share: nobody can be given that."""


EVERYTHING = frozenset(Permission)
SHAREABLE = tuple(permission for permission in Permission if permission not in (Permission.VIEW, Permission.OWN))


def with_implied(given: Iterable[Permission]) -> frozenset[Permission]:
    """What somebody has who was given `given`: seeing goes with everything, watching with typing."""
    held = {Permission.VIEW, *given}
    if Permission.CONSOLE in held:
        held.add(Permission.WATCH)
    return frozenset(held)


@functools.cache
def told(held: frozenset[Permission]) -> tuple[str, ...]:
    """What may be done beyond seeing it, always in the same order."""
    return tuple(permission.value for permission in Permission if permission in held - {Permission.VIEW})


# What others share with one account: vmid -> permissions. Never changed, always replaced.
Shared = Mapping[int, frozenset[Permission]]

NOT_SHARED: Shared = MappingProxyType({})


class Sight(NamedTuple):
    """Whose containers somebody sees: those of one owner (None: everybody's), and those that others share, with what
    is held there."""

    # A tuple because every read makes one.
    owner_id: int | None
    shared: Shared = NOT_SHARED


EVERYTHING_IN_SIGHT = Sight(None)


class Scope(StrEnum):
    """What an API key may be used for, within what its account may do. Signing in and credentials are not among
    them: keys, passwords, the second factor and sessions are only changed by somebody who signed in."""

    ACCOUNT_READ = "account:read"
    SERVERS_READ = "servers:read"
    SERVERS_POWER = "servers:power"
    SERVERS_WRITE = "servers:write"
    """Create, resize, tear down."""
    CONSOLE = "console"
    FILES = "files"
    MODS = "mods"
    BACKUPS = "backups"
    IDE = "ide"
    SCHEDULES = "schedules"
    """Make, change and delete schedules; each also needs the scope of what it does."""
    SHARES = "shares"
    BILLING = "billing"
    OPERATOR = "operator"
    """What operators may; without it an operator's key is a customer's key."""
