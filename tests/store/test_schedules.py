"""Schedules and their runs: one process claims each, nothing stays under way, nothing is done twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import sqlalchemy as sa

from tests.store.samples import PLAN, add_account, reserve
from zlh.model.backups import Retention
from zlh.model.errors import AbsentError, ConflictError, PlanLimitError
from zlh.model.schedules import LATEST, Action, Outcome, Run, Schedule, Wish
from zlh.store import containers, schedule_runs, schedules
from zlh.store.schedule_runs import Claim, Ending, Round

NOW = datetime(2026, 6, 1, 3, 30, tzinfo=UTC)
FOUR = datetime(2026, 6, 1, 4, tzinfo=UTC)
DAY = timedelta(days=1)
LEASE = timedelta(seconds=90)
NIGHTLY = Wish(name="nightly", action=Action.BACKUP, cron="0 4 * * *", retention=Retention(last=3))
RESTART = replace(NIGHTLY, name="restart", action=Action.RESTART, retention=Retention())
ROOMY = replace(PLAN, schedules=3)
DONE = Ending(Outcome.SUCCEEDED)


def a_container(connection: sa.Connection, name: str = "ada") -> tuple[int, int]:
    """(vmid, owner)."""
    account = add_account(connection, name)
    return reserve(connection, account.id)[0].vmid, account.id


def add(connection: sa.Connection, wish: Wish = NIGHTLY, now: datetime = NOW, name: str = "ada") -> Schedule:
    vmid, owner_id = a_container(connection, name)
    return schedules.create(connection, vmid, wish, author_id=owner_id, plan=ROOMY, now=now)


def take(connection: sa.Connection, now: datetime, owner: str = "one", most: int = 10) -> Round:
    return schedule_runs.take(connection, Claim(owner, now, now + LEASE), most)


def runs(connection: sa.Connection, schedule: Schedule) -> list[Run]:
    return schedule_runs.of_schedule(connection, schedule.id)


def outcomes(connection: sa.Connection, schedule: Schedule) -> list[tuple[datetime, Outcome | None]]:
    """The oldest first."""
    return [(run.due_at, run.outcome) for run in reversed(runs(connection, schedule))]


def test_it_comes_back_as_it_was_made(connection: sa.Connection) -> None:
    made = add(connection)
    assert made.wish == NIGHTLY
    assert (made.next_at, made.last_run, made.created_at) == (FOUR, None, NOW)
    assert schedules.get(connection, made.vmid, made.id) == made
    assert schedules.of_container(connection, made.vmid) == [made]
    with pytest.raises(AbsentError):
        schedules.get(connection, made.vmid + 1, made.id)


def test_there_are_as_many_as_the_plan_allows(connection: sa.Connection) -> None:
    made = add(connection)
    for _ in range(2):
        schedules.create(connection, made.vmid, RESTART, author_id=made.author_id, plan=ROOMY, now=NOW)
    with pytest.raises(PlanLimitError) as refused:
        schedules.create(connection, made.vmid, RESTART, author_id=made.author_id, plan=ROOMY, now=NOW)
    assert refused.value.details["exceeded"][0]["allowed"] == 3
    with pytest.raises(AbsentError):
        schedules.create(connection, 99, RESTART, author_id=made.author_id, plan=ROOMY, now=NOW)


def test_a_change_counts_from_now_and_is_its_authors(connection: sa.Connection) -> None:
    made = add(connection)
    other = add_account(connection, "bob")
    change = partial(schedules.change, connection, made.vmid, made.id, author_id=other.id)
    changed = change(partial(replace, zone="Europe/Berlin", name="mine"), now=FOUR - timedelta(hours=3))
    assert (changed.author_id, changed.next_at) == (other.id, FOUR - timedelta(hours=2))
    off = change(partial(replace, enabled=False), now=NOW)
    assert (off.next_at, off.wish.name) == (None, "mine")
    assert take(connection, FOUR + DAY).taken == []
    with pytest.raises(AbsentError):
        schedules.change(connection, 99, made.id, partial(replace, name="mine"), author_id=other.id, now=NOW)


def test_what_is_due_is_taken_once(connection: sa.Connection) -> None:
    made = add(connection)
    before = take(connection, FOUR - timedelta(seconds=1))
    assert (before.taken, before.look_at) == ([], FOUR)
    (taken,) = take(connection, FOUR).taken
    assert (taken.run.due_at, taken.run.started_at, taken.resumed, taken.run.outcome) == (FOUR, FOUR, False, None)
    again = take(connection, FOUR + timedelta(seconds=1), "two")
    assert (again.taken, again.look_at) == ([], FOUR + LEASE)
    assert schedules.get(connection, made.vmid, made.id).next_at == FOUR + DAY
    ending = Ending(Outcome.SUCCEEDED, None, "b1", ("b0",))
    assert schedule_runs.end(connection, taken.run.id, "one", ending, FOUR + LEASE)
    last = schedules.get(connection, made.vmid, made.id).last_run
    assert last is not None
    assert (last.outcome, last.backup_id, last.deleted, last.ended_at) == (
        Outcome.SUCCEEDED,
        "b1",
        ("b0",),
        FOUR + LEASE,
    )
    # Its end is said once.
    assert not schedule_runs.end(connection, taken.run.id, "one", DONE, FOUR)


def test_of_several_missed_the_newest_is_taken(connection: sa.Connection) -> None:
    made = add(connection)
    (taken,) = take(connection, FOUR + 3 * DAY + timedelta(hours=5)).taken
    assert taken.run.due_at == FOUR + 3 * DAY
    assert outcomes(connection, made) == [(FOUR, Outcome.MISSED), (FOUR + 3 * DAY, None)]
    assert schedules.get(connection, made.vmid, made.id).next_at == FOUR + 4 * DAY


@pytest.mark.parametrize("action", list(Action))
def test_what_is_good_only_at_its_time_is_not_done_much_later(connection: sa.Connection, action: Action) -> None:
    made = add(connection, replace(RESTART, action=action, command="say hi" if action is Action.COMMAND else ""))
    punctual = action in (Action.RESTART, Action.COMMAND)
    (taken,) = take(connection, FOUR + LATEST).taken
    assert schedule_runs.end(connection, taken.run.id, "one", DONE, FOUR + LATEST)
    late = take(connection, FOUR + 3 * DAY + LATEST + timedelta(seconds=1))
    assert [taken.run.due_at for taken in late.taken] == ([] if punctual else [FOUR + 3 * DAY])
    assert outcomes(connection, made) == [
        (FOUR, Outcome.SUCCEEDED),
        (FOUR + DAY, Outcome.MISSED),
        (FOUR + 3 * DAY, Outcome.MISSED if punctual else None),
    ]
    found = schedules.get(connection, made.vmid, made.id)
    assert found.next_at == FOUR + 4 * DAY
    if punctual:
        assert found.last_run is not None
        assert found.last_run.error == "nobody was there to do it within 10 minutes"


@pytest.mark.parametrize("action", list(Action))
def test_nor_is_what_somebody_asked_for_by_hand(connection: sa.Connection, action: Action) -> None:
    made = add(connection, replace(RESTART, action=action, command="say hi" if action is Action.COMMAND else ""))
    asked = schedule_runs.enqueue(connection, made.vmid, made.id, NOW)
    found = take(connection, NOW + LATEST + timedelta(seconds=1)).taken
    punctual = action in (Action.RESTART, Action.COMMAND)
    assert [taken.run.id for taken in found] == ([] if punctual else [asked.id])
    assert outcomes(connection, made) == [(NOW, Outcome.MISSED if punctual else None)]


def test_what_comes_while_the_one_before_is_under_way_is_skipped(connection: sa.Connection) -> None:
    made = add(connection)
    (taken,) = take(connection, FOUR).taken
    claim = Claim("one", FOUR + DAY, FOUR + DAY + LEASE)
    assert schedule_runs.renew(connection, [taken.run.id], claim) == {taken.run.id}
    assert take(connection, FOUR + DAY, "two").taken == []
    assert outcomes(connection, made) == [(FOUR, None), (FOUR + DAY, Outcome.SKIPPED)]


def test_a_claim_that_ended_is_lost_and_tried_once_more(connection: sa.Connection) -> None:
    made = add(connection)
    (first,) = take(connection, FOUR, "one").taken
    schedule_runs.made(connection, first.run.id, made.id, "b1")
    assert take(connection, FOUR + LEASE - timedelta(seconds=1), "two").taken == []
    (second,) = take(connection, FOUR + LEASE, "two").taken
    assert (second.resumed, second.run.attempt, second.run.due_at) == (True, 2, FOUR)
    # What the former one had begun is known to the next.
    assert second.run.backup_id == "b1"
    # Who was away too long can say nothing any more.
    assert not schedule_runs.end(connection, first.run.id, "one", DONE, FOUR + LEASE)
    assert schedule_runs.renew(connection, [first.run.id], Claim("one", FOUR, FOUR + LEASE)) == set()
    assert take(connection, FOUR + 2 * LEASE, "three").taken == []
    assert outcomes(connection, made) == [(FOUR, Outcome.LOST), (FOUR, Outcome.LOST)]


def test_a_restart_that_was_lost_is_not_tried_again(connection: sa.Connection) -> None:
    made = add(connection, RESTART)
    take(connection, FOUR, "one")
    assert take(connection, FOUR + LEASE, "two").taken == []
    assert outcomes(connection, made) == [(FOUR, Outcome.LOST)]
    assert "may have taken effect" in (runs(connection, made)[0].error or "")


def test_ones_own_claims_are_not_lost_whatever_the_clock_does(connection: sa.Connection) -> None:
    made = add(connection, RESTART)
    (taken,) = take(connection, FOUR, "one").taken
    ahead = FOUR + timedelta(hours=1)
    found = take(connection, ahead, "one")
    assert (found.taken, found.look_at) == ([], FOUR + DAY)
    assert schedule_runs.end(connection, taken.run.id, "one", DONE, ahead)
    assert outcomes(connection, made) == [(FOUR, Outcome.SUCCEEDED)]


def test_a_run_by_hand_waits_for_its_turn(connection: sa.Connection) -> None:
    made = add(connection, replace(NIGHTLY, enabled=False))
    asked = schedule_runs.enqueue(connection, made.vmid, made.id, NOW)
    assert (asked.by_hand, asked.started_at, asked.outcome) == (True, None, None)
    with pytest.raises(ConflictError, match="already") as refused:
        schedule_runs.enqueue(connection, made.vmid, made.id, NOW)
    assert refused.value.code == "running"
    (taken,) = take(connection, NOW + LEASE).taken
    assert (taken.run.id, taken.resumed, taken.run.started_at) == (asked.id, False, NOW + LEASE)
    with pytest.raises(AbsentError):
        schedule_runs.enqueue(connection, made.vmid + 1, made.id, NOW)


def test_what_was_given_back_is_taken_up_by_the_next(connection: sa.Connection) -> None:
    made = add(connection)
    (taken,) = take(connection, FOUR, "one").taken
    schedule_runs.let_go(connection, [taken.run.id], "two")
    assert take(connection, FOUR, "two").taken == []
    schedule_runs.let_go(connection, [taken.run.id], "one")
    (resumed,) = take(connection, FOUR + LEASE, "two").taken
    assert (resumed.run.id, resumed.resumed, resumed.run.started_at) == (taken.run.id, True, FOUR)
    assert outcomes(connection, made) == [(FOUR, None)]


def test_no_more_are_taken_than_asked_for_and_the_longest_due_come_first(connection: sa.Connection) -> None:
    vmid, owner_id = a_container(connection)
    for hour in (3, 1, 2):
        wish = replace(NIGHTLY, cron=f"0 {hour} * * *")
        schedules.create(connection, vmid, wish, author_id=owner_id, plan=ROOMY, now=FOUR)
    morning = FOUR + DAY
    hours = [taken.run.due_at.hour for taken in take(connection, morning, most=2).taken]
    hours += [taken.run.due_at.hour for taken in take(connection, morning, most=2).taken]
    assert hours == [1, 2, 3]


def test_a_time_that_can_be_read_no_more_is_switched_off_and_stops_nobody_else(connection: sa.Connection) -> None:
    odd = add(connection)
    schedules.create(connection, odd.vmid, RESTART, author_id=odd.author_id, plan=ROOMY, now=NOW)
    connection.execute(sa.text("UPDATE schedules SET zone = 'Europe/Gone' WHERE id = :id"), {"id": odd.id})
    (taken,) = take(connection, FOUR).taken
    assert taken.schedule.wish.action is Action.RESTART
    found = schedules.get(connection, odd.vmid, odd.id)
    assert (found.wish.enabled, found.next_at) == (False, None)
    assert found.last_run is not None
    assert (found.last_run.outcome, found.last_run.error) == (
        Outcome.FAILED,
        "switched off: no such time zone; one is called Europe/Berlin, for instance",
    )


def test_the_container_takes_them_along_and_its_new_number_is_theirs(connection: sa.Connection) -> None:
    made = add(connection)
    (taken,) = take(connection, FOUR).taken
    schedule_runs.made(connection, taken.run.id, made.id, "b1")
    connection.execute(sa.text("UPDATE containers SET vmid = 5009 WHERE vmid = :vmid"), {"vmid": made.vmid})
    assert schedules.get(connection, 5009, made.id).id == made.id
    containers.delete(connection, 5009)
    for table in ("schedules", "schedule_runs", "schedule_backups"):
        assert connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar() == 0
    # Who is still at it learns that.
    assert schedule_runs.renew(connection, [taken.run.id], Claim("one", FOUR, FOUR + LEASE)) == set()
    schedule_runs.made(connection, taken.run.id, made.id, "b2")


def test_which_backups_are_whose(connection: sa.Connection) -> None:
    made = add(connection)
    other = schedules.create(connection, made.vmid, NIGHTLY, author_id=made.author_id, plan=ROOMY, now=NOW)
    for schedule, backup in ((made, "b1"), (made, "b2"), (other, "b3"), (made, "b1")):
        schedule_runs.made(connection, 0, schedule.id, backup)
    assert schedule_runs.backups_of(connection, made.vmid) == {"b1": made.id, "b2": made.id, "b3": other.id}
    schedule_runs.forget_backups(connection, made.id, ["b1", "b3", "b4"])
    assert schedule_runs.backups_of(connection, made.vmid) == {"b2": made.id, "b3": other.id}


def test_old_runs_are_forgotten_and_what_is_under_way_is_not(connection: sa.Connection) -> None:
    made, other = add(connection), add(connection, name="bob")
    for number in range(schedule_runs.KEPT + 5):
        schedule_runs.enqueue(connection, made.vmid, made.id, NOW + timedelta(minutes=number))
        (taken,) = take(connection, NOW).taken
        assert schedule_runs.end(connection, taken.run.id, "one", Ending(Outcome.FAILED, "x" * 1000), NOW)
    schedule_runs.enqueue(connection, other.vmid, other.id, NOW)
    assert schedule_runs.purge(connection) == 5
    assert schedule_runs.purge(connection) == 0
    kept = runs(connection, made)
    assert len(kept) == schedule_runs.KEPT
    assert kept[0].due_at == NOW + timedelta(minutes=schedule_runs.KEPT + 4)
    assert len(kept[0].error or "") == schedule_runs.LONGEST_ERROR
    assert len(runs(connection, other)) == 1


def test_a_run_under_way_is_not_forgotten_however_many_came_after_it(connection: sa.Connection) -> None:
    add(connection)
    (taken,) = take(connection, FOUR).taken
    for day in range(1, schedule_runs.KEPT + 3):
        assert take(connection, FOUR + day * DAY).taken == []
    # Of those that were skipped as many stay as there are places.
    assert schedule_runs.purge(connection) == 2
    assert schedule_runs.end(connection, taken.run.id, "one", DONE, FOUR + DAY)


def test_two_who_take_at_once_get_different_runs(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        vmid, owner_id = a_container(connection)
        for wish in (NIGHTLY, RESTART, NIGHTLY):
            schedules.create(connection, vmid, wish, author_id=owner_id, plan=ROOMY, now=NOW)
    with engine.connect() as one, engine.connect() as other:
        mine, theirs = take(one, FOUR, "one", most=2).taken, take(other, FOUR, "two").taken
        assert (len(mine), len(theirs)) == (2, 1)
        assert not {taken.schedule.id for taken in mine} & {taken.schedule.id for taken in theirs}
        # Who dies before it has written it down has taken nothing.
        one.rollback()
        other.commit()
    with engine.connect() as connection:
        assert len(take(connection, FOUR, "two").taken) == 2


def test_a_lost_run_is_taken_over_by_one(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        add(connection)
        take(connection, FOUR, "gone")
    later = FOUR + LEASE
    with engine.connect() as one, engine.connect() as other:
        assert len(take(one, later, "one").taken) == 1
        assert take(other, later, "two").taken == []
        other.commit()
        one.commit()
    with engine.connect() as connection:
        assert take(connection, later, "two").taken == []


def test_a_run_by_hand_and_one_that_is_due_are_not_both_begun(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        made = add(connection)
    with engine.connect() as one, engine.connect() as other:
        assert len(take(one, FOUR).taken) == 1
        other.execute(sa.text("SET lock_timeout = '50ms'"))
        with pytest.raises(sa.exc.OperationalError):
            schedule_runs.enqueue(other, made.vmid, made.id, FOUR)
        other.rollback()
        one.commit()
        with pytest.raises(ConflictError):
            schedule_runs.enqueue(other, made.vmid, made.id, FOUR)
