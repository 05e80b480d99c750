"""Harmful input in every place that takes any, by construction over the routes: it is text, or it is refused."""

from __future__ import annotations

import json
import logging
import unicodedata
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

import pytest
import sqlalchemy as sa

from tests.api.hostile import MARK, TEXTS, address, combinations, everything, example, query_fields, raw_bodies
from tests.api.world import PAPER, PASSWORD, Answer, World, open_world
from zlh.api.answers import Problem
from zlh.api.routes import ROUTES
from zlh.api.routing import Route, Who
from zlh.model.accounts import Account, Role
from zlh.store import containers, outbox

NAMES = {route.name for route in ROUTES}
# What games and dev containers have alike comes from one table: once is enough, and the container here is a game.
HTTP = [
    route
    for route in ROUTES
    if not route.websocket and not ("/api/dev/" in route.name and route.name.replace("/dev/", "/game/") in NAMES)
]
WITH_BODY = [route for route in HTTP if route.body is not None]
WITH_QUERY = [route for route in HTTP if route.query is not None]
WITH_PARAMETERS = [route for route in HTTP if route.parameters]
UNLIMITED = {"attempts_per_account": 10_000, "attempts_per_address": 100_000}


@dataclass
class Scene:
    """An administrator asks; the container and a signed-in bystander are somebody else's."""

    world: World
    owner: Account
    vmid: int
    bystander: str
    token: str = ""

    async def call(self, route: Route, path: str, body: object = None, **headers: str) -> Answer:
        """A call that can be repeated: some routes end the session that they are called with."""
        answer = await self.world.call(route.method, path, self.token, body, **headers)
        if answer.status == 401 and route.who is not Who.PUBLIC and answer.json["code"] == "signed_out":
            await self.sign_in()
            answer = await self.world.call(route.method, path, self.token, body, **headers)
        return answer

    async def sign_in(self) -> None:
        body = {"identifier": "mallory", "password": PASSWORD}
        answer = await self.world.call("POST", "/api/auth/login", json=body)
        assert answer.status == 200, answer.raw
        self.token = answer.json["token"]

    def path(self, route: Route, changed: Mapping[str, str] | None = None) -> str:
        values = {"vmid": str(self.vmid), "account_id": str(self.owner.id), "path": "root/idle"}
        return address(route, values | dict(changed or {}))

    async def unharmed(self) -> None:
        """The bystander is signed in as ever, and no letter has grown a line in its head."""
        assert (await self.world.call("GET", "/api/auth/me", self.bystander)).status == 200
        for owed in await self.world.services.database.run(_owed):
            assert owed.letter is not None
            head = f"{owed.letter.recipient}{owed.letter.subject}"
            assert [character for character in head if unicodedata.category(character) in ("Cc", "Zl", "Zp")] == []


@pytest.fixture
async def scene(postgres_url: str) -> AsyncIterator[Scene]:
    async with open_world(postgres_url, mail=True, portal_url="https://portal.example", **UNLIMITED) as world:
        _, bystander = await world.account("bystander")
        await world.account("mallory", Role.ADMIN)
        ada, _ = await world.account("ada")
        row = world.fleet.add(ada, PAPER)
        await world.services.database.run(containers.insert, [row])
        scene = Scene(world, ada, row.vmid, bystander)
        await scene.sign_in()
        yield scene


def _owed(connection: sa.Connection) -> list[outbox.Due]:
    return outbox.take(connection, datetime.now(UTC), most=1000, lease=timedelta(0))


def sound(answer: Answer, *where: object) -> None:
    """An answer that a client can read, and in which nothing has become a header of its own."""
    assert answer.status < 500, (where, answer.raw[:500])
    if answer.status >= 400:
        Problem.model_validate_json(answer.raw)
    for name, value in answer.headers.items():
        assert MARK not in name, where
        assert "\n" not in value, where
        assert "\r" not in value, where


@pytest.mark.parametrize("route", WITH_BODY, ids=lambda route: route.name)
async def test_text_in_bodies_is_text(scene: Scene, route: Route, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="zlh")
    before, changed = await everything(scene.world), False
    for field, text in combinations(route):
        answer = await scene.call(route, scene.path(route), example(route) | {field: text})
        sound(answer, route.name, field, text[:40])
        changed |= answer.status < 400
    if not changed:
        assert await everything(scene.world) == before
    await scene.unharmed()
    assert [record for record in caplog.records if MARK in record.getMessage()] == []


@pytest.mark.parametrize("route", WITH_BODY, ids=lambda route: route.name)
async def test_bodies_that_are_not_quite_json(scene: Scene, route: Route) -> None:
    good = json.dumps(example(route)).encode()
    for name, raw, headers in raw_bodies(good):
        if raw == good:
            continue
        answer = await scene.world.call(
            route.method,
            scene.path(route),
            scene.token,
            raw=raw,
            **{field.replace("-", "_"): value for field, value in headers.items()},
        )
        sound(answer, route.name, name)
        if answer.status == 401 and route.who is not Who.PUBLIC:
            await scene.sign_in()
    await scene.unharmed()


@pytest.mark.parametrize("route", WITH_PARAMETERS, ids=lambda route: route.name)
async def test_text_in_addresses_is_text(scene: Scene, route: Route) -> None:
    before = await everything(scene.world)
    for name in route.parameters:
        for text in TEXTS:
            for written in (quote(text, safe=""), quote(text, safe="/")):
                answer = await scene.call(route, scene.path(route, {name: written}), example(route))
                sound(answer, route.name, name, text[:40])
                assert answer.status >= 400, (route.name, text[:40])
    assert await everything(scene.world) == before
    assert scene.world.fleet.calls == []


@pytest.mark.parametrize("route", WITH_QUERY, ids=lambda route: route.name)
async def test_text_in_queries_is_text(scene: Scene, route: Route) -> None:
    for name in (*query_fields(route), "unknown", "'", "a[b]", "%"):
        for text in TEXTS if name in query_fields(route) else TEXTS[:3]:
            answer = await scene.call(route, f"{scene.path(route)}?{urlencode({name: text})}", example(route))
            sound(answer, route.name, name, text[:40])
    for odd in ("?", "?&&&", "?=", "?%", "?%ff=%fe", "?a=1&a=2", "?" + "&".join(f"k{n}=1" for n in range(5000))):
        sound(await scene.call(route, scene.path(route) + odd, example(route)), route.name, odd[:20])
    await scene.unharmed()


FIELDS = ("User-Agent", "X-Forwarded-For", "X-Request-Id", "Idempotency-Key", "Origin", "Last-Event-ID", "Referer")


@pytest.mark.parametrize("field", FIELDS)
async def test_text_in_header_fields_is_text(scene: Scene, field: str) -> None:
    """The gateway lets no line end into a field; whatever else may come."""
    for text in TEXTS:
        sent = text.translate(dict.fromkeys(map(ord, "\r\n\x00"), " ")).encode("utf-8", "replace").decode("latin-1")
        headers = {field.replace("-", "_"): sent}
        login = {"identifier": "mallory", "password": PASSWORD}
        sound(await scene.world.call("POST", "/api/auth/login", json=login, **headers), field, text[:40])
        created = await scene.world.call("POST", "/api/instances", scene.token, raw=b"{}", **headers)
        sound(created, field, text[:40])
    await scene.unharmed()
