"""Rollouts in the database: one at a time, and lines that only move from where they are thought to be."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from zlh.model.errors import AbsentError, ConflictError
from zlh.model.rollouts import Ended, Item, ItemState, Rollout, RolloutState
from zlh.store import rollouts, upkeep

NOW = datetime(2026, 6, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
FAILED = Ended(ItemState.FAILED, "it did not come back")
DONE = Ended(ItemState.SUCCEEDED, None, "1.5.1")


def begin(connection: sa.Connection, *vmids: int, max_failures: int = 1, now: datetime = NOW) -> Rollout:
    return rollouts.begin(connection, vmids, version=None, batch=2, max_failures=max_failures, now=now)


def begin_item(connection: sa.Connection, rollout: Rollout, vmid: int) -> Item | None:
    return rollouts.begin_item(
        connection, rollout.id, vmid, current="1.4.2", target="1.5.0", was_ready=True, now=LATER
    )


def test_a_rollout_begins_and_ends(connection: sa.Connection) -> None:
    begun = begin(connection, 5002, 5001, 5002)
    assert begun.items == (Item(5001), Item(5002))
    assert begun.counts == {ItemState.PENDING: 2}
    assert rollouts.active(connection) == rollouts.get(connection, begun.id) == begun

    item = begin_item(connection, begun, 5001)
    expected = Item(5001, ItemState.UPDATING, "1.4.2", "1.5.0", was_ready=True, started_at=LATER)
    assert item == expected
    told = rollouts.told(connection, begun.id, 5001, LATER)
    assert told is not None
    assert told.told_at == LATER
    done = rollouts.end_item(connection, begun.id, 5001, DONE, was=ItemState.UPDATING, now=LATER)
    assert done is not None
    assert (done.state, done.current, done.target, done.reason) == (ItemState.SUCCEEDED, "1.4.2", "1.5.1", None)
    skipped = Ended(ItemState.SKIPPED, "up to date", "1.5.0")
    left = rollouts.end_item(connection, begun.id, 5002, skipped, was=ItemState.PENDING, now=LATER)
    assert left is not None
    assert (left.current, left.target, left.reason, left.ended_at) == ("1.5.0", None, "up to date", LATER)

    ended = rollouts.finish(connection, begun.id, RolloutState.SUCCEEDED, LATER)
    assert (ended.state, ended.finished_at, ended.updated_at) == (RolloutState.SUCCEEDED, LATER, LATER)
    assert ended.counts == {ItemState.SUCCEEDED: 1, ItemState.SKIPPED: 1}
    assert rollouts.active(connection) is None


def test_those_that_ended_long_ago_are_forgotten(connection: sa.Connection) -> None:
    for day in range(3):
        ended = begin(connection, 5001, 5002, now=NOW + timedelta(days=day))
        rollouts.finish(connection, ended.id, RolloutState.SUCCEEDED, NOW + timedelta(days=day))
    running = begin(connection, 5001, now=NOW - timedelta(days=1000))
    assert upkeep.forget_old(connection, NOW + timedelta(days=31), timedelta(days=30)) == 1
    assert upkeep.forget_old(connection, NOW + timedelta(days=31), timedelta(days=30)) == 0
    assert [kept.created_at for kept in rollouts.page(connection)] == [
        NOW + timedelta(days=2),
        NOW + timedelta(days=1),
        running.created_at,
    ]
    assert connection.execute(sa.text("SELECT count(*) FROM rollout_items")).scalar() == 5


def test_one_at_a_time(connection: sa.Connection) -> None:
    first = begin(connection, 5001)
    with pytest.raises(ConflictError) as refused:
        begin(connection, 5002)
    assert (refused.value.code, refused.value.details) == ("rollout_active", {"rollout": first.id})
    rollouts.pause(connection, first.id, LATER)
    with pytest.raises(ConflictError):
        begin(connection, 5002)
    rollouts.finish(connection, first.id, RolloutState.CANCELLED, LATER)
    second = begin(connection, 5002, now=LATER)
    assert [rollout.id for rollout in rollouts.page(connection)] == [second.id, first.id]
    assert [rollout.id for rollout in rollouts.page(connection, before=second.id)] == [first.id]
    (newest,) = rollouts.page(connection, limit=1)
    assert (newest.items, newest.counts) == ((), {ItemState.PENDING: 1})


def test_two_operators_at_the_same_moment(engine: sa.Engine) -> None:
    def try_it(vmid: int) -> bool:
        with engine.begin() as connection:
            try:
                begin(connection, vmid)
            except ConflictError:
                return False
            return True

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(try_it, range(5001, 5005))) == [False, False, False, True]


def test_nothing_is_begun_that_may_not_be(connection: sa.Connection) -> None:
    rollout = begin(connection, 5001, 5002, 5003, max_failures=0)
    rollouts.pause(connection, rollout.id, LATER)
    assert begin_item(connection, rollout, 5001) is None
    rollouts.resume(connection, rollout.id, LATER)
    assert begin_item(connection, rollout, 5001) is not None
    assert begin_item(connection, rollout, 5001) is None, "it was begun already"
    assert begin_item(connection, rollout, 5002) is not None
    assert rollouts.end_item(connection, rollout.id, 5001, FAILED, was=ItemState.UPDATING, now=LATER) is not None
    assert begin_item(connection, rollout, 5003) is None, "there were too many failures"


def test_a_cancelled_one_begins_nothing(connection: sa.Connection) -> None:
    rollout = begin(connection, 5001)
    asked = rollouts.ask_to_cancel(connection, rollout.id, LATER)
    assert (asked.state, asked.cancel_asked_at) == (RolloutState.RUNNING, LATER)
    assert rollouts.ask_to_cancel(connection, rollout.id, NOW).cancel_asked_at == LATER
    assert begin_item(connection, rollout, 5001) is None


def test_failures_of_two_at_the_same_moment_are_both_counted(engine: sa.Engine) -> None:
    """Who counts holds the rollout's row: neither begins one more because it did not see the other's failure."""
    with engine.begin() as connection:
        rollout = begin(connection, *range(5001, 5009), max_failures=1)
        for vmid in range(5001, 5005):
            begin_item(connection, rollout, vmid)

    def fail_and_go_on(vmid: int) -> bool:
        with engine.begin() as connection:
            rollouts.end_item(connection, rollout.id, vmid, FAILED, was=ItemState.UPDATING, now=LATER)
            return begin_item(connection, rollout, vmid + 4) is not None

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(fail_and_go_on, range(5001, 5005))) == 1


def test_whoever_is_late_changes_nothing(connection: sa.Connection) -> None:
    rollout = begin(connection, 5001)
    assert rollouts.told(connection, rollout.id, 5001, LATER) is None
    assert rollouts.end_item(connection, rollout.id, 5001, DONE, was=ItemState.UPDATING, now=LATER) is None
    begin_item(connection, rollout, 5001)
    assert rollouts.end_item(connection, rollout.id, 5001, FAILED, was=ItemState.UPDATING, now=LATER) is not None
    assert rollouts.end_item(connection, rollout.id, 5001, DONE, was=ItemState.UPDATING, now=LATER) is None
    known = rollouts.get(connection, rollout.id)
    assert known is not None
    assert (known.items[0].state, known.items[0].target) == (ItemState.FAILED, "1.5.0")


def test_an_ended_one_stays_as_it_is(connection: sa.Connection) -> None:
    rollout = begin(connection, 5001)
    rollouts.finish(connection, rollout.id, RolloutState.FAILED, LATER, error="2 updates failed, 1 may")
    for change in (rollouts.pause, rollouts.resume, rollouts.ask_to_cancel):
        with pytest.raises(ConflictError) as refused:
            change(connection, rollout.id, LATER)
        assert refused.value.code == "rollout_ended"
        with pytest.raises(AbsentError):
            change(connection, "none", LATER)
    assert begin_item(connection, rollout, 5001) is None
    known = rollouts.get(connection, rollout.id)
    assert known is not None
    assert known.error == "2 updates failed, 1 may"
