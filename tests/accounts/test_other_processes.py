"""What another process does to accounts and sessions is heard here, without asking the store on every request."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import trio

from tests.accounts.test_service import World, register, world
from zlh.accounts import AccessTable
from zlh.model.errors import UnauthenticatedError
from zlh.store import accounts as rows
from zlh.store import sessions

__all__ = ["world"]


async def until(condition: object) -> None:
    with trio.fail_after(5):
        while not condition():  # type: ignore[operator] # noqa: ASYNC110 - another process decides
            await trio.sleep(0.01)


async def test_an_account_and_its_suspension_are_heard(world: World) -> None:
    here = world.service()
    elsewhere = World(world.database, world.tokens, AccessTable(world.tokens), world.clock, world.vault).service()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.follow_accounts)
        signed_in = await register(elsewhere)
        await until(lambda: _knows(world, signed_in.token))
        await world.database.run(rows.suspend, signed_in.account.id, datetime.now(UTC))
        await until(lambda: world.access.suspended(world.access.principal(signed_in.token)))
        nursery.cancel_scope.cancel()


async def test_a_revoked_session_is_heard(world: World) -> None:
    here = world.service()
    signed_in = await register(here)
    session_id = world.access.principal(signed_in.token).session_id
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.follow_sessions)
        await world.database.run(sessions.revoke, session_id, datetime.now(UTC), because="elsewhere")
        await until(lambda: not _knows(world, signed_in.token))
        nursery.cancel_scope.cancel()
    with pytest.raises(UnauthenticatedError):
        world.access.principal(signed_in.token)


def _knows(world: World, token: str) -> bool:
    try:
        world.access.principal(token)
    except UnauthenticatedError:
        return False
    return True
