from __future__ import annotations

import sqlalchemy as sa
import trio

from zlh.store import Database
from zlh.store.listener import Listening, Notification, listen
from zlh.store.notify import notify


def say(connection: sa.Connection, *words: str) -> None:
    for word in words:
        notify(connection, "words", word)


def terminate_listeners(connection: sa.Connection) -> None:
    find = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'zlh listener'"
    connection.execute(sa.text(find + " AND datname = current_database()"))


async def test_hears_what_was_committed_in_order(db: Database, postgres_url: str) -> None:
    with trio.fail_after(60):
        async with listen(postgres_url, "words") as notifications:
            assert await anext(notifications) == Listening(1)
            await db.run(say, "one", "two", "one")
            await db.run(say, "three")
            heard = [await anext(notifications) for _ in range(3)]
            assert heard == [Notification("one"), Notification("two"), Notification("three")]


async def test_what_was_rolled_back_is_not_heard(db: Database, postgres_url: str) -> None:
    def say_and_fail(connection: sa.Connection) -> None:
        say(connection, "never")
        raise LookupError

    with trio.fail_after(60):
        async with listen(postgres_url, "words") as notifications:
            await anext(notifications)
            try:
                await db.run(say_and_fail)
            except LookupError:
                pass
            await db.run(say, "after")
            assert await anext(notifications) == Notification("after")


async def test_a_slow_reader_loses_nothing(db: Database, postgres_url: str) -> None:
    with trio.fail_after(60):
        async with listen(postgres_url, "words") as notifications:
            await anext(notifications)
            for start in range(0, 3000, 500):
                await db.run(say, *(str(number) for number in range(start, start + 500)))
            heard = [await anext(notifications) for _ in range(3000)]
            assert heard == [Notification(str(number)) for number in range(3000)]


async def test_a_broken_connection_is_made_again_and_said(db: Database, postgres_url: str) -> None:
    with trio.fail_after(60):
        async with listen(postgres_url, "words") as notifications:
            assert await anext(notifications) == Listening(1)
            await db.run(terminate_listeners)
            assert await anext(notifications) == Listening(2)
            await db.run(say, "again")
            assert await anext(notifications) == Notification("again")


async def test_cancelled_while_postgres_is_away() -> None:
    with trio.fail_after(60), trio.move_on_after(0.4) as scope:
        async with listen("postgresql://nobody@127.0.0.1:1/none", "words") as notifications:
            await anext(notifications)
    assert scope.cancelled_caught


async def test_leaving_closes_the_connection(db: Database, postgres_url: str) -> None:
    async with listen(postgres_url, "words") as notifications:
        await anext(notifications)

    def listeners(connection: sa.Connection) -> int:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'zlh listener'"
        return connection.execute(sa.text(query + " AND datname = current_database()")).scalar_one()

    with trio.fail_after(60):
        while True:
            if not await db.run(listeners):
                break
            await trio.sleep(0.02)
