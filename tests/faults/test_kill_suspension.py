"""`kill -9` of the API at each turn of a suspension, then a restart: what the standing says is what comes about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.faults.scenes import provisioned
from tests.faults.world import World, open_world

pytestmark = pytest.mark.faults

# Of each round: where it dies on the way off, while data is to be fetched, and on the way back.
ROUNDS = (
    ("journal.want, before", "journal.want, after", "journal.want, before"),
    ("journal.want, after", "journal.begin, after", "journal.want, after"),
    ("agent.stop, before", "do start: proxmox.start, after", "agent.start, before"),
    ("do shutdown: proxmox.shutdown, after", "do start: journal.done, after", "agent.start, after"),
)


async def test_a_kill_at_any_turn_is_survived() -> None:
    async with open_world() as world:
        pid = await world.start()
        await world.register("customer")
        vmid = await provisioned(world, "suspended")
        account = (await world.call("GET", "/api/auth/me"))["user"]["id"]
        overseen = f"/api/operators/accounts/{account}"
        operator = await world.make_operator()

        async def at(place: str, path: str, document: object = None, token: str | None = None) -> int:
            """Asks, dies there, and starts again; the pid of the API that lives on."""
            world.arm(pid, target=place)
            with speaking(world, token):
                await lost(world, path, document)
            assert await world.death(pid) is not None, f"{place} was not passed"
            return await world.start()

        for off, fetching, back in ROUNDS:
            pid = await at(off, f"{overseen}/suspend", {"reason": "the bill was not paid"}, operator)
            await world.until_servers(lambda servers: told(servers[vmid]) == ("host offline", True, False))
            pid = await at(fetching, f"/api/servers/{vmid}/retrieval")
            await world.until_servers(lambda servers: told(servers[vmid]) == ("stopped", True, True))
            pid = await at(back, f"{overseen}/unsuspend", None, operator)
            await world.until_servers(lambda servers: told(servers[vmid]) == ("running", False, False))
        await world.kill(pid)


def told(server: dict[str, Any]) -> tuple[str, bool, bool]:
    return server["status"], server["suspended"], server["retrievalUntil"] is not None


@contextmanager
def speaking(world: World, token: str | None) -> Iterator[None]:
    """With that token, or as the customer."""
    before = world.token
    world.token = token or before
    try:
        yield
    finally:
        world.token = before


async def lost(world: World, path: str, document: object) -> None:
    """The answer may be lost."""
    try:
        await world.call("POST", path, document)
    except httpx.TransportError:
        pass
