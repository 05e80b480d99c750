"""Lane scheduling: every envelope is accounted for, in order, within the limits."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors.lanes import DEFAULT_LANES, Lane, LaneQueue, unique


@dataclass(eq=False)
class Item:
    offered_at: float
    deadline: float


class LaneMachine(RuleBasedStateMachine):
    """A lane beside a plain list that says what it should hold."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: LaneQueue[Item] = LaneQueue(Lane("lane", capacity=3, concurrency=2))
        self.model: list[Item] = []
        self.now = 0.0
        self.accepted = 0
        self.in_flight = 0

    @rule(seconds=st.sampled_from([0.0, 1.0, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(patience=st.sampled_from([0.0, 2.0, 10.0, float("inf")]))
    def offer(self, patience: float) -> None:
        item = Item(self.now, self.now + patience)
        if len(self.model) >= 3:
            self.model = [waiting for waiting in self.model if waiting.deadline > self.now]
        expected = len(self.model) < 3
        assert self.queue.offer(item, self.now) is expected
        if expected:
            self.model.append(item)
            self.accepted += 1

    @rule()
    def take(self) -> None:
        taken = self.queue.next(self.now)
        if self.in_flight == 2:
            assert taken is None
            return
        while self.model and self.model[0].deadline <= self.now:
            self.model.pop(0)
        assert taken is (self.model.pop(0) if self.model else None)
        self.in_flight += taken is not None

    @precondition(lambda self: self.in_flight)
    @rule(ok=st.booleans())
    def done(self, ok: bool) -> None:
        self.queue.done(ok=ok)
        self.in_flight -= 1

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.model))
        assert self.queue.withdraw(item)
        assert not self.queue.withdraw(item)
        self.model.remove(item)

    @rule()
    def expire(self) -> None:
        late = [item for item in self.model if item.deadline <= self.now]
        assert self.queue.expire(self.now) == late
        self.model = [item for item in self.model if item not in late]

    @rule()
    def clear(self) -> None:
        assert self.queue.clear() == self.model
        self.model = []

    @invariant()
    def everything_is_accounted_for(self) -> None:
        queue = self.queue
        ended = queue.handled + queue.failed + queue.dropped
        assert self.accepted == queue.depth + queue.in_flight + ended
        assert queue.depth == len(self.model) <= 3
        assert queue.in_flight == self.in_flight <= 2
        assert queue.oldest_age(self.now) == (self.now - self.model[0].offered_at if self.model else None)


TestLane = LaneMachine.TestCase


def test_done_without_next_is_a_bug_of_the_caller():
    with pytest.raises(RuntimeError):
        LaneQueue(Lane("x")).done(ok=True)


@given(capacity=st.integers(-2, 2), concurrency=st.integers(-2, 2))
def test_a_lane_has_at_least_one_place_and_one_handler(capacity, concurrency):
    if capacity >= 1 and concurrency >= 1:
        Lane("x", capacity, concurrency)
        return
    with pytest.raises(ValueError, match="lane"):
        Lane("x", capacity, concurrency)


def test_lanes_have_distinct_names():
    assert unique(DEFAULT_LANES) == DEFAULT_LANES
    for bad in ([], [Lane("x"), Lane("x")]):
        with pytest.raises(ValueError):
            unique(bad)
