"""Sockets that are read where their bytes arrive: each to the one who waits for it, until that has had enough."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from time import perf_counter

import pytest
import trio
import trio.testing

from zlh.gateway.arrivals import COSTLY_SECONDS, LEAST, Arrivals
from zlh.gateway.connection import Connection, GoneError, Interrupted, Reason

SECONDS = 5.0


@pytest.fixture
async def arrivals() -> AsyncIterator[Arrivals]:
    arrivals = Arrivals()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(arrivals.run)
        with trio.fail_after(SECONDS):
            yield arrivals
        nursery.cancel_scope.cancel()
    arrivals.close()


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Connection, socket.socket]]:
    ours, theirs = socket.socketpair()
    connection = Connection(ours, write_seconds=SECONDS)
    yield connection, theirs
    connection.close()
    theirs.close()


Pair = tuple[Connection, socket.socket]


async def test_what_comes_is_taken_until_it_is_enough(arrivals: Arrivals, pair: Pair) -> None:
    connection, peer = pair
    taken: list[bytes] = []

    def take(data: bytes) -> bool:
        taken.append(data)
        peer.send(b"%d" % len(taken))
        return data != b"3"

    peer.send(b"0")
    assert await arrivals.pump(connection, take) == b"3"
    assert taken == [b"0", b"1", b"2", b"3"]
    # What came since then is for whoever reads next.
    assert await connection.recv() == b"4"


async def test_what_takes_long_comes_in_smaller_pieces(arrivals: Arrivals, pair: Pair) -> None:
    connection, peer = pair
    sizes: list[int] = []

    def take(data: bytes) -> bool:
        sizes.append(len(data))
        until = perf_counter() + 2 * COSTLY_SECONDS
        while perf_counter() < until:
            pass
        return sum(sizes) < 100_000

    async def write() -> None:
        await trio.to_thread.run_sync(peer.sendall, bytes(100_000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await arrivals.pump(connection, take)
    assert sum(sizes) == 100_000
    assert max(sizes[2:]) == LEAST


async def test_the_end_of_the_stream(arrivals: Arrivals, pair: Pair) -> None:
    connection, peer = pair
    peer.send(b"last words")
    peer.close()
    taken: list[bytes] = []

    def take(data: bytes) -> bool:
        taken.append(data)
        return True

    assert await arrivals.pump(connection, take) == b""
    assert taken == [b"last words"]


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_an_interruption_ends_it(arrivals: Arrivals, pair: Pair, when: str) -> None:
    connection, _ = pair
    async with trio.open_nursery() as nursery:

        async def interrupt() -> None:
            await trio.testing.wait_all_tasks_blocked()
            connection.interrupt(Reason.DRAIN)

        if when == "before":
            connection.interrupt(Reason.DRAIN)
        else:
            nursery.start_soon(interrupt)
        with pytest.raises(Interrupted) as interrupted:
            await arrivals.pump(connection, bool)
    assert interrupted.value.reason is Reason.DRAIN


async def test_a_close_ends_it_and_the_number_is_free_for_the_next(arrivals: Arrivals, pair: Pair) -> None:
    connection, _ = pair
    number = connection.sock.fileno()
    async with trio.open_nursery() as nursery:

        async def close() -> None:
            await trio.testing.wait_all_tasks_blocked()
            connection.close()

        nursery.start_soon(close)
        with pytest.raises(Interrupted):
            await arrivals.pump(connection, bool)
    ours, theirs = socket.socketpair()
    with theirs:
        other = Connection(ours, write_seconds=SECONDS)
        assert number in (ours.fileno(), theirs.fileno())
        theirs.send(b"hello")
        assert await arrivals.pump(other, lambda data: False) == b"hello"
        other.close()


async def test_a_reset_and_a_bug_are_told_to_the_one_who_waits(arrivals: Arrivals, pair: Pair) -> None:
    connection, peer = pair
    peer.send(b"x")
    with pytest.raises(ZeroDivisionError):
        await arrivals.pump(connection, lambda data: 1 // 0 == 0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    theirs.close()
    broken = Connection(ours, write_seconds=SECONDS)
    with pytest.raises(GoneError):
        await arrivals.pump(broken, bool)
    broken.close()


async def test_a_wait_that_is_cancelled_leaves_the_bytes_alone(arrivals: Arrivals, pair: Pair) -> None:
    connection, peer = pair
    with trio.move_on_after(0.05):
        await arrivals.pump(connection, bool)
    peer.send(b"later")
    assert await connection.recv() == b"later"


async def test_many_at_once_are_each_told_their_own(arrivals: Arrivals) -> None:
    heard: dict[int, bytes] = {}

    async def wait(number: int) -> None:
        ours, theirs = socket.socketpair()
        connection = Connection(ours, write_seconds=SECONDS)
        theirs.send(b"%d" % number)
        heard[number] = await arrivals.pump(connection, lambda data: False)
        connection.close()
        theirs.close()

    async with trio.open_nursery() as nursery:
        for number in range(200):
            nursery.start_soon(wait, number)
    assert heard == {number: b"%d" % number for number in range(200)}


async def test_who_listens_is_called_until_it_reads_or_somebody_else_listens(arrivals: Arrivals, pair: Pair) -> None:
    connection, peer = pair
    heard: list[bytes | None] = []
    ended = trio.Event()

    def first() -> None:
        if heard.append(None) is None and len(heard) == 3:
            arrivals.listen(connection, second)

    def second() -> None:
        heard.append(connection.recv_nowait())
        if heard[-1] == b"":
            arrivals.ignore(connection)
            ended.set()

    arrivals.listen(connection, first)
    peer.send(b"word")
    peer.shutdown(socket.SHUT_WR)
    await ended.wait()
    assert heard == [None, None, None, b"word", b""]
    arrivals.ignore(connection)
