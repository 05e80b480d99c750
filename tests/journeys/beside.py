"""A Trio of its own, beside a test from whose thread a browser is driven."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

import trio

UP_SECONDS = 30.0

T = TypeVar("T")


@contextmanager
def beside(opening: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """What `opening` makes, served by another thread until the block ends."""
    opened: SimpleQueue[tuple[T, Callable[[], None]] | None] = SimpleQueue()

    async def serve() -> None:
        async with opening() as made:
            done = trio.Event()
            opened.put((made, partial(trio.lowlevel.current_trio_token().run_sync_soon, done.set)))
            await done.wait()

    with ThreadPoolExecutor(1) as thread:
        served = thread.submit(trio.run, serve)
        served.add_done_callback(lambda _: opened.put(None))
        found = opened.get(timeout=UP_SECONDS)
        if found is None:
            served.result()
            raise RuntimeError("it ended before it was there")
        made, end = found
        try:
            yield made
        finally:
            end()
            served.result()


@asynccontextmanager
async def tls_before(port: int, certificate: str, key: str) -> AsyncIterator[int]:
    """A TLS proxy that knows nothing of HTTP, before a loopback port; its own port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def serve(stream: trio.SocketStream) -> None:
        browser = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        async with browser, await trio.open_tcp_stream("127.0.0.1", port) as behind, trio.open_nursery() as nursery:
            nursery.start_soon(_pump, browser, behind, nursery.cancel_scope)
            nursery.start_soon(_pump, behind, browser, nursery.cancel_scope)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def _pump(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream, both: trio.CancelScope) -> None:
    try:
        async for data in source:
            await sink.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    both.cancel()
