"""Messages as files."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import SMTPUTF8
from pathlib import Path

import pytest

from zlh.drivers.errors import Refused, Unreachable
from zlh.drivers.mail import Folder, Message, Nowhere, parse_sender

SENDER = parse_sender("ZLH <no-reply@zlh.example>")
MESSAGE = Message(
    7, "new_sign_in", "ada@example.com", "A subject", "A text\n", datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
)


def names(folder: Path) -> list[str]:
    return [found.name for found in folder.iterdir()]


async def test_a_message_becomes_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "data" / "mail", SENDER)
    said = await folder.send(MESSAGE)
    path = tmp_path / "data" / "mail" / "20260601T123000Z-new_sign_in-7.eml"
    assert said == f"written to {path}"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    read = message_from_bytes(path.read_bytes(), policy=SMTPUTF8)
    assert (read["To"], read["Subject"]) == ("ada@example.com", "A subject")
    assert read.get_content() == "A text\r\n"
    # Sent again after a crash it is the same file, and what a crash left half written is no obstacle.
    path.with_name(f".{path.name}.new").write_text("half")
    await folder.send(MESSAGE)
    assert names(path.parent) == [path.name]


async def test_other_letters_and_odd_kinds(tmp_path: Path) -> None:
    await Folder(tmp_path, SENDER).send(replace(MESSAGE, recipient="jörg@exämple.com", kind="../x"))
    assert names(tmp_path) == ["20260601T123000Z-___x-7.eml"]
    assert "To: jörg@exämple.com" in (tmp_path / "20260601T123000Z-___x-7.eml").read_text("utf-8")


async def test_what_cannot_be_written_is_tried_again_and_what_is_no_message_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unreachable, match="cannot be written"):
        await Folder(tmp_path / "file", SENDER).send(MESSAGE)
    with pytest.raises(Refused):
        await Folder(tmp_path, SENDER).send(replace(MESSAGE, recipient="a@b.example\r\nBcc: c@d.example"))
    assert names(tmp_path) == ["file"]


async def test_nowhere() -> None:
    assert "off" in await Nowhere().send(MESSAGE)
