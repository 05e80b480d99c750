from __future__ import annotations

import pytest

from zlh.accounts import attempts
from zlh.accounts.attempts import Attempts, address_key
from zlh.model.errors import TooManyError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_one_at_a_time() -> None:
    clock = Clock()
    bucket = Attempts(3, 30, now=clock)
    for _ in range(3):
        bucket.take("a")
    with pytest.raises(TooManyError) as caught:
        bucket.take("a")
    assert caught.value.retry_after == pytest.approx(10)
    bucket.take("b")
    clock.now = 10.0
    bucket.take("a")
    with pytest.raises(TooManyError):
        bucket.take("a")


def test_refused_attempts_do_not_lengthen_the_wait() -> None:
    clock = Clock()
    bucket = Attempts(1, 10, now=clock)
    bucket.take("a")
    for _ in range(100):
        with pytest.raises(TooManyError):
            bucket.take("a")
    clock.now = 10.0
    bucket.take("a")


def test_what_was_given_back_can_be_taken_again() -> None:
    bucket = Attempts(1, 10, now=Clock())
    for _ in range(5):
        bucket.take("a")
        bucket.give_back("a")


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "MOST_KEYS", 10)
    bucket = Attempts(1, 10, now=Clock())
    for number in range(100):
        bucket.take(str(number))
    assert len(bucket._buckets) == 10


def test_addresses() -> None:
    assert address_key("2001:db8::1") == address_key("2001:db8::ffff:1")
    assert address_key("2001:db8::1") != address_key("2001:db8:0:1::1")
    assert address_key("192.0.2.1") == "192.0.2.1"
    assert address_key("nonsense") == "nonsense"
