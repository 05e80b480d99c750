"""Sockets that are read the moment that bytes come, many in a row: a wait of a task for each costs twice as much."""

from __future__ import annotations

import select
from collections.abc import Callable
from time import perf_counter

import trio

from zlh.gateway.connection import READ_SIZE, Connection, Interrupted, Reason

AT_ONCE = 64
"""So many sockets are read before others have their turn, unless they take longer than the next one."""

TURN_SECONDS = 0.005
COSTLY_SECONDS = 0.001
"""What was read at once and took longer comes in smaller pieces from then on: there are tiny frames in it."""

LEAST = 1024


class Arrivals:
    """A socket is read only here while somebody waits in `pump` for it or listens to it, and then by nobody else."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}

    async def pump(self, connection: Connection, take: Callable[[bytes], bool]) -> bytes:
        """Hands what comes to `take`, which must not block, until that says false; returns what was handed to it
        last, or nothing at the end of the stream. Raises GoneError, Interrupted (also where it is closed meanwhile),
        and what `take` does."""
        _refuse_ended(connection)
        over = trio.Event()
        last = b""
        failure: Exception | None = None
        fd = connection.sock.fileno()
        size = READ_SIZE

        def arrived() -> None:
            nonlocal last, failure, size
            try:
                data = connection.recv_nowait(size)
                # Only what is long can take long.
                began = perf_counter() if size < READ_SIZE or (data and len(data) > LEAST) else 0.0
                if data is None or (data and take(data)):
                    if began:
                        costly = perf_counter() - began > COSTLY_SECONDS
                        size = max(LEAST, size // 8) if costly else min(READ_SIZE, size * 2)
                    return
                last = data
            except Exception as error:  # noqa: BLE001 - raised below, in the task that waits
                failure = error
            self._stop(fd)
            over.set()

        self._readers[fd] = arrived
        self._epoll.register(fd, select.EPOLLIN)
        connection.on_interrupt = over.set
        try:
            await over.wait()
        finally:
            connection.on_interrupt = None
            if self._readers.get(fd) is arrived:
                self._stop(fd)
        if failure is not None:
            raise failure
        if not last:
            _refuse_ended(connection)
        return last

    def listen(self, connection: Connection, reader: Callable[[], None]) -> None:
        """Calls `reader` whenever there is something to be read, the end included, until `ignore` or another
        `listen`. It must neither block nor raise, and has to read or to ignore: it is called again otherwise."""
        fd = connection.sock.fileno()
        if fd not in self._readers:
            self._epoll.register(fd, select.EPOLLIN)
        self._readers[fd] = reader

    def ignore(self, connection: Connection) -> None:
        """Before the socket is closed. May be called more than once."""
        fd = connection.sock.fileno()
        if fd in self._readers:
            self._stop(fd)

    def _stop(self, fd: int) -> None:
        del self._readers[fd]
        try:
            self._epoll.unregister(fd)
        except OSError:
            pass  # it was closed, and is not there any more

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            until = perf_counter() + TURN_SECONDS
            # What came meanwhile costs less now than after a turn of all tasks.
            while perf_counter() < until and (ready := self._epoll.poll(0, AT_ONCE)):
                for fd, _ in ready:
                    reader = self._readers.get(fd)
                    # One that was read before it may have ended this one.
                    if reader is not None:
                        reader()
                        if perf_counter() > until:
                            break

    def close(self) -> None:
        """After `run`."""
        self._epoll.close()


def _refuse_ended(connection: Connection) -> None:
    if connection.interrupted is not None or connection.closed:
        raise Interrupted(connection.interrupted or Reason.ENDING)
