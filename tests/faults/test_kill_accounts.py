"""`kill -9` of the API around every write that concerns accounts, then a restart: what was answered holds, and what
was not is whole or not there at all.

As in `test_kill`: a first run records the places, then the API dies at each of them. Letters are owed to a submission
server that nobody answers at, so that they are still to be seen afterwards.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
import psycopg
import pytest
import trio

from tests.faults.points import ACCOUNTS
from tests.faults.world import PASSWORD, ROOT, World, free_port, open_world
from zlh.store.urls import libpq_url

pytestmark = pytest.mark.faults

NEW_PASSWORD = "another one for tests"
LANES = 2


@dataclass
class Town:
    """A world with a container of `owner`'s, and somebody called `friend`; the API in it may die at any moment."""

    world: World
    vmid: int

    async def call(self, method: str, path: str, body: object = None, token: str = "") -> httpx.Response:
        async with self.world.client() as client:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            return await client.request(method, path, json=body, headers=headers)

    async def sign_in(self, name: str, password: str = PASSWORD) -> httpx.Response:
        return await self.call("POST", "/api/auth/login", {"identifier": name, "password": password})

    async def tokens(self, name: str, password: str = PASSWORD) -> tuple[str, str]:
        """(access token, refresh token)"""
        answer = await self.sign_in(name, password)
        assert answer.status_code == 200, answer.text
        return answer.json()["token"], answer.json()["refreshToken"]

    async def refresh(self, token: str) -> httpx.Response:
        return await self.call("POST", "/api/auth/refresh", {"refreshToken": token})

    async def register(self, name: str) -> httpx.Response:
        body = {"email": f"{name}@example.com", "username": name, "password": PASSWORD}
        return await self.call("POST", "/api/auth/register", body)

    async def works(self, token: str) -> bool:
        return (await self.call("GET", "/api/servers", token=token)).status_code == 200

    async def one(self, query: str, *parameters: object) -> Any:
        """The one value that the database answers with."""

        def ask() -> Any:
            with psycopg.connect(libpq_url(self.world.settings["ZLH_DATABASE_URL"])) as connection:
                row = connection.execute(query.encode(), parameters).fetchone()
            assert row is not None
            return row[0]

        return await trio.to_thread.run_sync(ask)

    async def owed(self, kind: str, name: str) -> int:
        """How many letters of that kind are owed to somebody."""
        query = "SELECT count(*) FROM outbox WHERE kind = %s AND recipient = %s"
        return int(await self.one(query, kind, f"{name}@example.com"))


class Journey(Protocol):
    """`act` is what the API dies in; `look` returns what is wrong afterwards, `answer` being what came before the
    death. A new one is made for each death."""

    def __init__(self, town: Town, name: str) -> None: ...

    async def prepare(self) -> None: ...

    async def act(self) -> httpx.Response: ...

    async def look(self, answer: httpx.Response | None) -> list[str]: ...


class Registration:
    def __init__(self, town: Town, name: str) -> None:
        self.town, self.name = town, name

    async def prepare(self) -> None:
        pass

    async def act(self) -> httpx.Response:
        return await self.town.register(self.name)

    async def look(self, answer: httpx.Response | None) -> list[str]:
        """Whoever got no answer registers again: either way there is one whole account, and one letter to it."""
        town, problems = self.town, []
        if answer is not None and not await town.works(answer.json()["token"]):
            problems.append("the access token that was answered does not work")
        again = await town.register(self.name)
        if again.status_code != (201 if answer is None and again.status_code == 201 else 409):
            problems.append(f"registering again: {again.status_code}")
        if (await town.sign_in(self.name)).status_code != 200:
            problems.append("nobody can sign in")
        if (letters := await town.owed("verify_address", self.name)) != 1:
            problems.append(f"{letters} letters are owed")
        if not await town.one("SELECT count(*) FROM audit WHERE action = 'account.register'"):
            problems.append("the record does not know of it")
        return problems


class SigningIn:
    def __init__(self, town: Town, name: str) -> None:
        self.town, self.name = town, name

    async def prepare(self) -> None:
        assert (await self.town.register(self.name)).status_code == 201

    async def act(self) -> httpx.Response:
        return await self.town.sign_in(self.name)

    async def look(self, answer: httpx.Response | None) -> list[str]:
        problems = []
        if answer is not None:
            if not await self.town.works(answer.json()["token"]):
                problems.append("the access token that was answered does not work")
            if (await self.town.refresh(answer.json()["refreshToken"])).status_code != 200:
                problems.append("the refresh token that was answered does not work")
        if (await self.town.sign_in(self.name)).status_code != 200:
            problems.append("nobody can sign in")
        return problems


class Refreshing:
    """The client goes on with what it was answered, or with what it had: the answer that got lost was not the end."""

    def __init__(self, town: Town, name: str) -> None:
        self.town, self.name, self.had = town, name, ""

    async def prepare(self) -> None:
        assert (await self.town.register(self.name)).status_code == 201
        _, self.had = await self.town.tokens(self.name)

    async def act(self) -> httpx.Response:
        return await self.town.refresh(self.had)

    async def look(self, answer: httpx.Response | None) -> list[str]:
        problems = []
        token = self.had if answer is None else answer.json()["refreshToken"]
        for _ in range(2):
            following = await self.town.refresh(token)
            if following.status_code != 200:
                return [*problems, f"going on: {following.status_code} {following.text}"]
            token = following.json()["refreshToken"]
            if not await self.town.works(following.json()["token"]):
                problems.append("the access token does not work")
        return problems


class PasswordChange:
    """Either the old password and every session are as they were, or the new one and only the session that asked."""

    def __init__(self, town: Town, name: str) -> None:
        self.town, self.name = town, name
        self.asking = self.other = ("", "")

    async def prepare(self) -> None:
        assert (await self.town.register(self.name)).status_code == 201
        self.asking = await self.town.tokens(self.name)
        self.other = await self.town.tokens(self.name)

    async def act(self) -> httpx.Response:
        body = {"currentPassword": PASSWORD, "newPassword": NEW_PASSWORD}
        return await self.town.call("POST", "/api/auth/password", body, self.asking[0])

    async def look(self, answer: httpx.Response | None) -> list[str]:
        town = self.town
        changed = (await town.sign_in(self.name, NEW_PASSWORD)).status_code == 200
        found = {
            "old password": (await town.sign_in(self.name)).status_code == 200,
            "other session's access token": await town.works(self.other[0]),
            "other session's refresh token": (await town.refresh(self.other[1])).status_code == 200,
            "no letter": await town.owed("password_changed", self.name) == 0,
        }
        problems = [f"changed: {changed}, but {what}: {there}" for what, there in found.items() if there is changed]
        if answer is not None and not changed:
            problems.append("it was answered and is not so")
        if not await town.works(self.asking[0]):
            problems.append("the session that asked has ended")
        if changed and not await town.one("SELECT count(*) FROM audit WHERE action = 'password.change'"):
            problems.append("the record does not know of it")
        return problems


class Withdrawal:
    """A share that was withdrawn stays so; one that is still listed still works."""

    def __init__(self, town: Town, name: str) -> None:
        self.town, self.share = town, ""
        self.owner = self.friend = ""

    @property
    def path(self) -> str:
        return f"/api/servers/{self.town.vmid}/shares"

    async def prepare(self) -> None:
        self.owner, _ = await self.town.tokens("owner")
        self.friend, _ = await self.town.tokens("friend")
        body = {"email": "friend@example.com", "permissions": ["power", "console"]}
        given = await self.town.call("POST", self.path, body, self.owner)
        assert given.status_code == 201, given.text
        self.share = given.json()["share"]["id"]
        assert await self._seen()

    async def act(self) -> httpx.Response:
        return await self.town.call("DELETE", f"{self.path}/{self.share}", token=self.owner)

    async def look(self, answer: httpx.Response | None) -> list[str]:
        problems = []
        listed = (await self.town.call("GET", self.path, token=self.owner)).json()["shares"]
        if answer is not None and listed:
            problems.append("it was withdrawn, and is there")
        if await self._seen() != bool(listed):
            problems.append(f"listed: {bool(listed)}, but the friend sees it: {not listed}")
        if listed:
            await self.act()
        if await self._seen():
            problems.append("it cannot be withdrawn")
        return problems

    async def _seen(self) -> bool:
        answer = await self.town.call("GET", f"/api/servers/{self.town.vmid}", token=self.friend)
        return answer.status_code == 200


class Sharing(Withdrawal):
    """A share is there with the letter that tells of it, or neither is."""

    async def prepare(self) -> None:
        self.owner, _ = await self.town.tokens("owner")
        self.friend, _ = await self.town.tokens("friend")
        self.letters = await self.town.owed("share_received", "friend")

    async def act(self) -> httpx.Response:
        body = {"email": "friend@example.com", "permissions": ["power"]}
        return await self.town.call("POST", self.path, body, self.owner)

    async def look(self, answer: httpx.Response | None) -> list[str]:
        problems = []
        listed = (await self.town.call("GET", self.path, token=self.owner)).json()["shares"]
        if answer is not None and not listed:
            problems.append("it was given, and is not there")
        if await self._seen() != bool(listed):
            problems.append(f"listed: {bool(listed)}, but the friend sees it: {not listed}")
        if await self.town.owed("share_received", "friend") - self.letters != len(listed):
            problems.append("the letter is not owed, or too many are")
        for share in listed:
            await self.town.call("DELETE", f"{self.path}/{share['id']}", token=self.owner)
        return problems


JOURNEYS: tuple[type[Journey], ...] = (Registration, SigningIn, Refreshing, PasswordChange, Sharing, Withdrawal)


async def test_a_kill_at_any_write_is_survived(capsys: pytest.CaptureFixture[str]) -> None:
    todo: list[tuple[type[Journey], str]] = []
    outcomes: list[tuple[str, str, list[str]]] = []
    recorded = trio.Event()
    numbers = itertools.count(1)

    async def lane(number: int) -> None:
        async with open_town() as town:
            pid = await town.world.start()
            if number == 0:
                for kind in JOURNEYS:
                    places = await record(town, kind(town, f"user{next(numbers)}"), pid)
                    todo.extend((kind, place) for place in places)
                recorded.set()
            await recorded.wait()
            while todo:
                kind, place = todo.pop(0)
                pid, problems = await die_at(town, kind(town, f"user{next(numbers)}"), place, pid)
                outcomes.append((kind.__name__, place, problems))
            await town.world.kill(pid)

    async with trio.open_nursery() as nursery:
        for number in range(LANES):
            nursery.start_soon(lane, number)
    with capsys.disabled():
        print()
        for name, place, problems in sorted(outcomes):
            print(f"{name:<15} {place:<60} {'; '.join(problems) or 'holds'}")
    assert {name for name, _, _ in outcomes} == {kind.__name__ for kind in JOURNEYS}
    assert len(outcomes) > 25
    assert [outcome for outcome in outcomes if outcome[2]] == []


async def record(town: Town, journey: Journey, pid: int) -> list[str]:
    """The places that the journey passes when nothing goes wrong."""
    file = town.world.folder / "places"
    await trio.Path(file).unlink(missing_ok=True)
    await journey.prepare()
    town.world.arm(pid, record=file)
    answer = await journey.act()
    assert answer.is_success, answer.text
    town.world.arm(pid)
    assert await journey.look(answer) == []
    return (await trio.Path(file).read_text()).splitlines()


async def die_at(town: Town, journey: Journey, place: str, pid: int) -> tuple[int, list[str]]:
    """The pid of the API that lives on, and what is wrong after the death of the former."""
    await journey.prepare()
    town.world.arm(pid, target=place)
    answer = None
    try:
        answer = await journey.act()
    except httpx.TransportError:
        pass
    if await town.world.death(pid, within=5.0) is None:
        return pid, ["this place was not passed"]
    pid = await town.world.start()
    try:
        return pid, await journey.look(answer)
    except (httpx.HTTPError, AssertionError, KeyError) as error:
        return pid, [f"{type(error).__name__}: {error}"]


@asynccontextmanager
async def open_town() -> AsyncIterator[Town]:
    async with open_world() as world:
        world.settings |= {
            ACCOUNTS: "yes",
            "ZLH_SERVER_PORTAL_URL": "https://portal.example",
            "ZLH_MAIL_MODE": "smtp",
            "ZLH_MAIL_SMTP_HOST": "127.0.0.1",
            "ZLH_MAIL_SMTP_PORT": str(free_port()),
            "ZLH_MAIL_SMTP_SECURITY": "none",
            "ZLH_ACCOUNTS_ATTEMPTS_PER_ACCOUNT": "10000",
            "ZLH_ACCOUNTS_ATTEMPTS_PER_ADDRESS": "100000",
        }
        for name in ("owner", "friend"):
            await make_account(world, name)
        (vmid,) = await world.seed(1)
        yield Town(world, vmid)


async def make_account(world: World, name: str) -> None:
    """By the program's own command: the address counts as verified."""
    environment = {key: value for key, value in world.settings.items() if key != ACCOUNTS}
    await trio.run_process(
        [sys.executable, "-m", "zlh", "user", "create", f"{name}@example.com", name, "--plan", "unlimited"],
        env={**os.environ, **environment, "ZLH_PASSWORD": PASSWORD},
        cwd=ROOT,
        capture_stdout=True,
    )
