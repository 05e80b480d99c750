"""Messages that are to be sent by e-mail. Every function runs in the caller's transaction: a message leaves with the
change that it tells of, or not at all; new ones nudge the channel "outbox".
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa

from zlh.store.notify import OUTBOX, notify
from zlh.store.tables import outbox
from zlh.store.vault import vault_of


@dataclass(frozen=True, slots=True)
class Letter:
    """One message. `kind` names it for logs and figures ("new_sign_in"); `text` may hold a link that is a secret."""

    kind: str
    recipient: str
    subject: str
    text: str = field(repr=False)


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
