"""Kept connections: who is listened to while idle is dropped the moment that it says something."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

import pytest
import trio

from tests.gateway.peer import until
from zlh.gateway import Limits
from zlh.gateway.upstream import Pool, TcpDestination, Upstream
from zlh.gateway.watch import Watch


@dataclass
class Behind:
    """A pool, and a server that does nothing of its own accord."""

    pool: Pool
    destination: TcpDestination
    streams: list[trio.SocketStream]
    read: int = 0

    def came(self) -> None:
        self.read += 1

    async def idle(self) -> Upstream:
        """One that carried a request and was listened to."""
        upstream = await self.pool.take(self.destination)
        await until(lambda: self.streams)
        self.pool.give(upstream)
        assert self.pool.take_nowait(self.destination, self.came) is upstream
        self.pool.give(upstream)
        return upstream


@pytest.fixture
async def behind() -> AsyncIterator[Behind]:
    streams: list[trio.SocketStream] = []

    async def serve(stream: trio.SocketStream) -> None:
        streams.append(stream)
        await trio.sleep_forever()

    watch = Watch()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        serving = partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
        (listener,) = await nursery.start(serving)
        port = listener.socket.getsockname()[1]
        pool = Pool(Limits(), watch)
        yield Behind(pool, TcpDestination("127.0.0.1", port), streams)
        pool.close()
        nursery.cancel_scope.cancel()
    watch.close()


async def test_there_may_be_none(behind: Behind) -> None:
    assert behind.pool.take_nowait(behind.destination, behind.came) is None


async def test_it_is_read_by_who_took_it(behind: Behind) -> None:
    upstream = await behind.idle()
    assert behind.pool.take_nowait(behind.destination, behind.came) is upstream
    assert behind.pool.take_nowait(behind.destination, behind.came) is None
    await behind.streams[0].send_all(b"x")
    await until(lambda: behind.read)
    assert upstream.recv_nowait() == b"x"
    behind.pool.release(upstream)
    before = behind.read
    await behind.streams[0].send_all(b"y")
    assert await upstream.recv() == b"y"
    assert behind.read == before
    behind.pool.drop(upstream)
    assert behind.pool.open_count == 0


@pytest.mark.parametrize("what", ["words", "the end"])
async def test_who_speaks_unasked_is_dropped(what: str, behind: Behind) -> None:
    await behind.idle()
    await (behind.streams[0].send_all(b"x") if what == "words" else behind.streams[0].aclose())
    await until(lambda: behind.pool.open_count == 0)
    assert behind.pool.take_nowait(behind.destination, behind.came) is None
    assert behind.read == 0


async def test_who_was_not_listened_to_is_looked_at(behind: Behind) -> None:
    upstream = await behind.pool.take(behind.destination)
    await until(lambda: behind.streams)
    behind.pool.give(upstream)
    await behind.streams[0].send_all(b"x")
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert behind.pool.take_nowait(behind.destination, behind.came) is None
    assert behind.pool.open_count == 0


async def test_a_task_may_take_one_that_is_listened_to(behind: Behind) -> None:
    upstream = await behind.idle()
    assert await behind.pool.take(behind.destination) is upstream
    await behind.streams[0].send_all(b"x")
    assert await upstream.recv() == b"x"
    assert behind.pool.open_count == 1
