"""E-mail for demos and development: each message becomes a file that mail programs open."""

from __future__ import annotations

import os
import re
from datetime import UTC
from email.headerregistry import Address
from email.policy import SMTP, SMTPUTF8
from pathlib import Path

import trio

from zlh.drivers.errors import Unreachable
from zlh.drivers.mail.message import Message, compose


class Folder:
    """Writes into `folder`, which is made where it is missing, for its owner alone: messages hold secrets."""

    def __init__(self, folder: Path, sender: Address) -> None:
        self._folder = folder
        self._sender = sender

    async def send(self, message: Message) -> str:
        """The file is there as a whole or not at all; sent again, it is the same file. Raises Refused, and
        Unreachable where nothing can be written."""
        composed = compose(message, self._sender)
        policy = SMTP if message.recipient.isascii() else SMTPUTF8
        path = self._folder / _name(message)
        try:
            await trio.to_thread.run_sync(_write, path, composed.as_bytes(policy=policy))
        except OSError as error:
            raise Unreachable(f"{path} cannot be written: {error.strerror}") from error
        return f"written to {path}"


def _name(message: Message) -> str:
    """Sorted by name they are sorted by time."""
    kind = re.sub(r"[^a-z0-9_]", "_", message.kind)
    return f"{message.at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{kind}-{message.id}.eml"


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    os.replace(draft, path)
