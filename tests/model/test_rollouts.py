"""What comes next in a rollout, and what a look at an agent means."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlh.model.observed import Update
from zlh.model.rollouts import (
    UPDATE_SECONDS,
    Again,
    Ended,
    Finish,
    Item,
    ItemState,
    Look,
    Rest,
    Rollout,
    RolloutState,
    Tell,
    Work,
    counts_of,
    judge_pending,
    judge_updating,
    next_step,
)

AT = datetime(2026, 3, 1, tzinfo=UTC)
NOW = AT.timestamp()
ENDS = (ItemState.SUCCEEDED, ItemState.FAILED, ItemState.SKIPPED)


def a_rollout(items: tuple[Item, ...], **changes: Any) -> Rollout:
    rollout = Rollout(
        id="ro-1",
        state=RolloutState.RUNNING,
        version=None,
        batch=5,
        max_failures=1,
        created_at=AT,
        updated_at=AT,
        items=items,
        counts=counts_of(items),
    )
    return replace(rollout, **changes)


def moved(rollout: Rollout, vmid: int, state: ItemState) -> Rollout:
    items = tuple(replace(item, state=state) if item.vmid == vmid else item for item in rollout.items)
    return replace(rollout, items=items, counts=counts_of(items))


class Carrier:
    """Carries a rollout out as the task does, in an order that hypothesis chooses."""

    def __init__(self, rollout: Rollout, data: st.DataObject) -> None:
        self.rollout = rollout
        self._data = data
        self.most_in_flight = 0
        self.begun_too_late = False

    def run(self) -> Finish | Rest:
        for _ in range(10_000):
            step = next_step(self.rollout)
            if not isinstance(step, Work):
                return step
            self._work(list(step.items))
        raise AssertionError("it never ends")

    def _work(self, items: list[Item]) -> None:
        while items:
            item = self._data.draw(st.sampled_from(items))
            state = self.rollout.items[item.vmid].state
            if state.final or (state is ItemState.PENDING and not self.rollout.may_begin):
                items.remove(item)
            elif state is ItemState.PENDING and self._data.draw(st.booleans()):
                self.begun_too_late |= self.rollout.failures > self.rollout.max_failures
                self._move(item, ItemState.UPDATING)
            elif state is ItemState.PENDING:
                self._move(item, ItemState.SKIPPED)
            else:
                self._move(item, self._data.draw(st.sampled_from(ENDS)))

    def _move(self, item: Item, state: ItemState) -> None:
        self.rollout = moved(self.rollout, item.vmid, state)
        self.most_in_flight = max(self.most_in_flight, self.rollout.counts.get(ItemState.UPDATING, 0))


@given(
    count=st.integers(0, 12),
    batch=st.integers(1, 6),
    most=st.integers(0, 3),
    data=st.data(),
)
def test_never_more_than_a_batch_and_never_on_beyond_the_failures(
    count: int, batch: int, most: int, data: st.DataObject
) -> None:
    items = tuple(Item(vmid) for vmid in range(count))
    carrier = Carrier(a_rollout(items, batch=batch, max_failures=most), data)
    end = carrier.run()
    assert isinstance(end, Finish)
    assert carrier.most_in_flight <= batch
    assert not carrier.begun_too_late
    # Failures beyond the first too many are those that were in flight by then.
    assert carrier.rollout.failures <= most + batch
    failed = carrier.rollout.failures > most
    assert end.state is (RolloutState.FAILED if failed else RolloutState.SUCCEEDED)
    assert ItemState.UPDATING not in carrier.rollout.counts
    assert failed or all(item.state.final for item in carrier.rollout.items)


@given(states=st.lists(st.sampled_from(ItemState), max_size=8), batch=st.integers(1, 4), paused=st.booleans())
def test_what_was_begun_is_carried_on_before_anything_else(states: list[ItemState], batch: int, paused: bool) -> None:
    items = tuple(Item(vmid, state) for vmid, state in enumerate(states))
    state = RolloutState.PAUSED if paused else RolloutState.RUNNING
    step = next_step(a_rollout(items, batch=batch, state=state, cancel_asked_at=AT))
    if ItemState.UPDATING in states:
        assert isinstance(step, Work)
        assert {item.state for item in step.items} == {ItemState.UPDATING}
    else:
        assert isinstance(step, Finish)


def test_a_pause_begins_nothing_and_a_cancellation_ends_it() -> None:
    pending = (Item(1), Item(2))
    assert next_step(a_rollout(pending, state=RolloutState.PAUSED)) == Rest()
    assert next_step(a_rollout(pending, cancel_asked_at=AT)) == Finish(RolloutState.CANCELLED)
    assert not a_rollout(pending, state=RolloutState.PAUSED).may_begin
    assert not a_rollout(pending, cancel_asked_at=AT).may_begin
    assert next_step(a_rollout((Item(1, ItemState.SKIPPED),), cancel_asked_at=AT)) == Finish(RolloutState.SUCCEEDED)


def agent(current: str = "1.4.2", latest: str = "1.5.0", state: str = "idle") -> Update:
    return Update(current, latest, current != latest, state)


@pytest.mark.parametrize(
    ("update", "wanted", "reason"),
    [
        (agent("1.5.0"), None, "up to date"),
        (agent("1.5.0"), "1.5.0", "up to date"),
        # It runs what is wanted, whatever is newer.
        (agent("1.4.2", "1.6.0"), "1.4.2", "up to date"),
        (agent("1.4.2", "1.6.0"), "1.5.0", "it would become 1.6.0, not 1.5.0"),
        (agent("1.5.0"), "1.6.0", "it knows of no version 1.6.0"),
        (agent(state="updating"), None, "busy: it is being updated already"),
    ],
)
def test_who_is_left_alone(update: Update, wanted: str | None, reason: str) -> None:
    assert judge_pending(update, wanted) == Ended(ItemState.SKIPPED, reason, update.current)


def test_who_is_updated() -> None:
    assert judge_pending(agent(), None) == Tell("1.4.2", "1.5.0")
    assert judge_pending(agent(), "1.5.0") == Tell("1.4.2", "1.5.0")
    # An update that failed once may be tried again.
    assert judge_pending(agent(state="failed"), None) == Tell("1.4.2", "1.5.0")


BEGUN = Item(1, ItemState.UPDATING, "1.4.2", "1.5.0", was_ready=True, started_at=AT)
TOLD = replace(BEGUN, told_at=AT)
LATE = NOW + UPDATE_SECONDS
AWAY = Look(trouble="connection refused")
BACK = Look(agent("1.5.0"), ready=True)
NEVER = "not within 300 s: "


def judge(item: Item, look: Look, *, wanted: str | None = None, now: float = NOW + 1) -> object:
    return judge_updating(item, look, wanted, now)


def test_an_agent_that_was_not_told_is_told_once_it_is_there_and_idle() -> None:
    assert judge(BEGUN, Look(agent())) == Tell("1.4.2", "1.5.0")
    # It was told, and only the word of that was lost.
    failed = Ended(ItemState.FAILED, "the agent says that its update failed", "1.4.2")
    assert judge(BEGUN, Look(agent(state="failed"))) == failed
    assert judge(BEGUN, Look(agent(state="updating"))) == Again()
    assert judge(BEGUN, BACK) == Ended(ItemState.SUCCEEDED, None, "1.5.0")
    assert judge(BEGUN, AWAY) == Again()


@given(
    look=st.builds(
        Look,
        st.one_of(
            st.none(),
            st.builds(
                agent,
                st.sampled_from(["1.4.2", "1.5.0", "9"]),
                st.sampled_from(["1.5.0", "9"]),
                st.sampled_from(["idle", "updating", "failed"]),
            ),
        ),
        st.booleans(),
        gone=st.booleans(),
    ),
    seconds=st.floats(0, 1000),
    wanted=st.sampled_from([None, "1.5.0"]),
    told=st.booleans(),
)
def test_who_was_told_is_not_told_again_and_nobody_is_waited_for_for_ever(
    look: Look, seconds: float, wanted: str | None, told: bool
) -> None:
    verdict = judge(TOLD if told else BEGUN, look, wanted=wanted, now=NOW + seconds)
    assert not (told and isinstance(verdict, Tell))
    if seconds >= UPDATE_SECONDS:
        assert isinstance(verdict, Ended)
        assert (verdict.state is ItemState.SUCCEEDED) is (verdict.reason is None)


def test_what_becomes_of_those_that_were_told() -> None:
    assert judge(TOLD, Look(agent())) == Again()
    assert judge(TOLD, AWAY) == Again()
    assert judge(TOLD, BACK) == Ended(ItemState.SUCCEEDED, None, "1.5.0")
    failed = Ended(ItemState.FAILED, "the agent says that its update failed", "1.4.2")
    assert judge(TOLD, Look(agent(state="failed"))) == failed
    never_back = Ended(ItemState.FAILED, NEVER + "the agent did not come back: connection refused")
    assert judge(TOLD, AWAY, now=LATE) == never_back
    still = Ended(ItemState.FAILED, NEVER + "the agent is still version 1.4.2", "1.4.2")
    assert judge(TOLD, Look(agent()), now=LATE) == still
    assert judge(TOLD, Look(gone=True)) == Ended(ItemState.SKIPPED, "the container is gone")


def test_ready_again_is_only_asked_of_what_was_ready() -> None:
    unready = Look(agent("1.5.0"), trouble="the world is loading")
    assert judge(TOLD, unready) == Again()
    not_ready = Ended(ItemState.FAILED, NEVER + "it is not ready: the world is loading", "1.5.0")
    assert judge(TOLD, unready, now=LATE) == not_ready
    assert judge(replace(TOLD, was_ready=False), unready) == Ended(ItemState.SUCCEEDED, None, "1.5.0")


def test_a_version_that_nobody_announced() -> None:
    newer = Look(agent("1.5.1", "1.5.1"), ready=True)
    assert judge(TOLD, newer) == Ended(ItemState.SUCCEEDED, None, "1.5.1")
    assert judge(TOLD, newer, wanted="1.5.0") == Ended(ItemState.FAILED, "it became 1.5.1, not 1.5.0", "1.5.1")
