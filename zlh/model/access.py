"""What somebody may do: the permissions that one has at a container, and the scopes that an API key was given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


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


def told(held: Iterable[Permission]) -> list[str]:
    """What may be done beyond seeing it, always in the same order."""
    beyond = frozenset(held) - {Permission.VIEW}
    return [permission.value for permission in Permission if permission in beyond]


@dataclass(frozen=True, slots=True)
class Sight:
    """Whose containers somebody sees: those of one owner (None: everybody's), and those that others share, with what
    is held there."""

    owner_id: int | None
    shared: Mapping[int, frozenset[Permission]] = field(default_factory=dict)


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
    SHARES = "shares"
    BILLING = "billing"
    OPERATOR = "operator"
    """What operators may; without it an operator's key is a customer's key."""
