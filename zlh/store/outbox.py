"""Messages that are to be sent by e-mail. Every function runs in the caller's transaction: a message leaves with the
change that it tells of, or not at all; new ones nudge the channel "outbox".

Whoever delivers takes a message for a while (its lease), and nobody else takes it meanwhile. Who dies with it leaves
it to the next when the lease ends, so a message is sent at least once, and hardly ever twice. `attempts` is the
fencing token: who took it too long ago can change nothing any more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import sqlalchemy as sa

from zlh.store.notify import OUTBOX, notify
from zlh.store.tables import outbox
from zlh.store.vault import VaultError, vault_of

LONGEST_ERROR = 500


@dataclass(frozen=True, slots=True)
class Letter:
    """One message. `kind` names it for logs and figures ("new_sign_in"); `text` may hold a link that is a secret."""

    kind: str
    recipient: str
    subject: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Due:
    """A message that was taken, for the `attempts`th time. `letter` is None where no key opens it."""

    id: int
    kind: str
    created_at: datetime
    attempts: int
    letter: Letter | None


def post(connection: sa.Connection, letter: Letter, now: datetime) -> None:
    """Puts a letter in the outbox."""
    sealed = vault_of(connection).seal(json.dumps({"subject": letter.subject, "text": letter.text}))
    values = {
        "kind": letter.kind,
        "recipient": letter.recipient,
        "sealed": sealed,
        "created_at": now,
        "due_at": now,
    }
    connection.execute(sa.insert(outbox).values(values))
    notify(connection, OUTBOX, "")


def take(connection: sa.Connection, now: datetime, *, most: int, lease: timedelta) -> list[Due]:
    """Those that have been due longest; nobody else is given them until the lease has passed."""
    due = (
        sa.select(outbox.c.id)
        .where(outbox.c.due_at <= now, outbox.c.given_up_at.is_(None))
        .order_by(outbox.c.due_at, outbox.c.id)
        .limit(most)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    statement = (
        sa.update(outbox)
        .where(outbox.c.id == due.c.id)
        .values(due_at=now + lease, attempts=outbox.c.attempts + 1)
        .returning(outbox)
    )
    return sorted((_due(connection, row) for row in connection.execute(statement)), key=lambda taken: taken.id)


def delivered(connection: sa.Connection, taken: Due) -> bool:
    """Forgets it; false where somebody else has taken it since, as for the next two."""
    return connection.execute(sa.delete(outbox).where(*_held(taken))).rowcount == 1


def put_off(connection: sa.Connection, taken: Due, due_at: datetime, error: str) -> bool:
    """It is due again at `due_at`."""
    statement = sa.update(outbox).where(*_held(taken)).values(due_at=due_at, last_error=error[:LONGEST_ERROR])
    return connection.execute(statement).rowcount == 1


def give_up(connection: sa.Connection, taken: Due, now: datetime, error: str) -> bool:
    """It is kept for those who look for it, and never sent."""
    values = {"given_up_at": now, "last_error": error[:LONGEST_ERROR]}
    return connection.execute(sa.update(outbox).where(*_held(taken)).values(values)).rowcount == 1


def owed(connection: sa.Connection) -> int:
    """How many are still to be sent."""
    query = sa.select(sa.func.count()).select_from(outbox).where(outbox.c.given_up_at.is_(None))
    return connection.execute(query).scalar_one()


def purge(connection: sa.Connection, before: datetime) -> int:
    """Forgets those that were given up before then; returns how many."""
    return connection.execute(sa.delete(outbox).where(outbox.c.given_up_at < before)).rowcount


def _held(taken: Due) -> tuple[sa.ColumnElement[bool], ...]:
    return outbox.c.id == taken.id, outbox.c.attempts == taken.attempts, outbox.c.given_up_at.is_(None)


def _due(connection: sa.Connection, row: sa.Row[tuple[object, ...]]) -> Due:
    found = row._mapping
    try:
        sealed = json.loads(vault_of(connection).open(found["sealed"]))
    except VaultError:
        letter = None
    else:
        letter = Letter(found["kind"], found["recipient"], sealed["subject"], sealed["text"])
    return Due(found["id"], found["kind"], found["created_at"], found["attempts"], letter)
