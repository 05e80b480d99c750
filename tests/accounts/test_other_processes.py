"""What another process does to accounts and sessions is heard here, without asking the store on every request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
import trio

from tests.accounts.house import PASSWORD, House, principal_of, register
from zlh.accounts import AccountServices
from zlh.model.errors import UnauthenticatedError
from zlh.store import accounts as rows
from zlh.store import sessions


@dataclass
class Ends:
    name: str
    seen: list[str]

    def __call__(self, code: int, reason: str) -> None:
        self.seen.append(f"{self.name} {code}")


async def until(condition: object) -> None:
    with trio.fail_after(5):
        while not condition():  # type: ignore[operator] # noqa: ASYNC110 - another process decides
            await trio.sleep(0.01)


async def test_an_account_and_its_suspension_are_heard(house: House) -> None:
    here, elsewhere = await house.open(), await house.open()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.accounts.follow)
        signed_in = await register(elsewhere)
        await until(lambda: _knows(here, signed_in.token))
        await house.database.run(rows.suspend, signed_in.account.id, datetime.now(UTC))
        await until(lambda: here.access.suspended(principal_of(here, signed_in)))
        nursery.cancel_scope.cancel()


async def test_a_revoked_session_is_heard(house: House) -> None:
    here = await house.open()
    signed_in = await register(here)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.sessions.follow)
        await house.database.run(sessions.revoke, signed_in.session_id, datetime.now(UTC), because="elsewhere")
        await until(lambda: not _knows(here, signed_in.token))
        nursery.cancel_scope.cancel()
    with pytest.raises(UnauthenticatedError):
        principal_of(here, signed_in)


async def test_sessions_that_another_process_ends_end_open_connections_here(house: House) -> None:
    here, elsewhere = await house.open(), await house.open()
    first = await register(here)
    second = await here.sign_in.login(identifier="ada", password=PASSWORD)
    await elsewhere.load()
    ended: list[str] = []
    for name, signed_in in (("first", first), ("second", second)):
        grant = here.access.stay(principal_of(here, signed_in))
        grant.on_end(Ends(name, ended))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.sessions.follow)
        await elsewhere.sessions.end_all(principal_of(elsewhere, second), keep_current=True)
        await until(lambda: ended)
        nursery.cancel_scope.cancel()
    assert ended == ["first 4401"]
    assert _knows(here, second.token)


def _knows(people: AccountServices, token: str) -> bool:
    try:
        people.access.principal(token)
    except UnauthenticatedError:
        return False
    return True
