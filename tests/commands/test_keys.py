"""`zlh keys`: what the commands print, what they keep to themselves, and that a running API hears of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.commands.installation import Installation
from tests.stack import until
from tests.stopwatch import Stopwatch
from zlh.store.urls import libpq_url

ADA = {"email": "ada@example.com", "username": "ada", "password": "correct horse"}


@pytest.fixture
def installation(postgres_url: str, tmp_path: Path) -> Installation:
    return Installation(tmp_path, postgres_url)


def states(installation: Installation) -> list[tuple[str, str]]:
    """(kid, state), the one that signs last first."""
    said = installation.here("keys", "list")
    assert said.status == 0, said.err
    return [(line.split()[0], line.split()[1]) for line in said.out.splitlines()]


def test_the_next_key_is_published_once(installation: Installation, postgres_url: str) -> None:
    ((first, state),) = states(installation)
    assert state == "signing"
    said = installation.here("keys", "rotate")
    second = said.out.split()[0]
    assert "signs from" in said.out
    assert installation.here("keys", "rotate").out == said.out
    assert states(installation) == [(second, "published"), (first, "signing")]
    with psycopg.connect(libpq_url(postgres_url)) as connection:
        recorded = connection.execute("SELECT action, credential, details FROM audit").fetchall()
    assert recorded == [("keys.rotate", "cli", {"kid": second})]


def test_at_once_all_others_are_withdrawn(installation: Installation, postgres_url: str) -> None:
    installation.here("keys", "rotate")
    said = installation.here("keys", "rotate", "--now")
    assert "refused" in said.out
    found = dict(states(installation))
    assert found.pop(said.out.split()[0]) == "signing"
    assert list(found.values()) == ["withdrawn", "withdrawn"]
    with psycopg.connect(libpq_url(postgres_url)) as connection:
        recorded = connection.execute("SELECT action FROM audit ORDER BY id").fetchall()
    assert recorded == [("keys.rotate",), ("keys.withdraw",)]


def test_nothing_private_is_printed(installation: Installation) -> None:
    for words in (["list"], ["rotate"], ["rotate", "--now"], ["list"]):
        said = installation.here("keys", *words)
        assert "PRIVATE" not in said.out + said.err
        assert "MC4CAQ" not in said.out + said.err


async def test_a_running_api_hears_of_it_within_a_second(installation: Installation, tmp_path: Path) -> None:
    async with installation.serving(tmp_path / "serve.log") as client:
        registered = (await client.post("/api/auth/register", json=ADA)).json()
        headers = {"Authorization": f"Bearer {registered['token']}"}
        assert (await client.get("/api/auth/me", headers=headers)).status_code == 200
        first = await kids(client)
        said = await installation.told("keys", "rotate")
        made = said.out.split()[0]
        await heard(client, {*first, made})
        assert (await client.get("/api/auth/me", headers=headers)).status_code == 200
        said = await installation.told("keys", "rotate", "--now")
        await heard(client, {said.out.split()[0]})
        assert (await client.get("/api/auth/me", headers=headers)).status_code == 401
        body = {"refreshToken": registered["refreshToken"]}
        again = (await client.post("/api/auth/refresh", json=body)).json()
        headers = {"Authorization": f"Bearer {again['token']}"}
        assert (await client.get("/api/auth/me", headers=headers)).status_code == 200


async def kids(client: httpx.AsyncClient) -> set[str]:
    answer: Any = (await client.get("/.well-known/jwks.json")).json()
    return {key["kid"] for key in answer["keys"]}


async def heard(client: httpx.AsyncClient, wanted: set[str]) -> None:
    """The command has ended: the API knows within a second."""

    async def known() -> bool:
        return await kids(client) == wanted

    watch = Stopwatch()
    await until(known, within=20)
    assert watch.seconds < 1.0
