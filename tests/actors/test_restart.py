"""The restart policy and the strategies, without a clock and without tasks."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.restart import Again, Backoff, Finish, Intensity, Quarantine, Restart, RestartPolicy
from actors.strategy import SETTLED, State, Strategy, affected, may_start

RNG = random.Random(1)
EXACT = Backoff(jitter=0)


def policy(restart=Restart.PERMANENT, intensity=None, backoff=EXACT):
    return RestartPolicy(restart, intensity or Intensity(), backoff)


@given(n=st.integers(0, 10_000), jitter=st.floats(0, 1), seed=st.integers())
def test_a_delay_doubles_up_to_the_cap_and_jitter_only_shortens_it(n, jitter, seed):
    whole = min(30.0, 0.1 * 2.0 ** min(n, 64))
    delay = Backoff(jitter=jitter).delay(n, random.Random(seed))
    assert whole * (1 - jitter) - 1e-9 <= delay <= whole


def test_crashes_in_a_row_back_off_and_then_quarantine():
    history = policy()
    delays = [history.crashed(now, uptime=0, rng=RNG) for now in range(6)]
    assert delays == [Again(0.1), Again(0.2), Again(0.4), Again(0.8), Again(1.6), Quarantine(300.0)]


def test_a_quiet_period_clears_the_record():
    history = policy()
    for now in range(5):
        history.crashed(now, uptime=0, rng=RNG)
    assert history.crashed(70, uptime=60.0, rng=RNG) == Again(0.1)


def test_after_its_own_retry_one_crash_quarantines_and_after_a_release_it_has_the_full_budget():
    history = policy()
    for now in range(6):
        history.crashed(now, uptime=0, rng=RNG)
    history.retried()
    assert history.crashed(310, uptime=1.0, rng=RNG) == Quarantine(300.0)
    history.forgive()
    assert history.crashed(311, uptime=1.0, rng=RNG) == Again(0.1)


def test_probation_ends_after_a_quiet_period():
    history = policy()
    history.retried()
    assert history.crashed(400, uptime=60.0, rng=RNG) == Again(0.1)


@pytest.mark.parametrize(
    ("restart", "crashed", "returned"),
    [
        (Restart.PERMANENT, Again(0.1), Again(0.1)),
        (Restart.TRANSIENT, Again(0.1), Finish()),
        (Restart.TEMPORARY, Finish(), Finish()),
    ],
)
def test_who_is_started_again(restart, crashed, returned):
    assert policy(restart).crashed(0, uptime=0, rng=RNG) == crashed
    assert policy(restart).returned(0, uptime=0, rng=RNG) == returned


@given(
    gaps=st.lists(st.floats(0, 100), max_size=60),
    crashes=st.integers(0, 8),
    period=st.floats(1, 200),
)
def test_it_quarantines_exactly_when_the_period_holds_more_crashes_than_allowed(gaps, crashes, period):
    history = policy(intensity=Intensity(crashes, period))
    now, times = 0.0, []
    for gap in gaps:
        now += gap
        times.append(now)
        recent = [time for time in times if time > now - period]
        decision = history.crashed(now, uptime=0, rng=RNG)
        assert isinstance(decision, Quarantine) == (len(recent) > crashes)


@pytest.mark.parametrize("bad", [{"crashes": -1}, {"period": 0}, {"retry": 0}])
def test_an_intensity_without_sense_is_refused(bad):
    with pytest.raises(ValueError):
        Intensity(**bad)


@pytest.mark.parametrize("bad", [{"first": -1}, {"factor": 0.5}, {"cap": 0.01}, {"jitter": 2}])
def test_a_backoff_without_sense_is_refused(bad):
    with pytest.raises(ValueError):
        Backoff(**bad)


@given(strategy=st.sampled_from(Strategy), count=st.integers(1, 8), data=st.data())
def test_affected_siblings_stop_in_reverse_and_never_include_the_child(strategy, count, data):
    index = data.draw(st.integers(0, count - 1))
    found = affected(strategy, index, count)
    assert found == sorted(found, reverse=True)
    expected = {
        Strategy.ONE_FOR_ONE: set(),
        Strategy.REST_FOR_ONE: set(range(index + 1, count)),
        Strategy.ONE_FOR_ALL: set(range(count)) - {index},
    }
    assert set(found) == expected[strategy]


@given(
    strategy=st.sampled_from(Strategy),
    states=st.lists(st.sampled_from(State), min_size=1, max_size=6),
    holding=st.frozensets(st.integers(0, 5)),
)
def test_somebody_may_always_start(strategy, states, holding):
    """No set of states is a deadlock: without a backoff under way, the first that is not settled may start."""
    waiting = frozenset(i for i in holding if i < len(states))
    unsettled = [i for i, state in enumerate(states) if state not in SETTLED]
    for i in unsettled[:1]:
        expected = strategy is not Strategy.ONE_FOR_ALL or not waiting
        assert may_start(strategy, i, states, waiting) is expected
    for i in unsettled[1:]:
        assert may_start(strategy, i, states, waiting) is (strategy is Strategy.ONE_FOR_ONE)
