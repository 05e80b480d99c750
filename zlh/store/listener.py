"""Hears what other transactions say on a channel, without a thread.

    async with listen(url, "operations") as notifications:
        async for event in notifications:
            match event:
                case Listening(): look at everything: what was said before was missed
                case Notification(payload=name): look at that one

The connection is made when the first event is asked for, and made again, with growing pauses, whenever it breaks;
each time `Listening` comes first. PostgreSQL keeps what the reader has not yet taken, so nothing is lost in between.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import psycopg
import trio
from psycopg import sql

from zlh.store.urls import libpq_url

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0
_CONNECT_TIMEOUT_SECONDS: Final = 3


@dataclass(frozen=True, slots=True)
class Listening:
    """From here on nothing is missed. `connections` counts them: more than 1 means that the former one broke."""

    connections: int


@dataclass(frozen=True, slots=True)
class Notification:
    payload: str


Event = Listening | Notification


class Notifications:
    """An endless iterator for one reader at a time."""

    def __init__(self, url: str, channel: str) -> None:
        self._url = libpq_url(url)
        self._channel = channel
        self._connection: psycopg.Connection[object] | None = None
        self._connections = 0
        self._pending: deque[Event] = deque()

    def __aiter__(self) -> Notifications:
        return self

    async def __anext__(self) -> Event:
        while not self._pending:
            if self._connection is None:
                await self._connect()
            else:
                await self._receive(self._connection)
        await trio.lowlevel.checkpoint()
        return self._pending.popleft()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _connect(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                self._connection = await trio.to_thread.run_sync(self._open)
            except psycopg.Error:
                await trio.sleep(random.uniform(0.5, 1.0) * pause)  # noqa: S311 - jitter, not a secret
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                continue
            self._connections += 1
            self._pending.append(Listening(self._connections))
            return

    def _open(self) -> psycopg.Connection[object]:
        connection: psycopg.Connection[object] = psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=_CONNECT_TIMEOUT_SECONDS,
            application_name="zlh listener",
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
        )
        try:
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
        except BaseException:
            connection.close()
            raise
        return connection

    async def _receive(self, connection: psycopg.Connection[object]) -> None:
        raw = connection.pgconn
        # What came together with an earlier answer is in libpq's buffer, and the socket is quiet about it.
        if not self._take(connection):
            await trio.lowlevel.wait_readable(raw.socket)
            try:
                raw.consume_input()
            except psycopg.Error:
                self.close()
                return
            self._take(connection)
            if raw.status != psycopg.pq.ConnStatus.OK:
                self.close()

    def _take(self, connection: psycopg.Connection[object]) -> bool:
        found = False
        while (notice := connection.pgconn.notifies()) is not None:
            self._pending.append(Notification(bytes(notice.extra).decode()))
            found = True
        return found


@asynccontextmanager
async def listen(url: str, channel: str) -> AsyncIterator[Notifications]:
    """Does not wait for PostgreSQL: the iterator does, however long it is away."""
    notifications = Notifications(url, channel)
    try:
        yield notifications
    finally:
        notifications.close()
