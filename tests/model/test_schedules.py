"""When a schedule is due: next and newest times, how far apart they are, and what summer time does to them."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from zlh.model.access import Permission, Scope
from zlh.model.schedules import (
    Action,
    Run,
    Wish,
    again,
    check_cron,
    check_zone,
    newest_due,
    next_run,
)

BERLIN = "Europe/Berlin"
ZONES = (
    "UTC",
    BERLIN,
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Africa/Casablanca",
)


def field(least: int, most: int) -> st.SearchStrategy[str]:
    number = st.integers(least, most)
    span = st.tuples(number, number).map(lambda ends: f"{min(ends)}-{max(ends)}")
    single = st.one_of(number.map(str), span, st.just("*"))
    stepped = st.tuples(st.one_of(single), st.integers(1, most or 1)).map(lambda parts: f"{parts[0]}/{parts[1]}")
    return st.lists(st.one_of(single, stepped), min_size=1, max_size=3).map(",".join)


EXPRESSIONS = st.tuples(field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7)).map(" ".join)
FIXED = st.tuples(st.integers(0, 59), st.integers(0, 23)).map(lambda at: f"{at[0]} {at[1]} * * *")
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC))


def accepted(expression: str) -> bool:
    try:
        check_cron(expression)
    except ValueError:
        return False
    return True


def times(expression: str, zone: str, after: datetime, most: int) -> list[datetime]:
    found: list[datetime] = []
    while len(found) < most and (following := next_run(expression, zone, found[-1] if found else after)) is not None:
        found.append(following)
    return found


def closest(expression: str, after: datetime) -> timedelta:
    pairs = itertools.pairwise(times(expression, "UTC", after, 60))
    return min((later - earlier for earlier, later in pairs), default=timedelta.max)


@given(EXPRESSIONS, MOMENTS)
def test_what_is_accepted_never_comes_true_twice_within_five_minutes(expression: str, after: datetime) -> None:
    near = closest(expression, after) < timedelta(minutes=5)
    assert not (near and accepted(expression))


@pytest.mark.parametrize(
    "expression",
    [
        "* * * * *",
        "*/4 * * * *",
        "0,3 4 1 1 *",
        "0,57 2,3 * * *",
        "0,57 0,23 1 * *",
        "0 4 * *",
        "0 0 4 * * *",
        "@daily",
        "",
        "0 4 30 2 *",
        "0 4 * * MON#6",
        "60 4 * * *",
        "٣ 4 * * *",
        "0 4 * * *\0",
        "0/0 4 * * *",
        "0 4 * * " + ",".join("1" for _ in range(60)),
        "0/" + "9" * 60 + ",-1 4 * * *",
    ],
)
def test_what_is_not_accepted(expression: str) -> None:
    with pytest.raises(ValueError, match=r"five|field|cron|minutes|never"):
        check_cron(expression)


@pytest.mark.parametrize(
    "expression",
    ["*/5 * * * *", "0 4 * * *", "0 4 * * MON-FRI", "30 4 L * *", "0 0 29 2 *", "0,57 2,5 * * *", "0 12 * * SUN#1"],
)
def test_what_is_accepted(expression: str) -> None:
    check_cron(expression)


@given(st.text("0123456789*,-/#LWMONSU @\n\0", max_size=40), st.sampled_from(ZONES))
def test_no_text_is_more_than_refused(expression: str, zone: str) -> None:
    try:
        check_cron(expression)
        next_run(expression, zone, datetime(2026, 1, 1, tzinfo=UTC))
    except ValueError:
        pass


@given(EXPRESSIONS | FIXED, st.sampled_from(ZONES), MOMENTS)
def test_the_next_time_is_later_and_there_is_none_between(expression: str, zone: str, after: datetime) -> None:
    if not accepted(expression):
        return
    following = next_run(expression, zone, after)
    assert following is not None
    assert following > after
    assert following.tzinfo is UTC
    # Asked at any moment before it, it is the same one.
    between = after + (following - after) * 0.5
    assert next_run(expression, zone, between) == following


@given(
    EXPRESSIONS | FIXED | st.just("*/5 * * * *"),
    st.sampled_from(ZONES),
    MOMENTS,
    st.sampled_from((1, 299, 3600, 86_400, 9_000_000)) | st.integers(0, 3_000_000),
)
def test_the_newest_time_is_the_last_before_now(expression: str, zone: str, after: datetime, seconds: int) -> None:
    if not accepted(expression):
        return
    since = next_run(expression, zone, after)
    assert since is not None
    now = since + timedelta(seconds=seconds)
    newest = newest_due(expression, zone, since, now)
    assert since <= newest <= now
    following = next_run(expression, zone, newest)
    assert following is None or following > now


def test_a_time_that_summer_skips_comes_right_after_the_gap_and_one_that_is_repeated_comes_once() -> None:
    spring = times("30 2 * * *", BERLIN, datetime(2026, 3, 28, 12, tzinfo=UTC), 2)
    assert [f"{at.astimezone(ZoneInfo(BERLIN)):%d %H:%M}" for at in spring] == ["29 03:00", "30 02:30"]
    autumn = times("30 2 * * *", BERLIN, datetime(2026, 10, 24, 12, tzinfo=UTC), 2)
    assert [f"{at:%d %H:%M}" for at in autumn] == ["25 00:30", "26 01:30"]


def test_asked_in_the_repeated_hour_it_is_the_next_days() -> None:
    """The library counts on from the first time round, and would give a time that is over."""
    second_time_round = datetime(2026, 10, 25, 1, 15, tzinfo=UTC)
    assert next_run("30 2 * * *", BERLIN, second_time_round) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


# Clocks are changed by half an hour, at a minute past midnight, by a whole day, at midnight, and by two hours.
CHANGES = (
    (BERLIN, datetime(2026, 3, 29, 1)),
    (BERLIN, datetime(2026, 10, 25, 1)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30)),
    ("America/St_Johns", datetime(2010, 3, 14, 3, 31)),
    ("America/St_Johns", datetime(2010, 11, 7, 2, 31)),
    ("Pacific/Apia", datetime(2011, 12, 30, 10)),
    ("America/Santiago", datetime(2026, 4, 5, 3)),
    ("America/Santiago", datetime(2026, 9, 6, 4)),
    ("Antarctica/Troll", datetime(2026, 3, 29, 1)),
    ("Antarctica/Troll", datetime(2026, 10, 25, 1)),
)
MINUTES = st.sampled_from(("*/5", "*/30", "0", "5", "30", "12,18", "0,30", "59"))
HOURS = st.sampled_from(("*", "*/2", "*/6", "0", "1", "2", "3", "23", "0,3", "1-4"))


@given(MINUTES, HOURS, st.sampled_from(CHANGES), st.integers(-30 * 60, 8 * 60), st.integers(0, 59))
@settings(deadline=None)
def test_where_clocks_are_changed_it_is_what_debians_cron_does(
    minute: str, hour: str, change: tuple[str, datetime], minutes: int, seconds: int
) -> None:
    """Looked for minute by minute: with a star what the clock shows counts, without one each time comes once."""
    zone, at = change
    after = at.replace(tzinfo=UTC) + timedelta(minutes=minutes, seconds=seconds)
    expression = f"{minute} {hour} * * *"
    cron = CronSim(expression, datetime(2000, 1, 1))
    fixed = "*" not in minute + hour
    moment, found = after.replace(second=0), None
    while found is None:
        clock = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        moment += timedelta(minutes=1)
        local = moment.astimezone(ZoneInfo(zone))
        shown = [local.replace(tzinfo=None, fold=0)]
        if fixed:
            gap = max(0, (shown[0] - clock) // timedelta(minutes=1) - 1)
            shown = [clock + timedelta(minutes=1 + skipped) for skipped in range(gap)] + shown * (not local.fold)
        if any(each.minute in cron.minutes and each.hour in cron.hours for each in shown):
            found = moment
    assert next_run(expression, zone, after) == found


def test_half_an_hour_that_is_taken_from_a_day_takes_no_time_that_it_has() -> None:
    """The library goes from hour to hour, and stepped over the first half of this one."""
    noon = datetime(2026, 10, 3, 12, tzinfo=UTC)
    found = times("*/15 3 * * *", "Australia/Lord_Howe", noon, 2)
    assert [f"{at.astimezone(ZoneInfo('Australia/Lord_Howe')):%d %H:%M}" for at in found] == ["04 03:00", "04 03:15"]


def test_a_change_in_the_middle_of_an_hour_is_no_endless_count() -> None:
    """The library went back to the hour's beginning, before the change, again and again."""
    evening = datetime(2010, 11, 7, 1, 26, tzinfo=UTC)
    found = next_run("12,18 */6 * * *", "America/St_Johns", evening)
    assert found == datetime(2010, 11, 7, 3, 42, tzinfo=UTC)


def test_every_hour_goes_on_through_the_changes() -> None:
    for day in (datetime(2026, 3, 28, 22, tzinfo=UTC), datetime(2026, 10, 24, 22, tzinfo=UTC)):
        found = times("0 * * * *", BERLIN, day, 6)
        assert {later - earlier for earlier, later in itertools.pairwise(found)} == {timedelta(hours=1)}


def test_a_long_absence_is_no_long_count() -> None:
    """Ten years of every five minutes are a million times; the newest is found among a few."""
    since = datetime(2016, 1, 1, tzinfo=UTC)
    now = datetime(2026, 1, 1, 0, 7, tzinfo=UTC)
    assert newest_due("*/5 * * * *", BERLIN, since, now) == datetime(2026, 1, 1, 0, 5, tzinfo=UTC)
    assert newest_due("0 0 29 2 *", "UTC", datetime(2016, 2, 29, tzinfo=UTC), now) == datetime(
        2024, 2, 29, tzinfo=UTC
    )


@pytest.mark.parametrize("name", ["Europe/Nowhere", "", "../../etc/passwd", "europe/berlin", "localtime", "a\0b"])
def test_what_is_no_time_zone(name: str) -> None:
    with pytest.raises(ValueError, match="no such time zone"):
        check_zone(name)
    with pytest.raises(ValueError, match="no such time zone"):
        next_run("0 4 * * *", name, datetime(2026, 1, 1, tzinfo=UTC))


def test_what_is_switched_off_has_no_next_time() -> None:
    wish = Wish(name="nightly", action=Action.BACKUP, cron="0 4 * * *")
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert wish.next_run(now) == datetime(2026, 1, 1, 4, tzinfo=UTC)
    assert Wish(name="nightly", action=Action.BACKUP, cron="0 4 * * *", enabled=False).next_run(now) is None


def test_doing_it_by_schedule_needs_what_doing_it_by_hand_needs() -> None:
    needs = {action: (action.permission, action.scope) for action in Action}
    assert needs == {
        Action.BACKUP: (Permission.BACKUPS, Scope.BACKUPS),
        Action.RESTART: (Permission.POWER, Scope.SERVERS_POWER),
        Action.START: (Permission.POWER, Scope.SERVERS_POWER),
        Action.STOP: (Permission.POWER, Scope.SERVERS_POWER),
        Action.COMMAND: (Permission.CONSOLE, Scope.CONSOLE),
    }


def test_what_is_tried_again_after_it_was_lost() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    later, earlier = now + timedelta(hours=1), now - timedelta(minutes=1)

    def run(**fields: Any) -> Run:
        values: dict[str, Any] = {"by_hand": False, "attempt": 1, **fields}
        return Run(id=1, schedule_id="s", due_at=earlier, **values)

    assert {action for action in Action if again(action, run(), later, now)} == {
        Action.BACKUP,
        Action.START,
        Action.STOP,
    }
    assert not again(Action.BACKUP, run(attempt=2), later, now)
    # A newer one is due, or it was switched off; what was asked for by hand is wanted all the same.
    assert not again(Action.BACKUP, run(), earlier, now)
    assert not again(Action.BACKUP, run(), None, now)
    assert again(Action.BACKUP, run(by_hand=True), None, now)
