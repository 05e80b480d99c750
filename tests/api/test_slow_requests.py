"""What a request may do is judged when all of it is there, not when its first line came."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
import trio.testing

from tests.api.world import World
from zlh.accounts import Overseer
from zlh.model.accounts import Account, Role

ROOT = Overseer(Role.ADMIN)
LOSSES: dict[str, tuple[Callable[[World, Account], Awaitable[object]], int]] = {
    "sign-in": (lambda world, who: world.services.people.oversight.sign_out(ROOT, who.id), 401),
    "suspended": (lambda world, who: world.services.people.oversight.suspend(ROOT, who.id), 403),
    "disabled": (lambda world, who: world.services.people.oversight.disable(ROOT, who.id), 401),
    "role": (lambda world, who: world.services.people.oversight.set_role(ROOT, who.id, Role.CUSTOMER), 403),
}


async def slow(
    world: World, path: str, token: str, body: object, meanwhile: Callable[[], Awaitable[object]]
) -> tuple[int, Any]:
    """Status and JSON of the answer to a POST, the rest of whose body comes after `meanwhile`."""
    raw = orjson.dumps(body)
    headers = {"Authorization": f"Bearer {token}", "Content-Length": str(len(raw))}
    async with world.app.test_client().request(path, method="POST", headers=headers) as connection:
        await connection.send(raw[:1])
        await trio.testing.wait_all_tasks_blocked()
        await meanwhile()
        await connection.send(raw[1:])
        await connection.send_complete()
    response = await connection.as_response()
    return response.status_code, orjson.loads(await response.get_data(as_text=False))


@pytest.mark.parametrize("lost", LOSSES)
async def test_what_is_lost_while_the_body_comes_is_lost(world: World, lost: str) -> None:
    ada, _ = await world.account("ada")
    operator, token = await world.account("op", Role.OPERATOR)
    lose, expected = LOSSES[lost]
    path = f"/api/operators/accounts/{ada.id}/suspend"
    status, _ = await slow(world, path, token, {"reason": "a last act"}, lambda: lose(world, operator))
    assert status == expected
    assert (await world.accounts.account(ada.id)).suspended_at is None


async def test_who_keeps_the_right_may_be_slow(world: World) -> None:
    ada, _ = await world.account("ada")
    _, token = await world.account("op", Role.OPERATOR)
    path = f"/api/operators/accounts/{ada.id}/suspend"
    status, answer = await slow(world, path, token, {"reason": "took its time"}, trio.lowlevel.checkpoint)
    assert status == 200
    assert answer["account"]["suspendedAt"] is not None
