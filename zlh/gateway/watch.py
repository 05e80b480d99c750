"""What looks after all connections at once, so that no request pays for it: the clock, and hung-up clients."""

from __future__ import annotations

import logging
import select
from collections.abc import Callable

import trio

from zlh.gateway.arrivals import Arrivals
from zlh.gateway.connection import Connection, Reason

logger = logging.getLogger("zlh.gateway")

TICK_SECONDS = 0.25
_HANGUPS = select.EPOLLRDHUP | select.EPOLLET


class Watch:
    """Interrupts connections whose deadline passed, and tells those whose peer hung up while nobody reads.

    Time limits are kept to a tick. `on_tick` callbacks get the current Trio time; `now` is that of the last tick, for
    limits that are set often. `arrivals` reads sockets for those who want no task of their own for that.
    """

    def __init__(self) -> None:
        self._connections: set[Connection] = set()
        self._by_fd: dict[int, Connection] = {}
        self._epoll = select.epoll()
        self._callbacks: set[Callable[[float], None]] = set()
        self.arrivals = Arrivals()
        self.now = 0.0

    def add(self, connection: Connection, *, hangups: bool = False) -> None:
        self._connections.add(connection)
        if hangups:
            fd = connection.sock.fileno()
            self._by_fd[fd] = connection
            self._epoll.register(fd, _HANGUPS)

    def remove(self, connection: Connection) -> None:
        """Before the socket is closed: its number is given to the next one at once."""
        self._connections.discard(connection)
        if connection.closed:
            return
        fd = connection.sock.fileno()
        if self._by_fd.get(fd) is connection:
            del self._by_fd[fd]
            self._epoll.unregister(fd)

    def on_tick(self, callback: Callable[[float], None]) -> None:
        self._callbacks.add(callback)

    def off_tick(self, callback: Callable[[float], None]) -> None:
        self._callbacks.discard(callback)

    async def run(self) -> None:
        """Until cancelled."""
        self.now = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_clock)
            nursery.start_soon(self._watch_hangups)
            nursery.start_soon(self.arrivals.run)

    def close(self) -> None:
        """After `run`, and after every connection was removed."""
        self._epoll.close()
        self.arrivals.close()

    async def _watch_clock(self) -> None:
        while True:
            await trio.sleep(TICK_SECONDS)
            now = self.now = trio.current_time()
            for connection in [each for each in self._connections if each.deadline <= now or each.ends_at <= now]:
                connection.interrupt(Reason.DEADLINE)
            for callback in tuple(self._callbacks):
                try:
                    callback(now)
                except Exception:
                    logger.exception("a callback of the clock failed")

    async def _watch_hangups(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            for fd, _ in self._epoll.poll(0):
                connection = self._by_fd.get(fd)
                if connection is None or connection.hung_up:
                    continue
                connection.hung_up = True
                if connection.on_hangup is not None:
                    connection.on_hangup()
