"""What a container does by itself at certain times: when that is, and what became of it. Pure.

A time is a cron expression of five fields in a time zone. What summer time skips is run at the first minute after the
gap, and what it repeats is run once; expressions whose minute or hour begins with a star just go on, as in Debian's
cron (the library cronsim).
"""

from __future__ import annotations

import functools
import itertools
import zoneinfo
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from zlh.model.access import Permission, Scope
from zlh.model.backups import Retention

LEAST_MINUTES: Final = 5
"""Between two runs of one schedule."""

MOST_ATTEMPTS: Final = 2

LATEST: Final = timedelta(minutes=10)
"""How long after its time something is begun that is good only then."""

LONGEST_CRON: Final = 100

EVERYTHING: Final = Retention()
"""All zero: every backup is kept."""

NEAR: Final = timedelta(hours=3)
"""No clock is set back by more."""

_LOOKING_BACK: Final = tuple(timedelta(days=days) for days in (1 / 24, 1, 32, 366, 8 * 366))


class Action(StrEnum):
    BACKUP = "backup"
    RESTART = "restart"
    START = "start"
    STOP = "stop"
    COMMAND = "command"

    @property
    def permission(self) -> Permission:
        """What somebody needs at the container who has it done."""
        match self:
            case Action.BACKUP:
                return Permission.BACKUPS
            case Action.COMMAND:
                return Permission.CONSOLE
            case _:
                return Permission.POWER

    @property
    def scope(self) -> Scope:
        """What an API key needs."""
        match self:
            case Action.BACKUP:
                return Scope.BACKUPS
            case Action.COMMAND:
                return Scope.CONSOLE
            case _:
                return Scope.SERVERS_POWER

    @property
    def repeatable(self) -> bool:
        """Whether it may be done again where nobody knows if it was done: a backup is looked for first, and what runs
        already is not started. A second restart or command would be one too many."""
        return self not in (Action.RESTART, Action.COMMAND)

    @property
    def punctual(self) -> bool:
        """Whether it is good only at its time: who has the game restarted at four does not want that at noon. What is
        to be on, off or backed up is so later, too."""
        return self in (Action.RESTART, Action.COMMAND)


class Outcome(StrEnum):
    """How a run ended; one without is under way, or waits for its turn. FAILED: it was tried, and `error` says what
    went wrong, and whether it may have taken effect all the same. REFUSED: the container, its agent or its owner's
    plan did not allow it. SKIPPED: there was nothing to do. MISSED: nobody was there at that time, and a later one
    was due by then, or it was too late for it. LOST: the process that was at it went away, and nobody knows whether
    it took effect."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"
    SKIPPED = "skipped"
    MISSED = "missed"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants done and when. `command` is empty but for Action.COMMAND; `zone` is an IANA name;
    `retention` is of backups."""

    name: str
    action: Action
    cron: str
    zone: str = "UTC"
    command: str = field(default="", repr=False)
    enabled: bool = True
    retention: Retention = EVERYTHING

    def next_run(self, after: datetime) -> datetime | None:
        """None while it is switched off. Raises ValueError as `next_run`."""
        return next_run(self.cron, self.zone, after) if self.enabled else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One time that a schedule was due, or was run by hand. `attempt` counts from 1; `deleted` are ids of backups
    that were no longer wanted."""

    id: int
    schedule_id: str
    due_at: datetime
    by_hand: bool
    attempt: int
    started_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: Outcome | None = None
    error: str | None = None
    backup_id: str | None = None
    deleted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """`author_id` is the account in whose name it acts: who changed it last."""

    id: str
    vmid: int
    wish: Wish
    author_id: int
    created_at: datetime
    updated_at: datetime
    next_at: datetime | None = None
    last_run: Run | None = None


def check_zone(name: str) -> None:
    """Raises ValueError where there is no such time zone."""
    if name not in _zones():
        raise ValueError("no such time zone; one is called Europe/Berlin, for instance")


def check_cron(expression: str) -> None:
    """Raises ValueError where it is no cron expression of five fields, never comes true, or may come true twice
    within `LEAST_MINUTES`."""
    cron = _parse(expression, datetime(2000, 1, 1, tzinfo=UTC))
    minutes, hours = sorted(cron.minutes), sorted(cron.hours)
    apart = [later - earlier for earlier, later in itertools.pairwise(minutes)]
    # The last of one hour and the first of the next, also over midnight, whatever the days are.
    if any((hour + 1) % 24 in cron.hours for hour in hours):
        apart.append(minutes[0] + 60 - minutes[-1])
    if apart and min(apart) < LEAST_MINUTES:
        raise ValueError(f"there must be at least {LEAST_MINUTES} minutes between two runs")
    if next(cron, None) is None:
        raise ValueError("this never comes true")


def next_run(expression: str, zone: str, after: datetime) -> datetime | None:
    """The first time later than `after`, in UTC; None where there is none within 50 years. Raises ValueError for an
    expression or a zone that cannot be read."""
    place = _zone(zone)
    # The library only counts by the calendar: with changes of clocks it may step over times, or count for ever.
    cron = _parse(expression, datetime(2000, 1, 1))
    after = after.astimezone(UTC)
    while _changes(place, after):
        found = _minute_by_minute(expression, cron, place, after)
        if found is not None:
            return found
        after += NEAR
    for local in _parse(expression, after.astimezone(place).replace(tzinfo=None)):
        at = local.replace(tzinfo=place).astimezone(UTC)
        if at.astimezone(place).replace(tzinfo=None) == local:
            return at
        if _at_fixed_times(expression):
            return _end_of_gap(place, local)
    return None


def newest_due(expression: str, zone: str, since: datetime, now: datetime) -> datetime:
    """Of the times from `since`, which is one, up to `now` the latest. Raises ValueError as `next_run`."""
    for window in _LOOKING_BACK:
        found = None
        # From a second before, so that the beginning itself is among them.
        coming = max(since, now - window) - timedelta(seconds=1)
        while (following := next_run(expression, zone, coming)) is not None and following <= now:
            found = coming = following
        if found is not None:
            return found
        if now - window <= since:
            break
    return since


def too_late(action: Action, due_at: datetime, now: datetime) -> bool:
    """Whether a run is not to be begun any more."""
    return action.punctual and now - due_at > LATEST


def again(action: Action, run: Run, next_at: datetime | None, now: datetime) -> bool:
    """Whether a run that was lost is tried once more: where that can do no harm, and nothing newer is due."""
    if not action.repeatable or run.attempt >= MOST_ATTEMPTS:
        return False
    return run.by_hand or (next_at is not None and next_at > now)


def _parse(expression: str, at: datetime) -> CronSim:
    if len(expression) > LONGEST_CRON or len(expression.split()) != 5:
        raise ValueError("five fields are needed: minute, hour, day of month, month, day of week")
    try:
        return CronSim(expression, at)
    except CronSimError as error:
        raise ValueError(f"not a cron expression: {str(error).lower()}") from None
    except (ArithmeticError, TypeError, AssertionError):
        raise ValueError("not a cron expression") from None


def _at_fixed_times(expression: str) -> bool:
    minute, hour, *_ = expression.split()
    return not (minute.startswith("*") or hour.startswith("*"))


def _changes(place: ZoneInfo, at: datetime) -> bool:
    """Whether clocks are changed about that time."""
    return (at - NEAR).astimezone(place).utcoffset() != (at + NEAR).astimezone(place).utcoffset()


def _minute_by_minute(expression: str, cron: CronSim, place: ZoneInfo, after: datetime) -> datetime | None:
    """As `next_run`, for `NEAR` from `after`."""
    fixed = _at_fixed_times(expression)
    at, end = after.replace(second=0, microsecond=0), after + NEAR
    shown = at.astimezone(place).replace(tzinfo=None)
    while (at := at + timedelta(minutes=1)) <= end:
        local = at.astimezone(place)
        before, shown = shown, local.replace(tzinfo=None, fold=0)
        if _matches(cron, shown) and not (fixed and local.fold):
            return at
        while fixed and (before := before + timedelta(minutes=1)) < shown:
            if _matches(cron, before):
                return at
    return None


def _matches(cron: CronSim, at: datetime) -> bool:
    return (
        at.minute in cron.minutes and at.hour in cron.hours and at.month in cron.months and cron.match_day(at.date())
    )


def _end_of_gap(place: ZoneInfo, local: datetime) -> datetime:
    """When clocks go on that never show `local`."""
    # With the time of before the gap it is after its end, and with that of after it before.
    early, late = (local.replace(tzinfo=place, fold=fold).astimezone(UTC) for fold in (1, 0))
    offset = late.astimezone(place).utcoffset()
    while late - early > timedelta(minutes=1):
        middle = early + timedelta(minutes=(late - early) // timedelta(minutes=2))
        if middle.astimezone(place).utcoffset() == offset:
            late = middle
        else:
            early = middle
    return late


def _zone(name: str) -> ZoneInfo:
    check_zone(name)
    return ZoneInfo(name)


@functools.cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones()) - {"localtime"}
