"""Which backups a schedule lets go: never a locked one, never one made by hand, never the newest."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlh.model.backups import Backup, BackupState, Retention, counted, expired

NOW = datetime(2026, 3, 31, 12, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def a_backup(number: int, ago: timedelta = timedelta(0), **changes: object) -> Backup:
    backup = Backup(f"b{number}", f"backup {number}", NOW - ago, 1024, BackupState.READY)
    return replace(backup, **changes)  # type: ignore[arg-type]


def nightly(count: int) -> list[Backup]:
    return [a_backup(number, timedelta(days=number)) for number in range(count)]


def kept_days(keep: Retention, backups: list[Backup]) -> list[int]:
    """The numbers of those that stay."""
    gone = expired(backups, keep, NOW, zone=UTC, ours=lambda _: True)
    return [number for number, backup in enumerate(backups) if backup not in gone]


@pytest.mark.parametrize(
    ("keep", "days"),
    [
        (Retention(last=3), [0, 1, 2]),
        (Retention(daily=2), [0, 1]),
        # 2026-03-31 is a Tuesday: the newest of a week that is over is its Sunday's.
        (Retention(weekly=3), [0, 2, 9]),
        (Retention(monthly=3), [0, 31, 59]),
        (Retention(last=1, daily=2, weekly=2, monthly=2), [0, 1, 2, 31]),
        (Retention(), list(range(70))),
    ],
    ids=["last", "daily", "weekly", "monthly", "together", "everything"],
)
def test_what_is_kept_of_nightly_backups(keep: Retention, days: list[int]) -> None:
    assert kept_days(keep, nightly(70)) == days


def test_a_day_begins_where_its_zone_says() -> None:
    """23:30 UTC is the next day's first hour in Berlin: two days there, one in UTC."""
    evening = datetime(2026, 3, 30, 21, 30, tzinfo=UTC)
    backups = [replace(a_backup(number), created_at=evening + timedelta(hours=number)) for number in range(2)]
    keep = Retention(daily=2)
    assert expired(backups, keep, NOW, zone=BERLIN, ours=lambda _: True) == []
    assert expired(backups, keep, NOW, zone=UTC, ours=lambda _: True) == backups[:1]


def test_weeks_and_months_begin_where_the_zone_says() -> None:
    """The last evening of a month in UTC, a Sunday, is the first hour of the next week and month in Berlin."""
    evening = datetime(2026, 5, 31, 21, 30, tzinfo=UTC)
    backups = [replace(a_backup(number), created_at=evening + timedelta(hours=number)) for number in range(2)]
    for keep in (Retention(weekly=2), Retention(monthly=2)):
        for zone, gone in ((BERLIN, []), (UTC, backups[:1])):
            found = expired(backups, keep, evening + timedelta(hours=1), zone=zone, ours=lambda _: True)
            assert found == gone, (keep, zone)


def test_the_same_week_or_month_of_another_year_is_another() -> None:
    """Of three years as many are kept as are asked for, and none of them for another."""
    backups = nightly(3 * 366)
    assert len(kept_days(Retention(monthly=30), backups)) == 30
    assert len(kept_days(Retention(weekly=120), backups)) == 120


def test_the_hour_that_comes_twice_is_one_day() -> None:
    summer_ends = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    now = summer_ends + timedelta(days=1)
    backups = [replace(a_backup(number), created_at=summer_ends + timedelta(hours=number)) for number in range(2)]
    assert expired(backups, Retention(daily=5), now, zone=BERLIN, ours=lambda _: True) == backups[:1]


def test_a_newer_one_by_hand_does_not_cost_the_schedules_last() -> None:
    theirs, ours = a_backup(0), a_backup(1, timedelta(days=1))
    assert expired([ours, theirs], Retention(last=1), NOW, zone=UTC, ours=lambda backup: backup is ours) == []


def test_failed_ones_do_not_count_against_the_limit() -> None:
    states = (BackupState.READY, BackupState.CREATING, BackupState.FAILED, BackupState.FAILED)
    assert counted(a_backup(number, state=state) for number, state in enumerate(states)) == 2


numbers = st.integers(0, 4)
retentions = st.builds(Retention, last=numbers, daily=numbers, weekly=numbers, monthly=numbers)
zones = st.sampled_from([UTC, BERLIN, ZoneInfo("Pacific/Apia"), ZoneInfo("America/St_Johns")])


@st.composite
def lists(draw: st.DrawFn) -> list[Backup]:
    hours = draw(st.lists(st.integers(-30, 24 * 200), max_size=25))
    return [
        a_backup(
            number,
            timedelta(hours=ago),
            state=draw(st.sampled_from(BackupState)),
            locked=draw(st.booleans()),
            name=draw(st.sampled_from(["nightly", "by hand"])),
        )
        for number, ago in enumerate(hours)
    ]


def by_the_schedule(backup: Backup) -> bool:
    return backup.name == "nightly"


@given(lists(), retentions, zones, st.randoms(use_true_random=False))
def test_what_may_go_may_go(backups: list[Backup], keep: Retention, zone: ZoneInfo, order: object) -> None:
    gone = expired(backups, keep, NOW, zone=zone, ours=by_the_schedule)
    for backup in gone:
        assert backup.state is BackupState.READY
        assert not backup.locked
        assert by_the_schedule(backup)
        assert backup.created_at <= NOW
    ready = [backup for backup in backups if backup.state is BackupState.READY]
    if ready:
        assert max(ready, key=lambda backup: (backup.created_at, backup.id)) not in gone

    # The order in which the agent lists them says nothing.
    shuffled = list(backups)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert expired(shuffled, keep, NOW, zone=zone, ours=by_the_schedule) == gone

    # What stays, stays when it is looked at again.
    left = [backup for backup in backups if backup not in gone]
    assert expired(left, keep, NOW, zone=zone, ours=by_the_schedule) == []


@given(lists(), retentions, zones)
def test_no_more_go_than_may(backups: list[Backup], keep: Retention, zone: ZoneInfo) -> None:
    gone = expired(backups, keep, NOW, zone=zone, ours=by_the_schedule)
    candidates = [
        backup
        for backup in backups
        if backup.state is BackupState.READY
        and not backup.locked
        and by_the_schedule(backup)
        and backup.created_at <= NOW
    ]
    wanted = max(keep.last, keep.daily, keep.weekly and 1, keep.monthly and 1) if keep != Retention() else 25
    days = len({backup.created_at.astimezone(zone).date() for backup in candidates})
    assert len(candidates) - len(gone) >= min(wanted, days)
    assert len(candidates) - len(gone) >= min(keep.last, len(candidates))
    more = replace(keep, last=keep.last + 1, daily=keep.daily + 1)
    if keep != Retention():
        assert set(expired(backups, more, NOW, zone=zone, ours=by_the_schedule)) <= set(gone)
