"""What an agent's GET /backups means. Like `answers`: strict about types, and nothing it says is trusted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar

from zlh.drivers.agent.answers import MAX_TEXT, clean, parse_object
from zlh.drivers.errors import Invalid
from zlh.model.backups import Backup, Backups, BackupState, Restore, RestoreState

T = TypeVar("T")

MAX_BACKUPS = 10_000
MAX_ID = 64
MAX_BYTES = 2**60
_STATES = {state.value: state for state in BackupState}
_RESTORE_STATES = {state.value: state for state in RestoreState}


def parse_backups(body: bytes) -> Backups:
    """Raises Invalid. `restore` is missing in what older agents tell."""
    answer = parse_object(body)
    listed = answer.get("backups")
    if not isinstance(listed, list):
        raise Invalid("`backups` is not a list")
    if len(listed) > MAX_BACKUPS:
        raise Invalid(f"`backups` has {len(listed)} entries")
    restore = answer.get("restore")
    return Backups(
        backups=tuple(_backup(entry) for entry in listed),
        restore=None if restore is None else _restore(restore),
        tells_restores="restore" in answer,
    )


def _backup(entry: object) -> Backup:
    if not isinstance(entry, dict):
        raise Invalid("`backups` holds something that is not an object")
    return Backup(
        id=_text(entry, "id", MAX_ID),
        name=_text(entry, "name"),
        created_at=_time(entry, "createdAt"),
        size_bytes=_size(entry),
        state=_one_of(entry, "state", _STATES),
        locked=_flag(entry, "locked"),
        error=_optional_text(entry, "error"),
    )


def _restore(entry: object) -> Restore:
    if not isinstance(entry, dict):
        raise Invalid("`restore` is not an object")
    return Restore(
        backup=_text(entry, "backup", MAX_ID),
        key=_optional_text(entry, "key") or "",
        state=_one_of(entry, "state", _RESTORE_STATES),
        error=_optional_text(entry, "error"),
    )


def _text(entry: dict[str, Any], name: str, limit: int = MAX_TEXT) -> str:
    value = entry.get(name)
    if not isinstance(value, str):
        raise Invalid(f"`{name}` of a backup is not a string")
    return clean(value, limit)


def _optional_text(entry: dict[str, Any], name: str) -> str | None:
    return None if entry.get(name) is None else _text(entry, name)


def _one_of(entry: dict[str, Any], name: str, known: dict[str, T]) -> T:
    value = entry.get(name)
    if not isinstance(value, str) or value not in known:
        raise Invalid(f"`{name}` of a backup is none of {', '.join(known)}")
    return known[value]


def _flag(entry: dict[str, Any], name: str) -> bool:
    """Of old agents, which lock nothing, it may be missing."""
    value = entry.get(name, False)
    if not isinstance(value, bool):
        raise Invalid(f"`{name}` of a backup is not true or false")
    return value


def _size(entry: dict[str, Any]) -> int:
    """Missing or null while it is being made."""
    value = entry.get("sizeBytes")
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value <= MAX_BYTES:
        raise Invalid("`sizeBytes` of a backup is not a size")
    return value


def _time(entry: dict[str, Any], name: str) -> datetime:
    """UTC where no zone is told. At the ends of the calendar there is no other zone's time."""
    try:
        at = datetime.fromisoformat(_text(entry, name))
    except ValueError:
        at = datetime.min
    if not 1970 <= at.year < 9999:
        raise Invalid(f"`{name}` of a backup is not a time")
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).astimezone(UTC)
