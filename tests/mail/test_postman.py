"""The outbox is emptied: once each, whatever the transport, the database or the process does."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trio

from tests.drivers.mail.servers import Post, open_rough, open_server
from zlh.drivers.errors import DriverError, Refused, Unreachable
from zlh.drivers.mail import Message, Security, Smtp, parse_sender
from zlh.mail import Postman
from zlh.store import Database, Vault, outbox
from zlh.store.outbox import Letter

SECRET = "https://portal.example/reset-password?token=a-secret-token"
KEY = Vault.new_key()
PATIENT = 20.0


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Recorder:
    """A transport that keeps what it is given, or raises what `answer` says for it."""

    answer: Callable[[Message], DriverError | None] = lambda message: None
    sent: list[Message] = field(default_factory=list)
    attempts: int = 0

    async def send(self, message: Message) -> str:
        self.attempts += 1
        await trio.lowlevel.checkpoint()
        problem = self.answer(message)
        if problem is not None:
            raise problem
        self.sent.append(message)
        return "kept"


@dataclass
class Office:
    database: Database
    clock: Clock = field(default_factory=Clock)
    shown: dict[str, int] = field(default_factory=dict)

    def postman(self, transport: Any, database: Database | None = None) -> Postman:
        return Postman(database or self.database, transport, send_seconds=1.0, now=self.clock)

    async def post(self, *recipients: str) -> None:
        def post_all(connection: sa.Connection) -> None:
            for recipient in recipients:
                letter = Letter("reset_password", recipient, "A subject", f"Here:\n\n{SECRET}\n")
                outbox.post(connection, letter, self.clock.now)

        await self.database.run(post_all)

    async def rows(self) -> list[Any]:
        return await self.database.run(
            lambda connection: list(connection.execute(sa.text("SELECT * FROM outbox ORDER BY id")))
        )

    def annotate(self, **values: int) -> None:
        self.shown |= values


@pytest.fixture
async def office(postgres_url: str) -> AsyncIterator[Office]:
    database = Database(postgres_url, 4, vault=Vault([KEY]))
    yield Office(database)
    await database.aclose()


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(PATIENT):
        while not await true():  # noqa: ASYNC110 - a table tells nobody
            await trio.sleep(0.02)


async def test_new_letters_leave_at_once(office: Office, nursery: trio.Nursery, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    recorder = Recorder()
    nursery.start_soon(office.postman(recorder).run, office.annotate)
    await office.post("before@example.com")

    async def first() -> bool:
        return len(recorder.sent) == 1 and not await office.rows()

    await until(first)
    # The beat is 15 seconds: it is the nudge that brings these.
    with trio.fail_after(5.0):
        await office.post(*(f"{number}@example.com" for number in range(9)))
        while len(recorder.sent) < 10:  # noqa: ASYNC110 - the postman tells nobody
            await trio.sleep(0.02)

    async def told() -> bool:
        return office.shown == {"owed": 0, "sent": 10, "failed": 0, "given_up": 0}

    await until(told)
    assert not await office.rows()
    assert len({message.id for message in recorder.sent}) == 10
    assert SECRET in recorder.sent[0].text
    assert "a-secret-token" not in caplog.text
    assert "reset_password" in caplog.text


async def test_what_fails_is_tried_again_later_and_given_up_in_the_end(office: Office, caplog: Any) -> None:
    recorder = Recorder(lambda message: Unreachable("the mail server hung up"))
    postman = office.postman(recorder)
    await office.post("ada@example.com")
    begun = office.clock.now
    assert await postman.round() == 1
    assert await postman.round() == 0
    office.clock.now = begun + timedelta(seconds=44)
    assert await postman.round() == 0
    office.clock.now = begun + timedelta(seconds=61)
    assert await postman.round() == 1
    (row,) = await office.rows()
    assert (row.attempts, row.last_error, row.given_up_at) == (2, "the mail server hung up", None)
    while office.clock.now < begun + timedelta(days=2, hours=8):
        office.clock.now += timedelta(minutes=15)
        await postman.round()
    (row,) = await office.rows()
    assert row.given_up_at is not None
    assert row.given_up_at - begun < timedelta(days=2, hours=4.5)
    assert 15 < recorder.attempts == row.attempts < 30
    assert "a-secret-token" not in caplog.text
    assert "ada@" not in caplog.text


async def test_a_final_refusal_is_not_tried_again_and_stops_nobody_else(office: Office, caplog: Any) -> None:
    def answer(message: Message) -> DriverError | None:
        if message.recipient == "nobody@example.com":
            return Refused("refused: 550", status=550, details={"reply": "<nobody@example.com> unknown"})
        if message.recipient == "later@example.com":
            return Unreachable("451")
        return None

    recorder = Recorder(answer)
    await office.post("nobody@example.com", "later@example.com", "ada@example.com")
    await office.postman(recorder).round()
    assert [message.recipient for message in recorder.sent] == ["ada@example.com"]
    nobody, later = await office.rows()
    assert nobody.given_up_at == office.clock.now
    assert nobody.last_error == "refused: 550 <nobody@example.com> unknown"
    assert later.given_up_at is None
    assert "nobody@example.com" not in caplog.text


async def test_a_letter_that_no_key_opens_is_given_up(office: Office) -> None:
    await office.post("ada@example.com")
    stranger = Database(office.database.url, 1, vault=Vault([Vault.new_key()]))
    try:
        recorder = Recorder()
        await office.postman(recorder, stranger).round()
    finally:
        await stranger.aclose()
    (row,) = await office.rows()
    assert row.given_up_at is not None
    assert recorder.attempts == 0


async def test_several_processes_send_each_letter_once(office: Office) -> None:
    await office.post(*(f"{number}@example.com" for number in range(40)))
    recorders = [Recorder() for _ in range(3)]
    others = [Database(office.database.url, 2, vault=Vault([KEY])) for _ in recorders]
    try:
        async with trio.open_nursery() as nursery:
            for recorder, database in zip(recorders, others, strict=True):
                nursery.start_soon(office.postman(recorder, database).run, office.annotate)

            async def empty() -> bool:
                return not await office.rows()

            await until(empty)
            nursery.cancel_scope.cancel()
    finally:
        for database in others:
            await database.aclose()
    sent = [message.recipient for recorder in recorders for message in recorder.sent]
    assert sorted(sent) == sorted(f"{number}@example.com" for number in range(40))


async def test_a_cancelled_delivery_is_somebody_elses_when_the_lease_ends(office: Office) -> None:
    class Hanging:
        async def send(self, message: Message) -> str:
            await trio.sleep_forever()
            raise AssertionError

    await office.post("ada@example.com")
    with trio.move_on_after(0.5):
        await office.postman(Hanging()).round()
    recorder = Recorder()
    assert await office.postman(recorder).round() == 0
    office.clock.now += timedelta(minutes=3)
    assert await office.postman(recorder).round() == 1
    assert len(recorder.sent) == 1


CHILD = """
import sys, trio
from zlh.drivers.mail import Security, Smtp, parse_sender
from zlh.mail import Postman
from zlh.store import Database, Vault

async def main(url, key, port):
    database = Database(url, 2, vault=Vault([key]))
    smtp = Smtp("127.0.0.1", int(port), parse_sender("a@b.example"), security=Security.NONE, seconds=60)
    await Postman(database, smtp, send_seconds=1).run(lambda **shown: None)

trio.run(main, *sys.argv[1:])
"""


async def test_a_kill_in_the_middle_of_a_delivery_loses_nothing(office: Office) -> None:
    reached = threading.Event()

    def hold(connection: Any, over: threading.Event) -> None:
        reached.set()
        over.wait()

    await office.post("ada@example.com")
    with open_rough(hold) as port:
        child = subprocess.Popen(  # noqa: ASYNC220 - it is killed, not waited for
            [sys.executable, "-c", CHILD, office.database.url, KEY, str(port)], cwd=Path(__file__).parents[2]
        )
        try:
            assert await trio.to_thread.run_sync(reached.wait, PATIENT)
        finally:
            child.kill()
            child.wait()
    (row,) = await office.rows()
    assert row.attempts == 1
    post = Post()
    with open_server(post) as port:
        smtp = Smtp("127.0.0.1", port, parse_sender("ZLH <a@b.example>"), security=Security.NONE)
        office.clock.now += timedelta(minutes=3)
        assert await office.postman(smtp).round() == 1
    assert post.taken[0].rcpt_tos == ["ada@example.com"]
    assert SECRET in post.message().get_content()
    assert not await office.rows()


async def test_without_a_database_it_waits(office: Office, nursery: trio.Nursery, caplog: Any) -> None:
    closed = Database("postgresql://nobody@127.0.0.1:9/none", 1, vault=Vault([KEY]))
    nursery.start_soon(office.postman(Recorder(), closed).run, office.annotate)

    async def told() -> bool:
        return "mail waits for the database" in caplog.text

    await until(told)
    nursery.cancel_scope.cancel()
