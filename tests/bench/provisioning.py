"""Many containers asked for at the same moment, on a Proxmox and with agents that take next to no time."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import trio

from tests.bench.figures import Figure, quantile
from tests.bench.scale import Scale
from tests.bench.world import Api, World, open_world
from zlh.model.accounts import Account

GAME = {
    "ctype": "game",
    "game": "minecraft",
    "variant": "paper",
    "version": "1.21.1",
    "memoryMiB": 256,
    "cpuCores": 1,
    "diskGiB": 8,
}
DONE_SECONDS = 600.0
LOOK_SECONDS = 0.25


async def provision(scale: Scale) -> list[Figure]:
    """With the default limits, then with a place for every operation, as another customer."""
    roomy = {"containers_concurrent_operations": scale.operations, "proxmox_mutations_per_node": scale.operations}
    async with open_world(scale, time_scale=0.001, instant_agents=True) as world:
        first, second = await world.account("first"), await world.account("second")
        figures = await _provision(world, first, "default limits", {})
        return figures + await _provision(world, second, f"{scale.operations} at once", roomy)


async def _provision(world: World, customer: Account, how: str, settings: Mapping[str, object]) -> list[Figure]:
    async with world.api(**settings) as api:
        await api.ready()
        return await _measure(world, api, how, await api.token(customer.username))


async def _measure(world: World, api: Api, how: str, token: str) -> list[Figure]:
    count = world.scale.operations
    asked: list[float] = []
    before, began = api.usage().cpu, trio.current_time()
    await api.stalls()
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(partial(_ask, api, token, number, asked))
    operations = await _ended(api, token, count)
    seconds, cpu = trio.current_time() - began, api.usage().cpu - before
    stalls = await api.stalls()
    succeeded = sum(operation["state"] == "succeeded" for operation in operations)
    name = f"provisioning {count}, {how}"
    return [
        Figure(f"{name}: until all run", seconds, "s", note=f"{succeeded} of {count} succeeded"),
        Figure(f"{name}: throughput", 60 * succeeded / seconds, "1/min"),
        Figure(f"{name}: processor of the API for each", 1000 * cpu / count, "ms"),
        Figure(f"{name}: 99 % of the answers 202 came within", 1000 * quantile(asked, 0.99), "ms"),
        Figure(f"{name}: longest stall of the loop", 1000 * stalls.longest, "ms", note=str(stalls)),
    ]


async def _ask(api: Api, token: str, number: int, asked: list[float]) -> None:
    began = trio.current_time()
    await api.call("POST", "/api/instances", token, {**GAME, "name": f"bench {number}"})
    asked.append(trio.current_time() - began)


async def _ended(api: Api, token: str, count: int) -> list[dict[str, Any]]:
    with trio.fail_after(DONE_SECONDS):
        while True:
            page = await api.call("GET", "/api/operations?limit=100", token)
            operations: list[dict[str, Any]] = page["operations"]
            if sum(operation["state"] in ("succeeded", "failed", "compensated") for operation in operations) >= count:
                return operations
            await trio.sleep(LOOK_SECONDS)
