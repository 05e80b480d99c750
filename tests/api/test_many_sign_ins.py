"""A thousand attempts in a minute: few passwords are hashed, the limits say for how long, and others still get in."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.api.world import PASSWORD, Answer, World
from zlh.accounts import Passwords
from zlh.accounts.attempts import MOST_KEYS, Attempts
from zlh.model.errors import TooManyError

ATTEMPTS = 1000
FEWER = 200
"""Where each of them costs as much as a sign-in does: many times what any limit allows."""
AT_ONCE = 8
PER_ACCOUNT, PER_ADDRESS, SECONDS = 10, 30, 60.0


class Counted:
    """How often a password was hashed or compared since the test began."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        for name in ("hash", "verify"):
            monkeypatch.setattr(Passwords, name, self._counting(getattr(Passwords, name)))

    def _counting(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        async def counting(*arguments: Any) -> Any:
            self.calls += 1
            return await inner(*arguments)

        return counting


@pytest.fixture
async def hashed(world: World, monkeypatch: pytest.MonkeyPatch) -> Counted:
    await world.account("ada")
    await world.account("grace")
    return Counted(monkeypatch)


async def attempt(world: World, identifier: str, address: str, password: str = "wrong one") -> Answer:
    body = {"identifier": identifier, "password": password}
    return await world.call("POST", "/api/auth/login", json=body, X_Forwarded_For=address)


async def flood(
    world: World, identifiers: Callable[[int], str], addresses: Callable[[int], str], attempts: int = ATTEMPTS
) -> list[Answer]:
    """All attempts, a few at a time as real connections would bring them."""
    answers: list[Answer] = []
    numbers = iter(range(attempts))

    async def lane() -> None:
        for number in numbers:
            answer = await attempt(world, identifiers(number), addresses(number))
            answers.append(answer)

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(lane)
    return answers


def ipv4(number: int) -> str:
    return f"198.51.{100 + number // 250}.{1 + number % 250}"


def check(answers: list[Answer], hashed: Counted, burst: int, seconds: float) -> None:
    """No more was hashed than the limit allows for that time, and every refusal says when to come again."""
    assert {answer.status for answer in answers} <= {401, 429}
    refused = [answer for answer in answers if answer.status == 429]
    assert hashed.calls == len(answers) - len(refused)
    assert hashed.calls <= burst + burst * seconds / SECONDS + 1
    for answer in refused:
        assert answer.json["code"] == "too_many_requests"
        assert 1 <= int(answer.headers["Retry-After"]) <= SECONDS / burst + 1


async def test_from_one_address(world: World, hashed: Counted) -> None:
    began = time.monotonic()
    answers = await flood(world, lambda _: "ada", lambda _: "192.0.2.1")
    check(answers, hashed, PER_ACCOUNT, time.monotonic() - began)
    assert (await attempt(world, "grace", "192.0.2.2", PASSWORD)).status == 200


async def test_on_many_unknown_names_from_one_address(world: World, hashed: Counted) -> None:
    began = time.monotonic()
    answers = await flood(world, lambda number: f"user{number}", lambda _: "192.0.2.1")
    check(answers, hashed, PER_ADDRESS, time.monotonic() - began)
    assert (await attempt(world, "grace", "192.0.2.2", PASSWORD)).status == 200


async def test_from_many_addresses_at_one_account(world: World, hashed: Counted) -> None:
    """Its owner gets in all the same from where they signed in before."""
    assert (await attempt(world, "ada", "203.0.113.5", PASSWORD)).status == 200
    hashed.calls = 0
    began = time.monotonic()
    answers = await flood(world, lambda _: "ada", ipv4, FEWER)
    check(answers, hashed, PER_ACCOUNT, time.monotonic() - began)
    assert (await attempt(world, "grace", "192.0.2.2", PASSWORD)).status == 200
    assert (await attempt(world, "ada", "203.0.113.5", PASSWORD)).status == 200


async def test_all_spellings_of_a_name_are_one(world: World, hashed: Counted) -> None:
    spellings = ["ada", "ADA", "\uff41da", "ada@example.com", " Ada ", "ADA@Example.COM", "\uff41da\uff20example.com"]
    began = time.monotonic()
    answers = await flood(world, lambda number: spellings[number % len(spellings)], ipv4, FEWER)
    check(answers, hashed, PER_ACCOUNT, time.monotonic() - began)


@pytest.mark.parametrize(
    "addresses",
    [
        lambda number: f"2001:db8:1:2::{number:x}",
        lambda number: f"2001:db8:1:2:{number:x}:{number * 7 % 65536:x}:{number * 13 % 65536:x}:1",
        lambda number: f"2001:0DB8:0001:0002:0000:0000:0000:{number:04X}",
    ],
)
async def test_a_household_that_changes_its_address_is_one(
    world: World, hashed: Counted, addresses: Callable[[int], str]
) -> None:
    began = time.monotonic()
    answers = await flood(world, lambda number: f"user{number}", addresses, FEWER)
    check(answers, hashed, PER_ADDRESS, time.monotonic() - began)
    assert (await attempt(world, "grace", "2001:db8:1:3::1", PASSWORD)).status == 200


async def test_from_many_addresses_on_many_names(world: World, hashed: Counted) -> None:
    """Nothing tells these apart from as many people: each is answered, in bounded memory."""
    answers = await flood(world, lambda number: f"user{number}", ipv4, FEWER)
    assert {answer.status for answer in answers} == {401}
    assert hashed.calls == FEWER
    assert (await attempt(world, "ada", "203.0.113.5", PASSWORD)).status == 200


async def test_registrations_are_limited_before_anything_is_hashed(world: World, hashed: Counted) -> None:
    began = time.monotonic()
    statuses = []
    for number in range(200):
        body = {"email": f"u{number}@example.com", "username": f"user{number}", "password": PASSWORD}
        answer = await world.call("POST", "/api/auth/register", json=body, X_Forwarded_For="192.0.2.1")
        statuses.append(answer.status)
    assert set(statuses) == {201, 429}
    assert hashed.calls == statuses.count(201)
    assert hashed.calls <= PER_ADDRESS + PER_ADDRESS * (time.monotonic() - began) / SECONDS + 1


async def test_who_waited_as_told_gets_one_more(autojump_clock: trio.testing.MockClock) -> None:
    attempts = Attempts(PER_ACCOUNT, SECONDS, now=trio.current_time)
    for _ in range(PER_ACCOUNT):
        attempts.take("ada")
    for _ in range(20):
        with pytest.raises(TooManyError) as refusal:
            attempts.take("ada")
        assert refusal.value.retry_after is not None
        await trio.sleep(refusal.value.retry_after)
        attempts.take("ada")


def test_a_million_names_take_no_more_room_than_the_limit() -> None:
    attempts = Attempts(PER_ACCOUNT, SECONDS)
    for number in range(MOST_KEYS + 10_000):
        attempts.take(f"name {number}")
    assert len(attempts._buckets) <= MOST_KEYS
