"""Whatever keys there are and whatever the time is: somebody signs, and nothing good is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from zlh.accounts.key_life import KeyRules, KeyState, ends, next_is_due, states
from zlh.store.keys import SigningKey

AT = datetime(2026, 1, 1, tzinfo=UTC)
ALIVE = timedelta(seconds=660)
LIFETIME = timedelta(seconds=600)
RULES = KeyRules(timedelta(days=90), timedelta(hours=1))


def key(kid: str, signs_at: datetime, withdrawn_at: datetime | None = None) -> SigningKey:
    return SigningKey(kid, b"", "", min(AT, signs_at), signs_at, withdrawn_at)


def seconds(least: int = -5000, most: int = 5000) -> st.SearchStrategy[datetime]:
    return st.integers(least, most).map(lambda offset: AT + timedelta(seconds=offset))


times = seconds()
keyrings = st.lists(st.tuples(times, st.none() | times), min_size=1, max_size=6).map(
    lambda found: [key(f"k{number}", *each) for number, each in enumerate(found)]
)


def test_one_life() -> None:
    old, new = key("old", AT), key("new", AT + timedelta(hours=1))
    seen = [
        (found["old"].value, found["new"].value)
        for minutes in (0, 59, 60, 70, 72)
        for found in [states([new, old], AT + timedelta(minutes=minutes), ALIVE)]
    ]
    assert seen == [
        ("signing", "published"),
        ("signing", "published"),
        ("retired", "signing"),
        ("retired", "signing"),
        ("forgotten", "signing"),
    ]


@given(keyrings, times)
def test_one_signs_unless_all_were_withdrawn(keys: list[SigningKey], now: datetime) -> None:
    found = states(keys, now, ALIVE)
    assert found.keys() == {each.kid for each in keys}
    usable = [each for each in keys if each.withdrawn_at is None]
    signing = [each for each in keys if found[each.kid] is KeyState.SIGNING]
    assert len(signing) == (1 if usable else 0)
    for each in keys:
        assert (found[each.kid] is KeyState.WITHDRAWN) is (each.withdrawn_at is not None)
        if found[each.kid] is KeyState.PUBLISHED:
            assert each.signs_at >= signing[0].signs_at
    if any(each.signs_at <= now for each in usable):
        assert signing[0].signs_at == max(each.signs_at for each in usable if each.signs_at <= now)


@given(keyrings, times, st.integers(-30, 30), st.integers(0, 599))
def test_what_one_process_signs_another_verifies_for_its_whole_life(
    keys: list[SigningKey], now: datetime, apart: int, age: int
) -> None:
    """The clock of the second is up to half a minute before or behind the first's."""
    signing = [kid for kid, state in states(keys, now, ALIVE).items() if state is KeyState.SIGNING]
    later = now + timedelta(seconds=apart + age)
    for kid in signing:
        assert states(keys, later, ALIVE)[kid].verifies


@given(keyrings, times)
def test_the_next_is_made_once_and_in_time(keys: list[SigningKey], now: datetime) -> None:
    rules = KeyRules(timedelta(seconds=2000), timedelta(seconds=500))
    due = next_is_due(keys, now, rules)
    if KeyState.PUBLISHED in states(keys, now, ALIVE).values():
        assert not due
    if due:
        made = key("next", now + rules.lead)
        assert not next_is_due([*keys, made], now, rules)


def test_when_the_next_is_due() -> None:
    only = key("only", AT)
    due = AT + timedelta(days=90) - timedelta(hours=1)
    assert not next_is_due([only], due - timedelta(seconds=1), RULES)
    assert next_is_due([only], due, RULES)
    assert next_is_due([], AT, RULES)
    assert next_is_due([key("stolen", AT, AT)], AT, RULES)


def test_every_process_has_heard_of_a_key_before_it_signs() -> None:
    assert KeyRules(notice=timedelta(0)).lead == timedelta(seconds=5)


@given(keyrings, times)
def test_when_a_key_ends_is_known_beforehand(keys: list[SigningKey], now: datetime) -> None:
    until = ends(keys, ALIVE)
    found = states(keys, now, ALIVE)
    assert {kid for kid, state in found.items() if state.verifies} == {
        kid for kid, end in until.items() if now.timestamp() <= end
    }
