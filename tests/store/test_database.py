from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
import trio
from sqlalchemy.exc import ProgrammingError

from zlh.model.errors import AbsentError, UnavailableError
from zlh.store.database import Database
from zlh.store.errors import StoreUnavailable


def scalar(connection: sa.Connection, statement: str) -> object:
    return connection.execute(sa.text(statement)).scalar()


def execute(connection: sa.Connection, *statements: str) -> None:
    for statement in statements:
        connection.execute(sa.text(statement))


@contextmanager
def hanging(backends: list[int]) -> Iterator[None]:
    """Whatever is in `backends` by the end is let go on."""
    try:
        yield
    finally:
        for backend in backends:
            os.kill(backend, signal.SIGCONT)


def hang(connection: sa.Connection, backends: list[int]) -> None:
    """From now on PostgreSQL answers nothing on this connection, as on a disk that does not come back."""
    backend = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
    os.kill(backend, signal.SIGSTOP)
    backends.append(backend)


async def active_queries(db: Database) -> object:
    query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND state = 'active' AND pid <> "
    return await db.run(scalar, query + "pg_backend_pid()")


async def test_one_call_is_one_transaction(db: Database) -> None:
    await db.run(execute, "CREATE TABLE marks (mark int)", "INSERT INTO marks VALUES (1)")
    assert await db.run(scalar, "SELECT count(*) FROM marks") == 1


async def test_what_the_function_raises_rolls_back(db: Database) -> None:
    await db.run(execute, "CREATE TABLE marks (mark int)")

    def refuse(connection: sa.Connection) -> None:
        execute(connection, "INSERT INTO marks VALUES (1)")
        raise AbsentError("no such thing")

    with pytest.raises(AbsentError):
        await db.run(refuse)
    assert await db.run(scalar, "SELECT count(*) FROM marks") == 0


async def test_a_bug_stays_a_bug(db: Database) -> None:
    with pytest.raises(ProgrammingError):
        await db.run(scalar, "SELECT nonsense")


async def test_times_are_aware_and_in_utc(db: Database) -> None:
    now = await db.run(scalar, "SELECT now()")
    assert isinstance(now, datetime)
    assert now.tzinfo is not None
    assert now.utcoffset() == UTC.utcoffset(None)


async def test_cancellation_cancels_the_query_and_waits_for_the_thread(db: Database) -> None:
    ended = threading.Event()

    def sleep(connection: sa.Connection) -> None:
        try:
            execute(connection, "SELECT pg_sleep(20)")
        finally:
            ended.set()

    with trio.fail_after(5), trio.move_on_after(0.3) as scope:
        await db.run(sleep)
    assert scope.cancelled_caught
    assert ended.is_set()
    assert await active_queries(db) == 0
    assert await db.run(scalar, "SELECT 1") == 1


async def test_cancellation_reaches_a_function_between_two_statements(db: Database) -> None:
    """A cancel request that finds no running query is lost; it is sent again until the function ends."""
    between = threading.Event()

    def pause_and_sleep(connection: sa.Connection) -> None:
        execute(connection, "SELECT 1")
        between.wait(0.6)
        execute(connection, "SELECT pg_sleep(20)")

    with trio.fail_after(5), trio.move_on_after(0.3) as scope:
        await db.run(pause_and_sleep)
    assert scope.cancelled_caught


async def test_every_worker_stuck_can_still_be_cancelled(postgres_url: str) -> None:
    db = Database(postgres_url, 3)
    with trio.fail_after(5), trio.move_on_after(0.3):
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(db.run, execute, "SELECT pg_sleep(20)")
    with trio.fail_after(5):
        assert await active_queries(db) == 0
    await db.aclose()


async def test_a_caller_who_leaves_a_postgres_that_hangs_is_let_go(db: Database) -> None:
    """It heeds no cancel request: the connection is cut, and nothing waits for it any more."""
    backends: list[int] = []

    def ask(connection: sa.Connection) -> None:
        hang(connection, backends)
        execute(connection, "SELECT 1")

    with hanging(backends):
        with trio.fail_after(20), trio.move_on_after(0.3) as scope:
            await db.run(ask)
        assert scope.cancelled_caught
        assert len(backends) == 1
        assert await db.run(scalar, "SELECT 1") == 1, "on another connection"


async def test_a_postgres_that_hangs_is_unavailable(postgres_url: str) -> None:
    db = Database(postgres_url, patience=0.4)
    backends: list[int] = []

    def ask(connection: sa.Connection) -> None:
        hang(connection, backends)
        execute(connection, "SELECT 1")

    with hanging(backends):
        with trio.fail_after(20), pytest.raises(StoreUnavailable, match="keep up") as caught:
            await db.run(ask)
        assert not caught.value.may_have_committed
        assert len(backends) == 1, "not tried again"
        with trio.fail_after(20), pytest.raises(StoreUnavailable) as caught:
            await db.run(hang, backends)
        assert caught.value.may_have_committed, "it hung in COMMIT"
    await db.aclose()


async def test_nobody_waits_for_ever_for_a_connection(postgres_url: str) -> None:
    db = Database(postgres_url, 1, patience=0.5)
    finish, waits = threading.Event(), trio.Event()
    async with trio.open_nursery() as nursery:

        def work(connection: sa.Connection) -> None:
            trio.from_thread.run_sync(waits.set)
            finish.wait(20)
            execute(connection, "SELECT 1")

        async def hold() -> None:
            with pytest.raises(StoreUnavailable):
                await db.run(work)

        nursery.start_soon(hold)
        await waits.wait()
        with trio.fail_after(20), pytest.raises(StoreUnavailable, match="keep up"):
            await db.ready()
        finish.set()
    await db.ready()
    await db.aclose()


async def test_an_answer_that_was_committed_survives_a_late_cancellation(db: Database) -> None:
    finish = threading.Event()

    def answer(connection: sa.Connection) -> int:
        finish.wait()
        return 7

    got: list[int] = []
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel, scope)
                got.append(await db.run(answer))

        async def cancel(scope: trio.CancelScope) -> None:
            await trio.sleep(0.05)
            scope.cancel()
            await trio.sleep(0.05)
            finish.set()

        nursery.start_soon(ask)
    assert got == [7]


async def test_a_statement_that_takes_too_long_is_unavailable(postgres_url: str) -> None:
    db = Database(postgres_url, statement_timeout=0.1)
    with pytest.raises(StoreUnavailable, match="keep up") as caught:
        await db.run(execute, "SELECT pg_sleep(5)")
    assert isinstance(caught.value, UnavailableError)
    assert caught.value.retry_after
    await db.aclose()


async def test_a_serialization_failure_is_tried_again(db: Database) -> None:
    calls = 0

    def collide_twice(connection: sa.Connection) -> int:
        nonlocal calls
        calls += 1
        if calls <= 2:
            execute(connection, "DO $$ BEGIN RAISE EXCEPTION 'collision' USING ERRCODE = '40001'; END $$")
        return calls

    assert await db.run(collide_twice) == 3


async def test_endless_collisions_give_up(db: Database) -> None:
    with pytest.raises(StoreUnavailable, match="changed by too many"):
        await db.run(execute, "DO $$ BEGIN RAISE EXCEPTION 'deadlock' USING ERRCODE = '40P01'; END $$")


async def test_two_that_deadlock_both_succeed(db: Database) -> None:
    await db.run(execute, "CREATE TABLE pair (id int PRIMARY KEY, n int)", "INSERT INTO pair VALUES (1, 0), (2, 0)")
    meet = threading.Barrier(2, timeout=5)
    first_time = {1: True, 2: True}

    def both(connection: sa.Connection, first: int, second: int) -> None:
        execute(connection, f"UPDATE pair SET n = n + 1 WHERE id = {first}")
        if first_time.pop(first, False):
            meet.wait()
        execute(connection, f"UPDATE pair SET n = n + 1 WHERE id = {second}")

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(db.run, both, 1, 2)
            nursery.start_soon(db.run, both, 2, 1)
    assert await db.run(scalar, "SELECT sum(n) FROM pair") == 4


async def test_a_connection_that_broke_before_commit_is_tried_again(db: Database) -> None:
    """As after a restart of PostgreSQL: every pooled connection is dead, and PostgreSQL is there."""
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(db.run, execute, "SELECT pg_sleep(0.1)")
    kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'zlh' AND pid <> "
    await db.run(scalar, kill + "pg_backend_pid()")
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(db.run, execute, "SELECT 1")


async def test_a_connection_that_broke_in_commit_is_not_tried_again(db: Database) -> None:
    calls = 0
    await db.run(
        execute,
        "CREATE TABLE fragile (n int)",
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON fragile DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION die()",
    )

    def insert(connection: sa.Connection) -> None:
        nonlocal calls
        calls += 1
        execute(connection, "INSERT INTO fragile VALUES (1)")

    with pytest.raises(StoreUnavailable) as caught:
        await db.run(insert)
    assert caught.value.may_have_committed
    assert calls == 1


async def test_closing_waits_for_what_runs_and_refuses_what_comes(db: Database) -> None:
    done: list[bool] = []
    async with trio.open_nursery() as nursery:

        def work(connection: sa.Connection) -> None:
            execute(connection, "SELECT pg_sleep(0.3)")
            done.append(True)

        nursery.start_soon(db.run, work)
        await trio.sleep(0.1)
        await db.aclose()
        assert done == [True]
    with pytest.raises(trio.ClosedResourceError):
        await db.ready()
    await db.aclose()


async def test_no_postgres_is_unavailable() -> None:
    db = Database("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(StoreUnavailable, match="reachable"):
        await db.ready()
    await db.aclose()


def test_another_kind_of_address_is_refused() -> None:
    with pytest.raises(ValueError, match="PostgreSQL"):
        Database("sqlite:///x")
