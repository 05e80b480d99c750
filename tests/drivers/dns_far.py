"""Technitium and Cloudflare, simulated on loopback, with drivers of our own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.drivers.dns_contract import INSTALLATION, ZONE, Row
from zlh.drivers import cloudflare, technitium
from zlh.simulators.cloudflare import Cloudflare
from zlh.simulators.technitium import Technitium

TOKEN = "5e1c3d7a-token-of-the-tests"


class TechnitiumFar:
    def __init__(self, server: Technitium) -> None:
        self.server = server
        self.system = self.driver()

    def driver(self, token: str = TOKEN, installation: str = INSTALLATION) -> technitium.Technitium:
        return technitium.Technitium(self.server.url, token, ZONE, installation)

    async def put(self, kind: str, name: str, value: str, ttl: int = 300) -> None:
        await trio.lowlevel.checkpoint()
        self.server.put(kind, name, value, ttl)

    async def rows(self) -> set[Row]:
        await trio.lowlevel.checkpoint()
        return self.server.rows()


class CloudflareFar:
    def __init__(self, server: Cloudflare) -> None:
        self.server = server
        self.system = self.driver()

    def driver(self, token: str = TOKEN, installation: str = INSTALLATION) -> cloudflare.Cloudflare:
        return cloudflare.Cloudflare(self.server.base_url, token, ZONE, installation)

    async def put(self, kind: str, name: str, value: str, ttl: int = 300) -> None:
        await trio.lowlevel.checkpoint()
        self.server.put(kind, name, value, ttl)

    async def rows(self) -> set[Row]:
        await trio.lowlevel.checkpoint()
        return self.server.rows()


Far = TechnitiumFar | CloudflareFar


@asynccontextmanager
async def technitium_far() -> AsyncIterator[TechnitiumFar]:
    async with trio.open_nursery() as nursery:
        server = Technitium(ZONE, TOKEN)
        nursery.start_soon(server.run)
        far = TechnitiumFar(server)
        try:
            yield far
        finally:
            await far.system.aclose()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def cloudflare_far() -> AsyncIterator[CloudflareFar]:
    async with trio.open_nursery() as nursery:
        server = Cloudflare(ZONE, TOKEN)
        nursery.start_soon(server.run)
        far = CloudflareFar(server)
        try:
            yield far
        finally:
            await far.system.aclose()
            nursery.cancel_scope.cancel()
