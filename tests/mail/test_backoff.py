from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from zlh.mail.backoff import FIRST, LONGEST, PATIENCE, next_try

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def test_twice_as_long_each_time_up_to_four_hours() -> None:
    pauses = [next_try(NOW, attempts, NOW, 0.0) for attempts in (1, 2, 3, 8, 9, 1_000_000)]
    minutes = [(at - NOW) / timedelta(minutes=1) for at in pauses if at]
    assert minutes == [1, 2, 4, 128, 240, 240]


def test_two_days_old_is_too_old() -> None:
    assert next_try(NOW - PATIENCE, 1, NOW, 0.0) is None
    assert next_try(NOW - PATIENCE + timedelta(seconds=1), 50, NOW, 0.0) == NOW + LONGEST


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_the_jitter_takes_a_quarter_at_most(attempts: int, jitter: float) -> None:
    full, less = next_try(NOW, attempts, NOW, 0.0), next_try(NOW, attempts, NOW, jitter)
    assert full
    assert less
    assert FIRST * 0.75 <= (full - NOW) * 0.75 <= less - NOW <= full - NOW <= LONGEST
