"""API keys over a real database: other processes hear of them, and restarts remember them."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
import trio

from tests.accounts.house import House, principal_of, register
from tests.accounts.test_other_processes import until
from zlh.accounts import AccountServices
from zlh.accounts.api_keys import LONGEST_LIFE
from zlh.model.access import Scope
from zlh.model.accounts import Principal
from zlh.model.errors import InvalidError, UnauthenticatedError
from zlh.store import StoreUnavailable, api_keys, upkeep
from zlh.store.api_keys import KeyUse
from zlh.store.tables import api_keys as table

FILES = frozenset({Scope.FILES})


async def make(people: AccountServices, principal: Principal, **changes: object) -> tuple[str, str]:
    """A key's id and the key."""
    wanted = {"name": "x", "scopes": FILES, "expires_at": None, **changes}
    key, token = await people.api_keys.create(principal, **wanted)  # type: ignore[arg-type] # as the caller says
    return key.id, token


def knows(people: AccountServices, token: str) -> bool:
    try:
        people.access.principal(token)
    except UnauthenticatedError:
        return False
    return True


async def test_a_restart_remembers_keys_and_their_ends(house: House) -> None:
    before = await house.open()
    ada = principal_of(before, await register(before))
    _, kept = await make(before, ada)
    revoked_id, revoked = await make(before, ada)
    _, expired = await make(before, ada, expires_at=house.clock.now + timedelta(hours=1))
    await before.api_keys.revoke(ada, revoked_id)
    house.clock.advance(hours=2)
    after = await house.open()
    await after.load()
    assert [knows(after, token) for token in (kept, revoked, expired)] == [True, False, False]
    assert after.access.principal(kept).scopes == FILES


async def test_what_another_process_makes_and_revokes_is_heard(house: House) -> None:
    here, elsewhere = await house.open(), await house.open()
    ada = principal_of(here, await register(here))
    await here.load()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.api_keys.follow)
        key_id, token = await make(elsewhere, ada)
        await until(lambda: knows(here, token))
        ends: list[int] = []
        here.access.stay(here.access.principal(token)).on_end(lambda code, reason: ends.append(code))
        await elsewhere.api_keys.revoke(ada, key_id)
        await until(lambda: ends)
        nursery.cancel_scope.cancel()
    assert ends == [4401]
    assert not knows(here, token)


async def test_to_listen_again_is_to_read_everything_again(house: House) -> None:
    here, elsewhere = await house.open(), await house.open()
    ada = principal_of(here, await register(here))
    key_id, lost = await make(here, ada)
    _, kept = await make(here, ada)
    await elsewhere.load()
    await elsewhere.api_keys.revoke(ada, key_id)
    _, new = await make(elsewhere, ada)
    await here.api_keys.load()
    assert [knows(here, token) for token in (lost, kept, new)] == [False, True, True]


async def test_making_revoking_and_reading_at_once_agree(house: House) -> None:
    """Whatever a reading saw before a revocation is over when both are done."""
    people = await house.open()
    ada = principal_of(people, await register(people))
    revoked: list[str] = []
    kept: list[str] = []

    async def one(number: int) -> None:
        key_id, token = await make(people, ada)
        if number % 2:
            kept.append(token)
        else:
            await people.api_keys.revoke(ada, key_id)
            revoked.append(token)
            assert not knows(people, token)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(one, number)
            nursery.start_soon(people.api_keys.load)
    assert all(knows(people, token) for token in kept)
    assert not any(knows(people, token) for token in revoked)


async def test_scopes_of_a_later_release_are_none_here(house: House) -> None:
    people = await house.open()
    ada = principal_of(people, await register(people))
    _, token = await make(people, ada)
    await house.database.run(
        lambda connection: connection.execute(sa.update(table).values(scopes=["files", "teleport"]))
    )
    after = await house.open()
    await after.load()
    assert after.access.principal(token).scopes == FILES


async def test_an_expiry_is_ahead_and_not_too_far(house: House) -> None:
    people = await house.open()
    ada = principal_of(people, await register(people))
    now = house.clock.now
    for wrong in (now, now - timedelta(seconds=1), now + LONGEST_LIFE + timedelta(seconds=1)):
        with pytest.raises(InvalidError):
            await make(people, ada, expires_at=wrong)
    for right in (now + timedelta(seconds=1), now + LONGEST_LIFE):
        await make(people, ada, expires_at=right)


async def test_only_later_uses_are_recorded_and_only_old_keys_forgotten(house: House) -> None:
    people = await house.open()
    ada = principal_of(people, await register(people))
    now = house.clock.now
    used, _ = await make(people, ada)
    unused, _ = await make(people, ada)
    expired, _ = await make(people, ada, expires_at=now + timedelta(days=1))
    await house.database.run(
        api_keys.record_uses, [KeyUse(used, now, "192.0.2.1"), KeyUse("unknown", now, ""), KeyUse(expired, now, "")]
    )
    await house.database.run(api_keys.record_uses, [KeyUse(used, now - timedelta(seconds=5), "192.0.2.2")])
    shown = {key.id: key for key in await people.api_keys.list(ada)}
    assert (shown[used].last_used_at, shown[used].last_used_address) == (now, "192.0.2.1")
    later = now + timedelta(seconds=5)
    await house.database.run(api_keys.record_uses, [KeyUse(used, later, "")])
    again = {key.id: key for key in await people.api_keys.list(ada)}[used]
    assert (again.last_used_at, again.last_used_address) == (later, "192.0.2.1")
    assert shown[unused].last_used_at is None
    await people.api_keys.revoke(ada, unused)
    for days, left in ((80, {used, expired}), (100, {used})):
        await house.database.run(upkeep.forget_old, now + timedelta(days=days))
        assert {key.id for key in await people.api_keys.list(ada)} == left


async def test_a_database_that_is_away_refuses_changes_and_forgets_none(house: House) -> None:
    people = await house.open()
    ada = principal_of(people, await register(people))
    key_id, token = await make(people, ada)
    await house.database.aclose()
    with pytest.raises((StoreUnavailable, trio.ClosedResourceError)):
        await people.api_keys.revoke(ada, key_id)
    assert knows(people, token)
