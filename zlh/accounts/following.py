"""Hearing of what other processes changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from zlh.store.database import Database
from zlh.store.errors import StoreUnavailable
from zlh.store.listener import Listening, listen

LISTEN_AGAIN_SECONDS = 1.0


async def follow(
    database: Database, channel: str, load: Callable[[], Awaitable[None]], look: Callable[[str], Awaitable[None]]
) -> None:
    """Calls `load` whenever listening begins (again), `look(payload)` for each nudge; runs until cancelled."""
    while True:
        try:
            async with listen(database.url, channel) as events:
                async for event in events:
                    await (load() if isinstance(event, Listening) else look(event.payload))
        except StoreUnavailable:
            # Listening again begins with reading everything, so nothing said meanwhile is missed.
            await trio.sleep(LISTEN_AGAIN_SECONDS)
