"""The audit record: who did what to whose account or container, from where, and how it ended. Never a secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

LONGEST_TEXT = 500
MOST_ITEMS = 32

FACTS = frozenset(
    {
        "action",
        "bytes",
        "backup",
        "dry_run",
        "email",
        "exceptions",
        "enabled",
        "force",
        "key",
        "kid",
        "lines",
        "locked",
        "lost",
        "mod",
        "mode",
        "name",
        "operation",
        "order",
        "path",
        "minutes",
        "paths",
        "permissions",
        "plan",
        "port",
        "read_only",
        "reason",
        "repairs",
        "replayed",
        "reused",
        "role",
        "rollout",
        "schedule",
        "scopes",
        "second_factor",
        "sessions",
        "session",
        "share",
        "source",
        "target",
        "to",
        "type",
        "until",
        "version",
        "visibility",
    }
)
"""What may be said of an act beside its outcome: identities, choices and numbers. Nothing that somebody types where a
password, a code, a token or a link belongs."""

Fact = str | int | bool | list[str]


class Outcome(StrEnum):
    """How an act ended; an act without one is still under way, or was cut off: nobody knows."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"

    @classmethod
    def of_status(cls, status: int) -> Outcome:
        """Of an HTTP status."""
        if status < 400:
            return cls.DONE
        return cls.REFUSED if status < 500 else cls.FAILED


class Facts(dict[str, Fact]):
    """What a handler notes of an act. Raises ValueError for a name that is not among FACTS; long texts are cut."""

    def __setitem__(self, name: str, fact: Fact) -> None:
        if name not in FACTS:
            raise ValueError(f"{name!r} is not among the facts that the audit record keeps")
        if isinstance(fact, list):
            super().__setitem__(name, [clean(item) for item in fact[:MOST_ITEMS]])
        else:
            super().__setitem__(name, clean(fact) if isinstance(fact, str) else fact)


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What is about to be done. `actor_id` was at the keyboard (None: nobody knows, or a command of the machine),
    `subject_id` is whose account or container it is. `credential` is "session:<id>", "key:<id>", "acting:<session>",
    "public", "cli", or "none" for what the program itself has to say."""

    at: datetime
    action: str
    credential: str
    actor_id: int | None = None
    subject_id: int | None = None
    vmid: int | None = None
    address: str = ""
    agent: str = ""
    request_id: str = ""
    details: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How it ended, with what was only known then; None leaves what the act says. `status` is HTTP's."""

    outcome: Outcome
    status: int | None = None
    actor_id: int | None = None
    subject_id: int | None = None
    vmid: int | None = None
    details: Mapping[str, Fact] = field(default_factory=dict)


def clean(text: str, longest: int = LONGEST_TEXT) -> str:
    """What PostgreSQL can keep of a client's words."""
    return text[:longest].replace("\0", "").encode(errors="replace").decode()
