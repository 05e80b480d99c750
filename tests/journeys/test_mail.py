"""Letters over the real path: posted by the API, written by the postman, their links used."""

from __future__ import annotations

import re
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTPUTF8
from pathlib import Path
from typing import Any

import httpx
import trio

from tests.journeys.process import DemoProcess
from tests.plain import PLAIN
from zlh.demo.portal import Portal

SOON = 10.0
TOKEN = re.compile(r"/(verify-email|reset-password)\?token=([\w-]+)")
OLD, NEW = "an old password", "a new password"


def found(folder: Path, kind: str, recipient: str) -> list[EmailMessage]:
    read = [message_from_bytes(path.read_bytes(), policy=SMTPUTF8) for path in folder.glob(f"*-{kind}-*.eml")]
    return [message for message in read if isinstance(message, EmailMessage) and message["To"] == recipient]


async def letter(folder: Path, kind: str, recipient: str) -> str:
    """The text of the first one, as soon as it is there."""
    with trio.fail_after(SOON):
        while not (messages := found(folder, kind, recipient)):  # noqa: ASYNC110 - a folder tells nobody that it grew
            await trio.sleep(0.05)
    text: str = messages[0].get_content()
    return text


def token_of(text: str) -> str:
    match = TOKEN.search(text)
    assert match is not None, text
    return match[2]


async def test_an_address_is_verified_and_a_forgotten_password_replaced(demo: DemoProcess) -> None:
    ready = demo.ready
    folder = Path(ready["mailFolder"])
    email = "mail-journey@zlh.example"
    async with httpx.AsyncClient(base_url=ready["url"], trust_env=False, verify=PLAIN) as client:

        async def post(path: str, **body: Any) -> httpx.Response:
            return await client.post(f"/api/auth/{path}", json=body)

        registered = await post("register", email=email, username="mail-journey", password=OLD)
        assert registered.json()["user"]["emailVerified"] is False
        token = token_of(await letter(folder, "verify_address", email))
        assert (await post("email/verify", token=token)).json() == {"ok": True}
        me = await client.get("/api/auth/me", headers={"Authorization": f"Bearer {registered.json()['token']}"})
        assert me.json()["user"]["emailVerified"] is True

        assert (await post("password/forgot", email=email)).status_code == 202
        token = token_of(await letter(folder, "reset_password", email))
        assert (await post("password/reset", token=token, password=NEW)).json() == {"ok": True}
        assert (await post("login", identifier=email, password=OLD)).status_code == 401
        assert (await post("login", identifier=email, password=NEW)).status_code == 200
    assert "was changed" in await letter(folder, "password_changed", email)
    said = (demo.folder / "logs" / "api.log").read_text()
    assert f"written to {folder}" in said
    assert token not in said


async def test_operators_see_how_the_mail_is_doing(operator: Portal) -> None:
    with trio.fail_after(SOON):
        while (shown := (await operator.get("/api/operators/actors/mail"))["actor"]["annotations"]).get("owed") != 0:  # noqa: ASYNC110
            await trio.sleep(0.1)
    assert shown["sent"] >= 1
    assert shown["givenUp"] == 0
