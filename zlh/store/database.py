"""The pool of connections, and the one way to use it from Trio: a function of a connection, run in a worker thread.

One hop into a thread is one transaction: `await db.run(containers.get, 5001)` opens one, calls
`containers.get(connection, 5001)`, and commits, or rolls back when that raises. Functions may be run more than
once (see `Database.run`), so they do nothing but talk to the database.
"""

from __future__ import annotations

import math
import os
import random
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar

import outcome
import psycopg
import sqlalchemy as sa
import trio
from sqlalchemy.exc import DBAPIError

from zlh.store.errors import StoreUnavailable
from zlh.store.faults import Fault, judge
from zlh.store.urls import sqlalchemy_url
from zlh.store.vault import Vault

P = ParamSpec("P")
T = TypeVar("T")

ATTEMPTS: Final = 5
# A thread that outlives a cancelled caller is told so again at this interval: a cancel request that reaches
# PostgreSQL between two statements is lost.
CANCEL_AGAIN_SECONDS: Final = 0.25
CANCEL_TIMEOUT_SECONDS: Final = 1.0
CUT_AFTER_SECONDS: Final = 1.0
"""A PostgreSQL that hangs heeds no cancel request: so long after the first one the connection is cut from our side,
which ends the thread that waits for it."""
_CONNECT_TIMEOUT_SECONDS: Final = 3

# Cancel requests have threads of their own: when every worker is stuck in a query, they must still get through.
_CANCEL_LIMITER: Final = trio.CapacityLimiter(8)
# Whoever comes to a thread has a place of the database's own limiter already.
_THREADS: Final = trio.CapacityLimiter(math.inf)


class Database:
    """A pool of `pool_size` connections to the PostgreSQL at `url`, made as they are needed.

    `statement_timeout` bounds one statement and `idle_timeout` a transaction that does nothing, both in seconds;
    PostgreSQL enforces them. One that hangs enforces nothing: `patience`, in seconds, bounds the wait for a
    connection, and the whole of a transaction, whose connection is cut then. `vault` seals and opens the agents'
    tokens; what deals with containers needs one.
    """

    def __init__(
        self,
        url: str,
        pool_size: int = 8,
        *,
        vault: Vault | None = None,
        statement_timeout: float = 10.0,
        idle_timeout: float = 30.0,
        patience: float = 20.0,
    ) -> None:
        self._engine = sa.create_engine(
            sqlalchemy_url(url),
            pool_size=pool_size,
            max_overflow=0,
            # The limiter is as large as the pool: a thread that has its turn finds a connection.
            pool_timeout=5,
            connect_args=_connect_arguments(statement_timeout, idle_timeout),
            execution_options={"vault": vault},
        )
        self.url = url
        self._limiter = trio.CapacityLimiter(pool_size)
        self._pool_size = pool_size
        self._patience = patience
        self._closed = False

    async def run(self, fn: Callable[Concatenate[sa.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls `fn(connection, ...)` in a transaction in a worker thread and returns its answer.

        What `fn` raises is raised here, after a rollback. A serialization failure, a deadlock, and a connection that
        broke before COMMIT are tried again from the start, a few times. Raises StoreUnavailable where PostgreSQL is
        away, restarting or does not keep up, and trio.ClosedResourceError after `aclose`.

        On cancellation the running query is cancelled, or where PostgreSQL does not heed that the connection cut, and
        the thread waited for: when this returns, nothing of it runs any more. Where the transaction was committed all
        the same, its answer is returned.
        """
        for attempt in range(1, ATTEMPTS + 1):
            if self._closed:
                raise trio.ClosedResourceError("the database is closed")
            hop = _Hop(self._engine, lambda connection: fn(connection, *args, **kwargs))
            async with self._turn():
                answer = await hop.run(self._patience)
            if isinstance(answer, outcome.Value):
                return answer.value
            if not isinstance(answer.error, DBAPIError | sa.exc.TimeoutError):
                raise answer.error
            # An error that our own cancelling brought about is not news: this raises Cancelled instead.
            await trio.lowlevel.checkpoint_if_cancelled()
            fault = judge(answer.error)
            if fault is Fault.BUG:
                raise answer.error
            if hop.cut:
                fault = Fault.SLOW
            again = fault is Fault.COLLISION or (fault is Fault.LOST and not hop.committing and attempt == 1)
            if not again or attempt == ATTEMPTS:
                raise StoreUnavailable(_sentence(fault), may_have_committed=hop.committing) from answer.error
            await trio.sleep(random.uniform(0.005, 0.02) * 2**attempt)  # noqa: S311 - jitter, not a secret
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """A place among those that have a connection. Raises StoreUnavailable where none becomes free."""
        turn = object()
        with trio.move_on_after(self._patience) as waiting:
            await self._limiter.acquire_on_behalf_of(turn)
        if waiting.cancelled_caught:
            raise StoreUnavailable(_sentence(Fault.SLOW))
        try:
            yield
        finally:
            self._limiter.release_on_behalf_of(turn)

    async def ready(self) -> None:
        """Returns once PostgreSQL has answered; raises StoreUnavailable where it does not."""
        await self.run(_ping)

    async def aclose(self) -> None:
        """Refuses new work, waits for what runs, closes every connection. May be called more than once."""
        self._closed = True
        async with AsyncExitStack() as turns:
            for _ in range(self._pool_size):
                turn = object()
                await self._limiter.acquire_on_behalf_of(turn)
                turns.callback(self._limiter.release_on_behalf_of, turn)
        self._engine.dispose()


class _Hop(Generic[T]):
    """One transaction in one thread, and how to stop it. `committing` is true from the moment that COMMIT is sent,
    `cut` once its connection was cut from our side."""

    def __init__(self, engine: sa.Engine, work: Callable[[sa.Connection], T]) -> None:
        self._engine = engine
        self._work = work
        self._lock = threading.Lock()
        self._running: Any = None  # the psycopg connection while `work` runs on it
        self._wire = _Wire()
        self._ended = trio.Event()
        self.committing = False
        self.cut = False

    async def run(self, patience: float) -> outcome.Value[T] | outcome.Error:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, patience)
            try:
                answer = await trio.to_thread.run_sync(outcome.capture, self._transact, limiter=_THREADS)
            finally:
                self._ended.set()
            nursery.cancel_scope.cancel()
        return answer

    def _transact(self) -> T:
        with self._engine.connect() as connection, self._wire.of(connection):
            transaction = connection.begin()
            try:
                self._enter(connection)
                try:
                    answer = self._work(connection)
                finally:
                    self._leave()
            except BaseException:
                transaction.rollback()
                raise
            self.committing = True
            transaction.commit()
            return answer

    def _enter(self, connection: sa.Connection) -> None:
        with self._lock:
            self._running = connection.connection.driver_connection

    def _leave(self) -> None:
        # Waits for a cancel request under way, so that it never meets the next transaction of this connection.
        with self._lock:
            self._running = None

    async def _watch(self, patience: float) -> None:
        try:
            await trio.sleep(patience)
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await self._cancel()
            # Swallowed on purpose: the hop has ended, and an answer that was committed is worth more than the
            # cancellation, which the caller meets at its next checkpoint.
        else:
            with trio.CancelScope(shield=True):
                await self._cut()

    async def _cancel(self) -> None:
        """Until the hop has ended."""
        with trio.move_on_after(CUT_AFTER_SECONDS) as patient:
            while not self._ended.is_set():
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self._cancel_query, limiter=_CANCEL_LIMITER)
                with trio.move_on_after(CANCEL_AGAIN_SECONDS):
                    await self._ended.wait()
        if patient.cancelled_caught:
            await self._cut()

    async def _cut(self) -> None:
        """As `_cancel`. More than once: the connection may have been made in this moment."""
        while not self._ended.is_set():
            self.cut = self._wire.cut() or self.cut
            with trio.move_on_after(CANCEL_AGAIN_SECONDS):
                await self._ended.wait()

    def _cancel_query(self) -> None:
        with self._lock:
            if self._running is None:
                return
            try:
                self._running.cancel_safe(timeout=CANCEL_TIMEOUT_SECONDS)
            except psycopg.Error:
                pass  # PostgreSQL is away: then the query ends by itself


class _Wire:
    """The socket of a connection, for as long as one hop has it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptor: int | None = None

    @contextmanager
    def of(self, connection: sa.Connection) -> Iterator[None]:
        driver: Any = connection.connection.driver_connection
        # One of our own: libpq closes its one whenever it sees fit, and the number may be another's then.
        descriptor = os.dup(driver.fileno())
        with self._lock:
            self._descriptor = descriptor
        try:
            yield
        finally:
            with self._lock:
                self._descriptor = None
            os.close(descriptor)

    def cut(self) -> bool:
        """Whoever waits for an answer on it hears at once that there is none. False where there is nothing to cut."""
        with self._lock:
            if self._descriptor is None:
                return False
            held = socket.socket(fileno=self._descriptor)
            try:
                held.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other side was quicker
            finally:
                held.detach()
            return True


def _connect_arguments(statement_timeout: float, idle_timeout: float) -> dict[str, Any]:
    options = {
        "statement_timeout": f"{round(statement_timeout * 1000)}",
        "idle_in_transaction_session_timeout": f"{round(idle_timeout * 1000)}",
        "timezone": "UTC",
    }
    return {
        "connect_timeout": _CONNECT_TIMEOUT_SECONDS,
        "application_name": "zlh",
        "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
        # A peer that vanished without a word is noticed within half a minute (TCP only; ignored on unix sockets).
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }


def _ping(connection: sa.Connection) -> None:
    connection.execute(sa.text("SELECT 1"))


def _sentence(fault: Fault) -> str:
    if fault is Fault.SLOW:
        return "the database does not keep up"
    if fault is Fault.COLLISION:
        return "the same data is changed by too many at once"
    return "the database is not reachable"
