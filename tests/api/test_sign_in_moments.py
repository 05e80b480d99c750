"""Two things at the same moment: whichever comes first, nobody keeps a right that was taken away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
import trio

from tests.api.world import PASSWORD, Answer, World
from zlh.accounts import Passwords
from zlh.accounts.oversight import Overseer
from zlh.model.accounts import Account, Role
from zlh.store import accounts as rows
from zlh.store import sessions
from zlh.store.tables import refresh_tokens
from zlh.store.tables import sessions as session_rows

NEW_PASSWORD = "a better one of mine"
MALLORY = Overseer(Role.ADMIN)


async def login(world: World, password: str = PASSWORD) -> Answer:
    return await world.call("POST", "/api/auth/login", json={"identifier": "ada", "password": password})


async def refresh(world: World, token: str) -> Answer:
    return await world.call("POST", "/api/auth/refresh", json={"refreshToken": token})


async def status_of(world: World, token: str, path: str = "/api/auth/api-keys") -> int:
    return (await world.call("GET", path, token)).status


@contextmanager
def once_verified(monkeypatch: pytest.MonkeyPatch, event: Callable[[], Awaitable[Any]]) -> Iterator[None]:
    """`event` happens once, when a password was just found right, and before that leads to anything."""
    inner = Passwords.verify

    async def verify(self: Passwords, stored: str | None, password: str) -> bool:
        right = await inner(self, stored, password)
        if right:
            patched.setattr(Passwords, "verify", inner)
            await event()
        return right

    with monkeypatch.context() as patched:
        patched.setattr(Passwords, "verify", verify)
        yield


async def test_a_suspension_while_the_password_is_hashed_holds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, _ = await world.account("ada")
    with once_verified(monkeypatch, lambda: world.services.people.oversight.suspend(MALLORY, ada.id)):
        answer = await login(world)
    assert answer.status == 200
    assert await status_of(world, answer.json["token"]) == 403


async def test_who_is_disabled_while_the_password_is_hashed_is_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, token = await world.account("ada")
    with once_verified(monkeypatch, lambda: world.services.people.oversight.disable(MALLORY, ada.id)):
        answer = await login(world)
    assert (answer.status, answer.json["code"]) == (401, "wrong_credentials")
    assert await status_of(world, token) == 401


async def test_the_old_password_opens_nothing_once_there_is_a_new_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, _ = await world.account("ada")
    reset = lambda: world.services.people.oversight.reset_password(MALLORY, ada.id, NEW_PASSWORD)  # noqa: E731
    with once_verified(monkeypatch, reset):
        answer = await login(world)
    assert (answer.status, answer.json["code"]) == (401, "wrong_credentials")
    assert (await login(world)).status == 401
    assert (await login(world, NEW_PASSWORD)).status == 200


async def test_a_hash_that_is_renewed_does_not_bring_the_old_password_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, _ = await world.account("ada")
    monkeypatch.setattr(Passwords, "outdated", lambda self, stored: True)
    reset = lambda: world.services.people.oversight.reset_password(MALLORY, ada.id, NEW_PASSWORD)  # noqa: E731
    with once_verified(monkeypatch, reset):
        assert (await login(world)).status == 401
    assert (await login(world)).status == 401


async def test_a_suspension_in_the_middle_of_a_refresh_holds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refresh has read the account; when it tells the table, what it read is old."""
    ada, _ = await world.account("ada")
    token = (await login(world)).json["refreshToken"]
    inner = rows.by_id

    def by_id(connection: sa.Connection, account_id: int) -> Account | None:
        found = inner(connection, account_id)
        monkeypatch.setattr(rows, "by_id", inner)
        trio.from_thread.run(world.services.people.oversight.suspend, MALLORY, ada.id)
        return found

    monkeypatch.setattr(rows, "by_id", by_id)
    answer = await refresh(world, token)
    assert rows.by_id is inner
    assert await status_of(world, answer.json["token"]) == 403


async def test_many_refreshes_of_one_token_at_once(world: World) -> None:
    """Tabs of one browser: nobody is signed out, and it stays one session."""
    ada, _ = await world.account("ada")
    first = (await login(world)).json["refreshToken"]
    answers: list[Answer] = []

    async def one() -> None:
        answers.append(await refresh(world, first))

    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(one)
    good = [answer for answer in answers if answer.status == 200]
    assert {answer.status for answer in answers} <= {200, 429}
    assert len(good) >= 10
    for answer in answers:
        if answer.status == 429:
            assert int(answer.headers["Retry-After"]) >= 1
    assert len({answer.json["refreshToken"] for answer in good}) == len(good)

    def counted(connection: sa.Connection) -> tuple[int, int]:
        live = len(sessions.active(connection, ada.id, ada.created_at))
        return live, connection.execute(sa.select(sa.func.count()).select_from(refresh_tokens)).scalar_one()

    live, tokens = await world.services.database.run(counted)
    assert live == 2
    assert tokens == 2 + len(good)
    assert await status_of(world, good[0].json["token"]) == 200
    assert (await refresh(world, good[-1].json["refreshToken"])).status == 200


async def test_a_storm_with_a_spent_token_ends_the_session_once(world: World) -> None:
    await world.account("ada")
    first = (await login(world)).json
    second = (await refresh(world, first["refreshToken"])).json

    def long_ago(connection: sa.Connection) -> None:
        earlier = session_rows.c.rotated_at - sa.text("interval '1 minute'")
        connection.execute(sa.update(session_rows).values(rotated_at=earlier))

    await world.services.database.run(long_ago)
    statuses: list[int] = []

    async def one() -> None:
        statuses.append((await refresh(world, first["refreshToken"])).status)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one)
    assert set(statuses) == {401}
    assert (await refresh(world, second["refreshToken"])).status == 401
    assert await status_of(world, second["token"]) == 401


@pytest.mark.parametrize("round_number", range(10))
async def test_a_logout_during_a_refresh_ends_it_too(world: World, round_number: int) -> None:
    await world.account("ada")
    signed_in = (await login(world)).json
    refreshed: list[Answer] = []

    async def one() -> None:
        refreshed.append(await refresh(world, signed_in["refreshToken"]))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(one)
        await trio.sleep(0.002 * round_number)
        assert (await world.call("POST", "/api/auth/logout", signed_in["token"])).status == 200
    assert {answer.status for answer in refreshed} <= {200, 401}
    for answer in refreshed:
        if answer.status == 200:
            assert await status_of(world, answer.json["token"]) == 401
            assert (await refresh(world, answer.json["refreshToken"])).status == 401
    assert await status_of(world, signed_in["token"]) == 401


async def test_two_who_want_one_name_at_once(world: World) -> None:
    """One gets it; of the other one nothing is left."""
    answers: list[Answer] = []

    async def one(number: int) -> None:
        spelled = ("Ada", "ADA", "ada", "aDa", "adA")[number]
        body = {"email": f"{spelled}@example.com", "username": spelled, "password": PASSWORD}
        answers.append(await world.call("POST", "/api/auth/register", json=body))

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(one, number)
    assert sorted(answer.status for answer in answers) == [201, 409, 409, 409, 409]
    assert len(await world.services.database.run(rows.all_accounts)) == 1
    (winner,) = (answer for answer in answers if answer.status == 201)
    assert await status_of(world, winner.json["token"]) == 200
