"""A simulated Velocity on a socket of its own, and drivers of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from zlh.drivers.velocity import VelocityBridge
from zlh.simulators.velocity import SimulatedVelocity, open_listener

SECRET = "pass the proxy"
LOBBY = {"lobby": ("192.0.2.7", 25565)}


@dataclass
class Proxy:
    far: SimulatedVelocity
    url: str
    bridge: VelocityBridge


@asynccontextmanager
async def open_proxy(*, strict: bool = False, wrapped: bool = False) -> AsyncIterator[Proxy]:
    far = SimulatedVelocity(SECRET, LOBBY, strict=strict, wrapped=wrapped)
    listener = open_listener()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(far.run, listener)
        bridge = VelocityBridge(url, SECRET)
        try:
            yield Proxy(far, url, bridge)
        finally:
            await bridge.aclose()
            nursery.cancel_scope.cancel()
