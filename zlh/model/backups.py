"""Backups as an agent tells them, and which of a schedule's are no longer wanted. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from datetime import datetime, tzinfo
from enum import StrEnum


class BackupState(StrEnum):
    CREATING = "creating"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup of a container. `created_at` has a time zone; `error` says why a failed one failed."""

    id: str
    name: str
    created_at: datetime
    size_bytes: int
    state: BackupState
    locked: bool = False
    error: str | None = None


class RestoreState(StrEnum):
    RESTORING = "restoring"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Restore:
    """The restore that an agent carried out last, or carries out. `key` is what it was asked with, empty for none."""

    backup: str
    key: str
    state: RestoreState
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Backups:
    """What GET /backups tells. `tells_restores` is false for agents that do not tell how a restore goes."""

    backups: tuple[Backup, ...]
    restore: Restore | None = None
    tells_restores: bool = False

    def find(self, backup_id: str) -> Backup | None:
        for backup in self.backups:
            if backup.id == backup_id:
                return backup
        return None


def counted(backups: Iterable[Backup]) -> int:
    """How many count against the plan's limit: those that are there and those being made. A failed one is nothing."""
    return sum(backup.state is not BackupState.FAILED for backup in backups)


@dataclass(frozen=True, slots=True)
class Retention:
    """How many of a schedule's backups are kept: the `last` ones, and the newest of each of the latest days, weeks
    (from Monday on) and months that have any. All zero keeps everything."""

    last: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0


def expired(
    backups: Iterable[Backup],
    keep: Retention,
    now: datetime,
    *,
    zone: tzinfo,
    ours: Callable[[Backup], bool],
) -> list[Backup]:
    """Which backups of one schedule may go, the oldest first.

    `ours` says which the schedule made; `zone` is where its days begin. Locked ones, those made by hand, those not
    ready and those from after `now` are not touched and do not count; nor is the newest ready backup of all touched.
    """
    if keep == Retention():
        return []
    ready = sorted((backup for backup in backups if backup.state is BackupState.READY), key=_age)
    candidates = [backup for backup in ready if not backup.locked and backup.created_at <= now and ours(backup)]
    # The newest is among them, whatever is counted.
    wanted = _kept(candidates, keep, zone)
    return [backup for backup in candidates if backup.id not in wanted]


def _kept(candidates: list[Backup], keep: Retention, zone: tzinfo) -> set[str]:
    """`candidates` from the oldest to the newest."""

    def day(backup: Backup) -> Hashable:
        return backup.created_at.astimezone(zone).date()

    def week(backup: Backup) -> Hashable:
        return backup.created_at.astimezone(zone).isocalendar()[:2]

    def month(backup: Backup) -> Hashable:
        local = backup.created_at.astimezone(zone)
        return local.year, local.month

    kept: set[str] = set()
    kept |= _newest_of_each(candidates, keep.last, lambda backup: backup.id)
    kept |= _newest_of_each(candidates, keep.daily, day)
    kept |= _newest_of_each(candidates, keep.weekly, week)
    kept |= _newest_of_each(candidates, keep.monthly, month)
    return kept


def _newest_of_each(candidates: list[Backup], count: int, period: Callable[[Backup], Hashable]) -> set[str]:
    found: dict[Hashable, str] = {}
    for backup in reversed(candidates):
        if len(found) >= count and period(backup) not in found:
            break
        found.setdefault(period(backup), backup.id)
    return set(found.values()) if count else set()


def _age(backup: Backup) -> tuple[datetime, str]:
    return backup.created_at, backup.id
