from __future__ import annotations

import pytest

from tests.accounts.house import PASSWORD, House, principal_of, register
from zlh.model.accounts import Principal
from zlh.model.errors import AbsentError, UnauthenticatedError


async def test_they_are_listed_the_last_used_first(house: House) -> None:
    people = await house.open()
    first = await register(people, address="192.0.2.1", agent="a")
    house.clock.advance(seconds=5)
    second = await people.sign_in.login(identifier="ada", password=PASSWORD, address="192.0.2.2", agent="b")
    await register(people, "bob")
    principal = principal_of(people, first)
    listed = await people.sessions.of(principal)
    assert [(session.id, session.address, session.agent) for session in listed] == [
        (second.session_id, "192.0.2.2", "b"),
        (first.session_id, "192.0.2.1", "a"),
    ]
    house.clock.advance(seconds=5)
    await people.sign_in.refresh(first.refresh_token, address="192.0.2.9")
    # What is known of a session is where it began.
    assert (await people.sessions.of(principal))[0].address == "192.0.2.1"
    house.clock.advance(days=31)
    assert await people.sessions.of(principal) == []


async def test_one_ends_at_once_and_only_ones_own(house: House) -> None:
    people = await house.open()
    ada, bob = await register(people), await register(people, "bob")
    principal = principal_of(people, ada)
    other = await people.sign_in.login(identifier="ada", password=PASSWORD)
    for session_id in (bob.session_id, "1", "", "a\0b", "0" * 32, "x" * 9000, ada.session_id.upper()):
        with pytest.raises(AbsentError):
            await people.sessions.end(principal, session_id)
    await people.sessions.end(principal, other.session_id)
    with pytest.raises(UnauthenticatedError):
        principal_of(people, other)
    with pytest.raises(UnauthenticatedError):
        await people.sign_in.refresh(other.refresh_token)
    with pytest.raises(AbsentError):
        await people.sessions.end(principal, other.session_id)
    assert principal_of(people, ada) == principal
    assert principal_of(people, bob)


@pytest.mark.parametrize("keep_current", [True, False])
async def test_all_end_but_the_present_one_or_with_it(house: House, keep_current: bool) -> None:
    people = await house.open()
    await register(people, "bob")
    first = await register(people)
    signed = [first, *[await people.sign_in.login(identifier="ada", password=PASSWORD) for _ in range(2)]]
    asking = principal_of(people, signed[1])
    assert await people.sessions.end_all(asking, keep_current=keep_current) == (2 if keep_current else 3)
    for one in signed:
        if keep_current and one is signed[1]:
            assert principal_of(people, one) == asking
            continue
        with pytest.raises(UnauthenticatedError):
            principal_of(people, one)
    if keep_current:
        assert await people.sessions.end_all(asking, keep_current=True) == 0


async def test_a_connection_that_is_open_ends_with_its_session(house: House) -> None:
    people = await house.open()
    ada = await register(people)
    other = await people.sign_in.login(identifier="ada", password=PASSWORD)
    ends: list[tuple[Principal, int]] = []
    for signed in (ada, other):
        grant = people.access.stay(principal_of(people, signed))
        grant.on_end(lambda code, _, who=grant.principal: ends.append((who, code)))  # type: ignore[misc]
    await people.sessions.end(principal_of(people, ada), other.session_id)
    assert [(who.session_id, code) for who, code in ends] == [(other.session_id, 4401)]
