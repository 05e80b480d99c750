"""No answer tells a stranger whether somebody has an account; the one exception is a registration under that name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.api.world import PAPER, PASSWORD, Answer, World, open_world
from zlh.accounts import Passwords
from zlh.store import containers

MISSING = "nobody"

Ask = Callable[[World, str, str], Awaitable[Answer]]


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    async with open_world(postgres_url, mail=True, portal_url="https://portal.example") as world:
        yield world


async def login(world: World, name: str, _token: str) -> Answer:
    return await world.call("POST", "/api/auth/login", json={"identifier": name, "password": "wrong one"})


async def login_by_address(world: World, name: str, _token: str) -> Answer:
    return await login(world, f"{name}@example.com", _token)


async def login_with_code(world: World, name: str, _token: str) -> Answer:
    body = {"identifier": name, "password": "wrong one", "totp": "123456"}
    return await world.call("POST", "/api/auth/login", json=body)


async def forgot(world: World, name: str, _token: str) -> Answer:
    return await world.call("POST", "/api/auth/password/forgot", json={"email": f"{name}@example.com"})


async def share(world: World, name: str, token: str) -> Answer:
    body = {"email": f"{name}@example.com", "permissions": ["power"]}
    return await world.call("POST", "/api/servers/5001/shares", token, body)


async def change_email(world: World, name: str, token: str) -> Answer:
    body = {"email": f"{name}@example.com", "password": PASSWORD}
    return await world.call("POST", "/api/auth/email", token, body)


ASKS: list[Ask] = [login, login_by_address, login_with_code, forgot, change_email]


def said(answer: Answer, name: str) -> Any:
    """All of an answer but what has to be different."""
    body = answer.json
    if "requestId" in body:
        body["requestId"] = ""
    headers = sorted(header.lower() for header, _ in answer.headers)
    return answer.status, str(body).replace(name, "NAME"), headers


async def people(world: World) -> str:
    """Somebody with an account, and one who is suspended; the token of another one."""
    await world.account("ada")
    gone, _ = await world.account("gone")
    await world.suspend(gone)
    _, token = await world.account("asking")
    return token


@pytest.mark.parametrize("ask", ASKS, ids=lambda ask: ask.__name__)
async def test_the_same_is_said_and_the_same_is_hashed(
    world: World, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await people(world)
    compared: list[str | None] = []
    inner = Passwords.verify

    async def verify(self: Passwords, stored: str | None, password: str) -> bool:
        compared.append(stored)
        return await inner(self, stored, password)

    monkeypatch.setattr(Passwords, "verify", verify)
    found = {}
    for name in ("ada", "gone", MISSING):
        compared.clear()
        found[name] = (said(await ask(world, name, token), name), len(compared))
    assert found["ada"] == found[MISSING]
    assert found["gone"] == found[MISSING]


async def test_a_share_says_the_same(world: World) -> None:
    await people(world)
    grace, token = await world.account("grace")
    await world.services.database.run(containers.insert, [world.fleet.add(grace, PAPER)])
    there = (await share(world, "ada", token), await share(world, MISSING, token))
    assert [answer.status for answer in there] == [201, 201]
    assert [sorted(answer.json) for answer in there] == [sorted(there[0].json)] * 2


async def test_only_a_registration_tells(world: World) -> None:
    """It has to: the name is taken. What it costs is the limit of attempts."""
    await people(world)
    body = {"email": "ada@example.com", "username": "ada", "password": PASSWORD}
    taken = await world.call("POST", "/api/auth/register", json=body)
    free = await world.call("POST", "/api/auth/register", json=body | {"email": "new@example.com", "username": "new"})
    assert (taken.status, taken.json["code"], free.status) == (409, "taken", 201)
