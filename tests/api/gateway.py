"""The world behind the real gateway, on a real socket."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from tests.api.world import World
from tests.gateway.behind import FakeConsoles
from zlh.api import Reads
from zlh.gateway import serve, serve_app


@asynccontextmanager
async def gateway_before(world: World) -> AsyncIterator[int]:
    """The port, for as long as the block lasts. The consoles behind it are empty."""
    stop = trio.Event()
    with tempfile.TemporaryDirectory(prefix="zlh-gw-") as folder:
        socket = str(Path(folder) / "api.sock")
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_app, world.app, socket, stop.wait)
            gateway = await nursery.start(
                partial(
                    serve,
                    "127.0.0.1",
                    0,
                    upstream_socket=socket,
                    doorkeeper=world.access,
                    consoles=FakeConsoles(),
                    origin_allowed=world.services.origins.allow,
                    reads=Reads(world.services),
                )
            )
            yield gateway.address.port
            await gateway.drain(0.5)
            stop.set()
