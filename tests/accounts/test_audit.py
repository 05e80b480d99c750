"""The way into the audit record: nothing is lost in an outage but what there is no room for, and that is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
import sqlalchemy as sa
import trio
import trio.testing

from zlh.accounts.access import AccessTable
from zlh.accounts.attempts import Attempts
from zlh.accounts.audit import BATCH, AuditTrail, credential_of
from zlh.accounts.guestbook import ConsoleGuestbook
from zlh.accounts.tokens import Tokens
from zlh.model.access import Scope
from zlh.model.accounts import Acting, Principal, Role
from zlh.model.audit import Act, Ending, Outcome
from zlh.model.console import Visit
from zlh.store import Database, StoreUnavailable
from zlh.store.audit import Entry, Wanted
from zlh.store.tables import audit as table

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DONE = Ending(outcome=Outcome.DONE, status=200)


class Shaky(Database):
    """A database that is away as long as `away`, and refuses everything as long as `broken`."""

    away = False
    broken = False
    asked = 0

    async def run(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.asked += 1
        await trio.lowlevel.checkpoint()
        if self.away:
            raise StoreUnavailable("the database is not reachable")
        if self.broken:
            raise sa.exc.ProgrammingError("INSERT", None, Exception("permission denied"))
        return await super().run(fn, *args, **kwargs)


def act(action: str) -> Act:
    return Act(at=NOW, action=action, credential="session:s", actor_id=1)


@asynccontextmanager
async def trail(postgres_url: str, **options: Any) -> AsyncIterator[tuple[AuditTrail, Shaky]]:
    database = Shaky(postgres_url, pool_size=2)
    made = AuditTrail(database, Attempts(3, 60), now=lambda: NOW, **options)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run)
            yield made, database
            nursery.cancel_scope.cancel()
    finally:
        await database.aclose()


async def everything(made: AuditTrail) -> list[Entry]:
    with trio.fail_after(20):
        await made.flushed()
    return (await made.page(Wanted(limit=200)))[::-1]


async def test_notes_are_written_in_their_order(postgres_url: str) -> None:
    async with trail(postgres_url) as (made, _):
        for n in range(30):
            made.note(act(f"n.{n}"), DONE)
        assert [entry.action for entry in await everything(made)] == [f"n.{n}" for n in range(30)]


async def test_an_outage_loses_nothing(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zlh.accounts.audit.AGAIN_SECONDS", 0.01)
    async with trail(postgres_url) as (made, database):
        begun = await made.begin(act("begun"))
        database.away = True
        with pytest.raises(StoreUnavailable):
            await made.begin(act("refused"))
        await made.complete(begun, DONE)
        made.note(act("noted"), DONE)
        before = database.asked
        with trio.fail_after(5):
            while database.asked < before + 3:  # noqa: ASYNC110 - the writer tells nobody that it tries
                await trio.sleep(0.01)
        assert made.waiting == 2
        database.away = False
        assert [(entry.action, entry.outcome) for entry in await everything(made)] == [
            ("begun", Outcome.DONE),
            ("noted", Outcome.DONE),
        ]
        assert made.waiting == 0


async def test_an_end_is_written_though_the_client_is_gone(postgres_url: str) -> None:
    async with trail(postgres_url) as (made, _):
        begun = await made.begin(act("begun"))
        with trio.CancelScope() as client:
            client.cancel()
            await made.complete(begun, DONE)
        assert [entry.outcome for entry in await everything(made)] == [Outcome.DONE]


async def test_an_end_that_takes_too_long_is_written_later(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trail(postgres_url) as (made, database):
        begun = await made.begin(act("begun"))

        async def hangs(*arguments: object) -> None:
            await trio.sleep_forever()

        with monkeypatch.context() as slow:
            slow.setattr("zlh.accounts.audit.PATIENCE_SECONDS", 0.01)
            slow.setattr(database, "run", hangs)
            await made.complete(begun, DONE)
        assert [entry.outcome for entry in await everything(made)] == [Outcome.DONE]


async def test_what_there_is_no_room_for_is_counted_in_the_record(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zlh.accounts.audit.AGAIN_SECONDS", 0.01)
    async with trail(postgres_url, most_waiting=5) as (made, database):
        database.away = True
        for n in range(12):
            made.note(act(f"n.{n}"), DONE)
        database.away = False
        found = await everything(made)
        # The oldest are kept: nobody pushes out what he did by doing more.
        assert [entry.action for entry in found] == [*(f"n.{n}" for n in range(5)), "audit.lost"]
        assert (found[-1].details, found[-1].outcome) == ({"lost": 7}, Outcome.FAILED)


async def test_one_that_cannot_be_written_takes_no_others_with_it(
    postgres_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zlh.accounts.audit.AGAIN_SECONDS", 0.01)
    async with trail(postgres_url) as (made, _):
        impossible = Act(at=NOW, action="bad", credential="none", details={"x": float("nan")})  # type: ignore[dict-item]
        for what in (act("before"), impossible, act("after")):
            made.note(what, DONE)
        found = await everything(made)
        assert [entry.action for entry in found] == ["before", "after", "audit.lost"]
        assert found[-1].details == {"lost": 1}
    assert "missing from the audit record" in caplog.text


async def test_where_nothing_can_be_written_it_is_counted_and_said_now_and_then(
    postgres_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zlh.accounts.audit.AGAIN_SECONDS", 0.05)
    async with trail(postgres_url) as (made, database):
        database.broken = True
        for action in ("one", "two"):
            made.note(act(action), DONE)
        begun = trio.current_time()
        with trio.fail_after(30):
            while caplog.text.count("missing from the audit record") < 4:  # noqa: ASYNC110 - nor that it failed
                await trio.sleep(0.01)
        assert trio.current_time() - begun > 3 * 0.05
        database.broken = False
        found = await everything(made)
        # Also the row that tells of them could not be written, and is none of them.
        assert {entry.action for entry in found} == {"audit.lost"}
        assert sum(cast(int, entry.details["lost"]) for entry in found) == 2


async def test_what_waits_is_written_before_the_end(postgres_url: str) -> None:
    database = Database(postgres_url, pool_size=2)
    made = AuditTrail(database, Attempts(3, 60))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        await trio.testing.wait_all_tasks_blocked()
        made.note(act("last words"), DONE)
        nursery.cancel_scope.cancel()
    assert [entry.action for entry in await made.page(Wanted())] == ["last words"]
    await database.aclose()


async def test_a_stop_during_an_outage_is_not_held_up_for_long(postgres_url: str) -> None:
    async with trail(postgres_url) as (made, database):
        database.away = True
        made.note(act("lost"), DONE)
        await trio.testing.wait_all_tasks_blocked()
        begun = trio.current_time()
    assert trio.current_time() - begun < 3


async def test_a_long_queue_goes_out_in_batches(postgres_url: str) -> None:
    async with trail(postgres_url) as (made, database):
        for n in range(BATCH * 2 + 1):
            made.note(act(f"n.{n}"), DONE)
        with trio.fail_after(30):
            await made.flushed()
        assert database.asked == 3

        def count(connection: sa.Connection) -> int:
            found: int = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            return found

        assert await database.run(count) == BATCH * 2 + 1


async def test_strangers_begin_no_more_than_they_may(postgres_url: str) -> None:
    async with trail(postgres_url) as (made, _):
        assert [made.may_begin("203.0.113.7") for _ in range(5)] == [True] * 3 + [False] * 2
        assert made.may_begin("203.0.113.8")
        made.was_welcome("203.0.113.7")
        assert made.may_begin("203.0.113.7")


async def test_the_retention_goes_on_until_nothing_old_is_left(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zlh.store.audit.forget.__defaults__", (2,))
    async with trail(postgres_url) as (made, _):
        for days in range(8):
            made.note(
                Act(at=NOW - timedelta(days=days), action=f"age.{days}", credential="none"),
                Ending(outcome=Outcome.DONE),
            )
        assert len(await everything(made)) == 8
        assert await made.forget(NOW - timedelta(days=2, hours=1)) == 5
        assert await made.forget(NOW - timedelta(days=2, hours=1)) == 0
        assert [entry.action for entry in await everything(made)] == ["age.0", "age.1", "age.2"]


async def test_the_guestbook_tells_who_typed_how_much(postgres_url: str) -> None:
    async with trail(postgres_url) as (made, _):
        access = AccessTable(cast(Tokens, None))
        access.owner_changed(5001, 7)
        book = ConsoleGuestbook(made, access)
        visit = Visit(5001, "203.0.113.7", "portal", "request-1")
        guest = Principal(3, Role.CUSTOMER, "s", 9e9)
        book.arrived(guest, visit)
        book.left(guest, visit, 4)
        opened, closed = await everything(made)
        assert (opened.action, opened.details, opened.vmid) == ("console.open", {}, 5001)
        assert (closed.action, closed.details) == ("console.close", {"lines": 4})
        assert opened.actor is not None
        assert opened.subject is not None
        assert (opened.actor.id, opened.subject.id, opened.address) == (3, 7, "203.0.113.7")


def test_credentials_have_names() -> None:
    assert credential_of(Principal(1, Role.CUSTOMER, "abc", 0.0)) == "session:abc"
    assert credential_of(Principal(1, Role.CUSTOMER, "key:abc", 0.0, frozenset({Scope.FILES}))) == "key:abc"
    assert credential_of(Principal(1, Role.CUSTOMER, "abc", 0.0, acting=Acting(2, True))) == "acting:abc"
