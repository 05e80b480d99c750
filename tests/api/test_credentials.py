"""/api/auth/password and /api/auth/email over HTTP."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from tests.api.world import PASSWORD, World, open_world
from zlh.store import outbox
from zlh.store.outbox import Letter

NEW = "a new password"
ADA = {"email": "ada@example.com", "username": "ada", "password": PASSWORD}
TOKEN = re.compile(r"\?token=([\w-]+)")


@pytest.fixture
async def mailing(postgres_url: str) -> AsyncIterator[World]:
    async with open_world(postgres_url, mail=True, portal_url="https://portal.example") as world:
        yield world


async def last_letter(world: World) -> Letter:
    def read(connection: sa.Connection) -> Letter:
        taken = outbox.take(connection, datetime.now(UTC), most=100, lease=timedelta(0))
        assert taken[-1].letter is not None
        return taken[-1].letter

    return await world.services.database.run(read)


async def last_token(world: World) -> str:
    found = TOKEN.search((await last_letter(world)).text)
    assert found is not None
    return found[1]


async def test_from_registration_to_a_verified_address(mailing: World) -> None:
    registered = (await mailing.call("POST", "/api/auth/register", json=ADA)).json
    assert (registered["user"]["emailVerified"], registered["user"]["secondFactor"]) == (False, False)
    again = await mailing.call("POST", "/api/auth/email/resend", registered["token"])
    assert (again.status, again.json) == (202, {"ok": True})
    verified = await mailing.call("POST", "/api/auth/email/verify", json={"token": await last_token(mailing)})
    assert (verified.status, verified.json) == (200, {"ok": True})
    me = await mailing.call("GET", "/api/auth/me", registered["token"])
    assert me.json["user"]["emailVerified"] is True


async def test_a_forgotten_password(mailing: World) -> None:
    registered = (await mailing.call("POST", "/api/auth/register", json=ADA)).json
    answers = [
        await mailing.call("POST", "/api/auth/password/forgot", json={"email": email})
        for email in ("nobody@example.com", "Ada@Example.com")
    ]
    assert [(answer.status, answer.json) for answer in answers] == [(202, {"ok": True})] * 2
    body = {"token": await last_token(mailing), "password": NEW}
    common = await mailing.call("POST", "/api/auth/password/reset", json=body | {"password": "password1"})
    assert (common.status, common.json["details"][0]["field"]) == (400, "password")
    assert (await mailing.call("POST", "/api/auth/password/reset", json=body)).json == {"ok": True}
    used = await mailing.call("POST", "/api/auth/password/reset", json=body)
    unknown = await mailing.call("POST", "/api/auth/password/reset", json=body | {"token": "unknown"})
    assert used.status == unknown.status == 400
    assert used.json | {"requestId": ""} == unknown.json | {"requestId": ""}
    assert used.json["code"] == "invalid_link"
    assert (await mailing.call("GET", "/api/auth/me", registered["token"])).status == 401
    for password, status in ((PASSWORD, 401), (NEW, 200)):
        sent = {"identifier": "ada", "password": password}
        assert (await mailing.call("POST", "/api/auth/login", json=sent)).status == status


async def test_a_changed_password(mailing: World) -> None:
    _, token = await mailing.account("ada")
    body = {"currentPassword": "wrong", "newPassword": NEW}
    refused = await mailing.call("POST", "/api/auth/password", token, body)
    assert (refused.status, refused.json["code"]) == (403, "wrong_password")
    common = await mailing.call(
        "POST", "/api/auth/password", token, {"currentPassword": PASSWORD, "newPassword": "password1"}
    )
    assert (common.status, common.json["details"][0]["field"]) == (400, "newPassword")
    changed = await mailing.call("POST", "/api/auth/password", token, body | {"currentPassword": PASSWORD})
    assert (changed.status, changed.json) == (200, {"ok": True})
    assert (await mailing.call("GET", "/api/auth/me", token)).status == 200
    assert (await last_letter(mailing)).kind == "password_changed"


async def test_another_address(mailing: World) -> None:
    _, token = await mailing.account("ada")
    asked = await mailing.call("POST", "/api/auth/email", token, {"email": "new@example.com", "password": PASSWORD})
    assert (asked.status, asked.json) == (202, {"ok": True})
    assert (await mailing.call("GET", "/api/auth/me", token)).json["user"]["email"] == "ada@example.com"
    await mailing.call("POST", "/api/auth/email/verify", json={"token": await last_token(mailing)})
    assert (await mailing.call("GET", "/api/auth/me", token)).json["user"]["email"] == "new@example.com"


@pytest.mark.parametrize(
    "email", ["ada@example.com\r\nBcc: eve@example.com", "ada@example.com, eve@example.com", "a@b@c.d", "", "x" * 400]
)
async def test_what_is_no_address_gets_no_letter(mailing: World, email: str) -> None:
    _, token = await mailing.account("ada")
    for path, body in (("password/forgot", {}), ("email", {"password": PASSWORD})):
        answer = await mailing.call("POST", f"/api/auth/{path}", token, body | {"email": email})
        assert (answer.status, answer.json["details"][0]["field"]) == (400, "email")


async def test_too_many_letters_are_told_when_to_come_back(mailing: World) -> None:
    for _ in range(3):
        answer = await mailing.call("POST", "/api/auth/password/forgot", json={"email": "nobody@example.com"})
        assert answer.status == 202
    answer = await mailing.call("POST", "/api/auth/password/forgot", json={"email": "nobody@example.com"})
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) > 60


async def test_without_mail(world: World) -> None:
    account, token = await world.account("ada")
    assert account.email_verified_at is not None
    for path, body in (
        ("password/forgot", {"email": "ada@example.com"}),
        ("email/resend", None),
        ("email", {"email": "new@example.com", "password": PASSWORD}),
    ):
        answer = await world.call("POST", f"/api/auth/{path}", token, body)
        assert (answer.status, answer.json["code"]) == (409, "mail_off")


async def test_no_link_and_no_password_is_in_the_audit_record(mailing: World) -> None:
    registered = (await mailing.call("POST", "/api/auth/register", json=ADA)).json
    await mailing.call("POST", "/api/auth/password/forgot", json={"email": "ada@example.com"})
    token = await last_token(mailing)
    await mailing.call("POST", "/api/auth/password/reset", json={"token": token, "password": NEW})

    def read(connection: sa.Connection) -> list[str]:
        return [str(row) for row in connection.execute(sa.text("SELECT * FROM audit ORDER BY id"))]

    found = await mailing.services.database.run(read)
    assert [action for action in ("password.forgot", "password.reset") if action in str(found)]
    assert not [secret for secret in (token, NEW, registered["token"]) if secret in str(found)]
    subject = registered["user"]["id"]

    def subjects(connection: sa.Connection) -> list[tuple[str, int]]:
        query = sa.text("SELECT action, subject_id FROM audit WHERE action LIKE 'password.%' ORDER BY id")
        return [(row.action, row.subject_id) for row in connection.execute(query)]

    expected = [("password.forgot", subject), ("password.reset", subject)]
    assert await mailing.services.database.run(subjects) == expected
