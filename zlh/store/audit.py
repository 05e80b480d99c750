"""The audit record. A row is begun before the act and completed once after it; a trigger refuses every other change,
and every deletion but the retention's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from zlh.model.accounts import Role
from zlh.model.audit import Act, Ending, Fact, Outcome, clean
from zlh.store.tables import accounts, audit


@dataclass(frozen=True, slots=True)
class Person:
    """Whose account it is; `username` and `role` are today's."""

    id: int
    username: str
    role: Role


@dataclass(frozen=True, slots=True)
class Entry:
    """One row as it is read. `outcome` None: under way, or cut off."""

    id: int
    at: datetime
    action: str
    actor: Person | None
    subject: Person | None
    vmid: int | None
    outcome: Outcome | None
    status: int | None
    credential: str
    address: str
    agent: str
    request_id: str
    details: Mapping[str, Fact]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which rows to read; None wants all. `seen_by` and `account_id` are an actor's or a subject's id, `action` is
    one action or a whole family ("totp" is "totp.enable" too), `unknown` wants those without an outcome, `before` is
    the id of the row that was read last."""

    seen_by: int | None = None
    account_id: int | None = None
    vmid: int | None = None
    action: str | None = None
    outcome: Outcome | None = None
    unknown: bool = False
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None
    limit: int = 50


# Made once: every changing call is recorded with these, and to build and to look up such statements takes longer than
# to execute them.
_RECORD = sa.insert(audit)
_BEGIN = _RECORD.returning(audit.c.id)
_COMPLETE = (
    sa.update(audit)
    .where(audit.c.id == sa.bindparam("begun"), audit.c.outcome.is_(None))
    .values(
        outcome=sa.bindparam("ended"),
        status=sa.bindparam("answered"),
        # Who it was is said once: what the act itself says stays.
        actor_id=sa.func.coalesce(audit.c.actor_id, sa.bindparam("actor")),
        subject_id=sa.func.coalesce(audit.c.subject_id, sa.bindparam("subject")),
        vmid=sa.func.coalesce(audit.c.vmid, sa.bindparam("container")),
        details=audit.c.details.concat(sa.bindparam("learned", type_=audit.c.details.type)),
    )
)


def begin(connection: sa.Connection, act: Act) -> int:
    """Writes down what is about to be done; returns the row's id."""
    begun: int = connection.execute(_BEGIN, _values(act)).scalar_one()
    return begun


def complete(connection: sa.Connection, begun: int, ending: Ending) -> bool:
    """How it ended; false where that is known already."""
    values = {
        "begun": begun,
        "ended": ending.outcome.value,
        "answered": ending.status,
        "actor": ending.actor_id,
        "subject": ending.subject_id,
        "container": ending.vmid,
        "learned": dict(ending.details),
    }
    return bool(connection.execute(_COMPLETE, values).rowcount)


def record(connection: sa.Connection, act: Act, ending: Ending) -> None:
    """An act and its end in one, in the caller's transaction."""
    values = _values(act) | {"outcome": ending.outcome.value, "status": ending.status}
    for name in ("actor_id", "subject_id", "vmid"):
        if values[name] is None:
            values[name] = getattr(ending, name)
    values["details"] = {**act.details, **ending.details}
    connection.execute(_RECORD, values)


def page(connection: sa.Connection, wanted: Wanted) -> list[Entry]:
    """At most `limit` rows, the newest first."""
    mine = [audit.c.actor_id == wanted.seen_by, audit.c.subject_id == wanted.seen_by]
    theirs = [audit.c.actor_id == wanted.account_id, audit.c.subject_id == wanted.account_id]
    conditions = _conditions(wanted)
    if wanted.seen_by is not None and wanted.account_id not in (None, wanted.seen_by):
        # Both of them, in whichever order.
        conditions.append(sa.or_(*theirs))
    whose = mine if wanted.seen_by is not None else theirs if wanted.account_id is not None else [sa.true()]
    # One index for the actor, another for the subject: each is read backwards, and only as far as it takes.
    parts = [
        sa.select(audit.c.id).where(one, *conditions).order_by(audit.c.id.desc()).limit(wanted.limit).subquery()
        for one in whose
    ]
    found = sa.union(*(sa.select(part.c.id) for part in parts)).subquery()
    actor, subject = accounts.alias("actor"), accounts.alias("subject")
    query = (
        sa.select(
            audit,
            actor.c.username.label("actor_name"),
            actor.c.role.label("actor_role"),
            subject.c.username.label("subject_name"),
            subject.c.role.label("subject_role"),
        )
        .join(found, found.c.id == audit.c.id)
        .outerjoin(actor, actor.c.id == audit.c.actor_id)
        .outerjoin(subject, subject.c.id == audit.c.subject_id)
        .order_by(audit.c.id.desc())
        .limit(wanted.limit)
    )
    return [_entry(row._mapping) for row in connection.execute(query)]


def forget(connection: sa.Connection, before: datetime, at_most: int = 5_000) -> int:
    """The retention: deletes rows from before then, the oldest first; returns how many."""
    connection.execute(sa.select(sa.func.set_config("zlh.retention", "on", True)))
    old = sa.select(audit.c.id).where(audit.c.at < before).order_by(audit.c.at).limit(at_most)
    gone = connection.execute(sa.delete(audit).where(audit.c.id.in_(old))).rowcount
    connection.execute(sa.select(sa.func.set_config("zlh.retention", "off", True)))
    return gone


def _values(act: Act) -> dict[str, Any]:
    return {
        "at": act.at,
        "action": act.action,
        "actor_id": act.actor_id,
        "subject_id": act.subject_id,
        "vmid": act.vmid,
        "credential": act.credential,
        "address": clean(act.address, 64),
        "agent": clean(act.agent, 200),
        "request_id": act.request_id,
        "details": dict(act.details),
    }


def _conditions(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if wanted.vmid is not None:
        found.append(audit.c.vmid == wanted.vmid)
    if wanted.action is not None:
        family = audit.c.action.startswith(f"{wanted.action}.", autoescape=True)
        found.append(sa.or_(audit.c.action == wanted.action, family))
    if wanted.unknown:
        found.append(audit.c.outcome.is_(None))
    elif wanted.outcome is not None:
        found.append(audit.c.outcome == wanted.outcome.value)
    if wanted.since is not None:
        found.append(audit.c.at >= wanted.since)
    if wanted.until is not None:
        found.append(audit.c.at < wanted.until)
    if wanted.before is not None:
        found.append(audit.c.id < wanted.before)
    return found


def _entry(row: Mapping[Any, Any]) -> Entry:
    return Entry(
        id=row["id"],
        at=row["at"],
        action=row["action"],
        actor=_person(row["actor_id"], row["actor_name"], row["actor_role"]),
        subject=_person(row["subject_id"], row["subject_name"], row["subject_role"]),
        vmid=row["vmid"],
        outcome=None if row["outcome"] is None else Outcome(row["outcome"]),
        status=row["status"],
        credential=row["credential"],
        address=row["address"],
        agent=row["agent"],
        request_id=row["request_id"],
        details=row["details"],
    )


def _person(account_id: int | None, username: str | None, role: str | None) -> Person | None:
    if account_id is None:
        return None
    return Person(account_id, username or "", Role(role or Role.CUSTOMER))
