"""`zlh user`: what the commands print, what they refuse, what is recorded, and that a running API hears of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import trio

from tests.commands.installation import Installation
from tests.gateway.peer import Socket, open_socket
from tests.stopwatch import Stopwatch
from zlh.store.urls import libpq_url

PASSWORD = "correct horse"


@pytest.fixture
def installation(postgres_url: str, tmp_path: Path) -> Installation:
    return Installation(tmp_path, postgres_url)


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not under pytest's tmp_path: another pytest session closes that folder to PostgreSQL's own user.
    made = Path(tempfile.mkdtemp(prefix="zlh-commands-"))
    yield made
    shutil.rmtree(made)


def make(installation: Installation, name: str, *words: str) -> None:
    made = installation.here("user", "create", f"{name}@example.com", name, *words, ZLH_PASSWORD=PASSWORD)
    assert made.status == 0, made.err
    assert "password" not in made.out


def test_an_account_is_found_by_id_address_or_name_and_changed(installation: Installation, postgres_url: str) -> None:
    make(installation, "root", "--role", "admin")
    make(installation, "ada", "--plan", "starter")
    listed = installation.here("user", "list", "--json").json
    assert [account["username"] for account in listed] == ["ada", "root"]
    assert listed[0] | {"createdAt": "", "emailVerifiedAt": "", "id": 0} == {
        "id": 0,
        "email": "ada@example.com",
        "username": "ada",
        "displayName": "",
        "role": "customer",
        "plan": "starter",
        "createdAt": "",
        "emailVerifiedAt": "",
        "secondFactorAt": None,
        "suspendedAt": None,
        "suspendedBy": [],
        "suspendsAt": None,
        "disabledAt": None,
    }
    number = str(listed[0]["id"])
    line = f"account {number}: ada <ada@example.com>"
    for words, told in (
        (["suspend", "ADA@example.com", "--reason", "owes money"], ", customer, suspended by an operator"),
        (["disable", number], ", customer, suspended by an operator, disabled"),
        (["enable", "Ada"], ", customer, suspended by an operator"),
        (["unsuspend", "ada"], ", customer"),
        (["role", "ada", "operator"], ", operator"),
    ):
        said = installation.here("user", *words)
        assert (said.status, said.out) == (0, f"{line}{told}\n"), said.err
    table = installation.here("user", "list", "ada").out
    assert "ada@example.com" in table
    assert "root" not in table
    with psycopg.connect(libpq_url(postgres_url)) as connection:
        rows = connection.execute("SELECT action, credential, subject_id, outcome, details FROM audit ORDER BY id")
        recorded = [row for row in rows if str(row[2]) == number]
    assert [row[0] for row in recorded] == [
        "account.create",
        "account.suspend",
        "account.disable",
        "account.enable",
        "account.unsuspend",
        "account.role",
    ]
    assert {(row[1], row[3]) for row in recorded} == {("cli", "done")}
    assert (recorded[1][4], recorded[5][4]) == ({"reason": "owes money"}, {"role": "operator"})


def test_what_is_refused_is_told_in_a_sentence(installation: Installation) -> None:
    make(installation, "root", "--role", "admin")
    make(installation, "ada")
    last = "zlh: this is the last administrator: make another one first\n"
    for words, said in (
        (["disable", "nobody"], "zlh: there is no account 'nobody'\n"),
        (["role", "999999", "admin"], "zlh: there is no account '999999'\n"),
        (["disable", "root"], last),
        (["suspend", "root"], last),
        (["role", "root", "customer"], last),
        (["reset-second-factor", "ada"], "zlh: the account has no second factor\n"),
    ):
        answer = installation.here("user", *words)
        assert (answer.status, answer.out, answer.err) == (1, "", said)
    weak = installation.here("user", "reset-password", "ada", ZLH_PASSWORD="password1")
    assert (weak.status, weak.out) == (1, "")
    assert "too many people use this password" in weak.err
    for words in (["role", "ada", "king"], ["role", "ada"], ["disable"], []):
        assert installation.here("user", *words).status == 2
    for limit in ("x", "0", "-1", "1" * 30):
        unlimited = installation.here("user", "list", "--limit", limit)
        assert (unlimited.status, unlimited.out) == (2, "")
        assert f"a number from 1 on is expected, not '{limit}'" in unlimited.err
    forced = installation.here("user", "role", "root", "customer", "--force")
    assert forced.status == 0
    assert installation.here("user", "list", "--role", "admin", "--json").json == []


async def sign_in(client: httpx.AsyncClient, name: str, password: str = PASSWORD) -> Any:
    return await client.post("/api/auth/login", json={"identifier": name, "password": password})


async def closed(socket: Socket) -> int:
    """The close code."""
    return (await socket.close()).code


async def test_a_running_api_hears_of_it_within_a_second(installation: Installation, tmp_path: Path) -> None:
    create = ["user", "create", "olga@example.com", "olga", "--role", "operator"]
    assert (await installation.told(*create, ZLH_PASSWORD=PASSWORD)).status == 0
    async with installation.serving(tmp_path / "log") as client:
        for words, code, afterwards in (
            (["role", "olga", "customer"], 4401, 403),
            (["role", "olga", "operator"], 4401, 200),
            (["disable", "olga"], 4401, 401),
            (["suspend", "olga"], 4403, 403),
        ):
            assert (await installation.told("user", "enable", "olga")).status == 0
            token = (await sign_in(client, "olga")).json()["token"]
            bearer = f"Authorization: Bearer {token}"
            async with open_socket(installation.port, "/api/servers/events", bearer) as socket:
                assert (await socket.json())["event"] == "snapshot"
                said = await installation.told("user", *words)
                watch = Stopwatch()
                assert said.status == 0, said.err
                assert await closed(socket) == code, words
                # From the end of the command, which is after the change.
                assert watch.seconds < 1.0
            answer = await client.get("/api/operators/actors", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == afterwards, (words, answer.text)
            if words[0] == "disable":
                assert (await sign_in(client, "olga")).status_code == 401


async def test_a_new_password_ends_every_session_also_beside_an_embedded_database(folder: Path) -> None:
    installation = Installation(folder / "data")
    await installation.told("user", "create", "ada@example.com", "ada", ZLH_PASSWORD=PASSWORD)
    async with installation.serving(folder / "log") as client:
        signed_in = (await sign_in(client, "ada")).json()
        bearer = f"Authorization: Bearer {signed_in['token']}"
        async with open_socket(installation.port, "/api/servers/events", bearer) as socket:
            await socket.json()
            said = await trio.to_thread.run_sync(installation.zlh, "user", "reset-password", "ada")
            assert said.status == 0, said.err
            assert await closed(socket) == 4401
        password = said.out.splitlines()[-1].removeprefix("password: ")
        again = await client.post("/api/auth/refresh", json={"refreshToken": signed_in["refreshToken"]})
        assert again.status_code == 401
        assert (await sign_in(client, "ada")).status_code == 401
        assert (await sign_in(client, "ada", password)).status_code == 200
        # A second server on the same data would be another matter.
        second = await installation.told("migrate")
        assert (second.status, "is in use by process" in second.err) == (1, True)
