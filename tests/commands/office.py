"""A running API and `zlh` beside it, for commands that ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.api.gateway import gateway_before
from tests.api.world import World, open_world
from tests.commands.installation import Installation, Said
from zlh.model.accounts import Role


@dataclass(frozen=True)
class Office:
    """`zlh` beside a running API, with an operator's key."""

    world: World
    installation: Installation
    url: str
    key: str

    async def zlh(self, *words: str) -> Said:
        return await self.installation.told(*words, "--url", self.url, ZLH_API_KEY=self.key)


@asynccontextmanager
async def open_office(postgres_url: str, folder: Path) -> AsyncIterator[Office]:
    async with open_world(postgres_url) as world, gateway_before(world) as port:
        _, token = await world.account("oscar", Role.OPERATOR)
        made = await world.call("POST", "/api/auth/api-keys", token, {"name": "office", "scopes": ["operator"]})
        yield Office(world, Installation(folder, postgres_url), f"http://127.0.0.1:{port}", made.json["key"])
