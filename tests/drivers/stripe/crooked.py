"""A Stripe whose every answer is what it is told to be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from zlh.simulators.agent.http import Request, Response, listen, serve


@asynccontextmanager
async def open_crooked(answer: Response) -> AsyncIterator[str]:
    """Its address."""
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]

    async def always(request: Request) -> Response:
        await request.body()
        return answer

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, listener, always)
        yield f"http://127.0.0.1:{port}"
        nursery.cancel_scope.cancel()
