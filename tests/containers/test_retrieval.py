"""How long a suspended container may be on, and what becomes of its game, are pure functions."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.containers.samples import EPOCH, IN_FLIGHT, NOW, desires, observations, operations
from zlh.containers.retrieval import DAY, LEAST, MOST, GameWord, game_word, opened
from zlh.model.containers import Desired, Lifecycle, Power
from zlh.model.errors import ConflictError
from zlh.model.observed import AgentObservation, AgentState, HostObservation, Liveness, Observed, Presence, Status
from zlh.model.operations import Operation

SUSPENDED = Desired(suspended=True)
HOUR = timedelta(hours=1)


def after(**time: float) -> float:
    return (EPOCH + timedelta(**time)).timestamp()


def until(desired: Desired) -> datetime:
    assert desired.retrieval_until is not None
    return desired.retrieval_until


def test_it_lasts_as_long_as_asked_for_and_is_only_ever_extended() -> None:
    once = opened(SUSPENDED, 3600, NOW)
    assert (once.retrieval_since, until(once)) == (EPOCH, EPOCH + HOUR)
    assert once.power_at(after(minutes=59)) is Power.ON
    assert once.power_at(after(minutes=60)) is Power.OFF
    assert until(opened(once, 300, after(minutes=10))) == EPOCH + HOUR
    assert until(opened(once, 3600, after(minutes=30))) == EPOCH + timedelta(minutes=90)


def test_a_day_has_eight_hours_from_the_first_one_on() -> None:
    first = opened(SUSPENDED, 3600, NOW)
    late = opened(first, 4 * 3600, after(hours=7))
    assert until(late) == EPOCH + MOST
    with pytest.raises(ConflictError) as caught:
        opened(late, 3600, (EPOCH + MOST - LEAST).timestamp() + 1)
    assert caught.value.code == "retrieval_spent"
    assert caught.value.details == {"again": "2026-03-02T12:00:00.000Z"}
    with pytest.raises(ConflictError):
        opened(late, 3600, (EPOCH + DAY).timestamp() - 1)
    next_day = opened(late, 3600, (EPOCH + DAY).timestamp())
    assert (next_day.retrieval_since, until(next_day)) == (EPOCH + DAY, EPOCH + DAY + HOUR)


@pytest.mark.parametrize("desired", [Desired(), Desired(power=Power.OFF)])
def test_who_is_not_suspended_needs_none(desired: Desired) -> None:
    with pytest.raises(ConflictError) as caught:
        opened(desired, 3600, NOW)
    assert caught.value.code == "not_suspended"


@given(st.lists(st.tuples(st.floats(0, 40_000), st.integers(300, 14_400)), max_size=40))
def test_in_no_day_it_is_on_for_more_than_eight_hours(wishes: list[tuple[float, int]]) -> None:
    now, desired = NOW, SUSPENDED
    on: list[tuple[float, float]] = []
    for pause, seconds in wishes:
        now += pause
        try:
            desired = opened(desired, seconds, now)
        except ConflictError:
            continue
        on.append((max(now, on[-1][1]) if on else now, until(desired).timestamp()))
    for day in {moment for stretch in on for moment in stretch}:
        end = day + DAY.total_seconds()
        within = sum(max(0.0, min(till, end) - max(since, day)) for since, till in on)
        assert within <= MOST.total_seconds() + 0.001


AGENT = AgentObservation(Liveness.ONLINE, Status(AgentState.RUNNING))
UP = Observed(HostObservation(Presence.PRESENT, Power.ON, "pve1"), AGENT)


def in_state(state: AgentState) -> Observed:
    return replace(UP, agent=replace(AGENT, status=Status(state)))


@given(desires, observations, st.one_of(st.none(), operations(states=IN_FLIGHT)))
def test_a_game_is_told_something_for_a_suspension_alone(
    desired: Desired, observed: Observed, operation: Operation | None
) -> None:
    word = game_word(desired, observed, operation)
    if word is None:
        return
    assert operation is None
    assert desired.lifecycle is Lifecycle.PRESENT
    # Nothing is concluded from what was not heard.
    assert observed.agent.liveness is Liveness.ONLINE
    assert not observed.agent.stale
    assert observed.agent.status is not None
    state = observed.agent.status.state
    if word is GameWord.STOP:
        assert desired.suspended
        assert state in (AgentState.STARTING, AgentState.RUNNING)
    else:
        assert not desired.suspended
        assert desired.game_held
        assert (word is GameWord.START) is (state is AgentState.IDLE)


@pytest.mark.parametrize("state", AgentState)
def test_a_suspended_game_never_runs(state: AgentState) -> None:
    runs = state in (AgentState.STARTING, AgentState.RUNNING)
    assert game_word(SUSPENDED, in_state(state), None) is (GameWord.STOP if runs else None)


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (AgentState.IDLE, GameWord.START),
        (AgentState.STOPPING, None),
        (AgentState.INSTALLING, None),
        (AgentState.UNKNOWN, None),
        (AgentState.STARTING, GameWord.FORGET),
        (AgentState.RUNNING, GameWord.FORGET),
        (AgentState.CRASHED, GameWord.FORGET),
        (AgentState.ERROR, GameWord.FORGET),
    ],
)
def test_what_a_suspension_stopped_runs_again(state: AgentState, word: GameWord | None) -> None:
    assert game_word(Desired(game_held=True), in_state(state), None) is word
    assert game_word(Desired(), in_state(state), None) is None
    assert game_word(Desired(power=Power.OFF, game_held=True), in_state(state), None) is None
