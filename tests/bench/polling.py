"""What it costs to poll agents at the default cadence: three requests a round, every five seconds."""

from __future__ import annotations

import trio

from tests.bench.figures import Aim, Figure, at_most
from tests.bench.processes import usage
from tests.bench.scale import Scale
from tests.bench.world import Api, World, open_world

REQUESTS_A_ROUND = 3


async def poll_rounds(scale: Scale) -> list[Figure]:
    """First with few agents, then with more of them in the same world."""
    async with open_world(scale) as world:
        owner = await world.account("owner")
        await world.add(owner, scale.fleet)
        figures = await _measure(world, scale.fleet, at_most(100 / 3))
        await world.add(owner, scale.large_fleet - scale.fleet)
        figures += await _measure(world, scale.large_fleet, None)
    return figures


async def _measure(world: World, count: int, aim: Aim | None) -> list[Figure]:
    async with world.api() as api:
        await api.ready()
        await api.observed(count)
        await trio.sleep(world.scale.settle_seconds)
        return await _steady(world, api, count, aim)


async def _steady(world: World, api: Api, count: int, aim: Aim | None) -> list[Figure]:
    await api.stalls()
    requests, began = await world.requests_to_agents(), trio.current_time()
    api_cpu, agents_cpu = api.usage().cpu, usage(world.agents_pid).cpu
    await trio.sleep(world.scale.poll_seconds)
    api_cpu, agents_cpu = api.usage().cpu - api_cpu, usage(world.agents_pid).cpu - agents_cpu
    seconds = trio.current_time() - began
    requests = max(1, await world.requests_to_agents() - requests)
    stalls = await api.stalls()
    lost = count - await api.running()
    rounds = requests / REQUESTS_A_ROUND
    name = f"{count:,} agents"
    return [
        Figure(
            f"{name}: processor of the API",
            100 * api_cpu / seconds,
            "% of a core",
            aim,
            f"agents' process {agents_cpu / seconds:.0%} of another; {lost} agents not heard of at the end",
        ),
        Figure(f"{name}: requests to agents", requests / seconds, "1/s", note="with players, version and update"),
        Figure(
            f"{name}: processor per round of three requests", 1e6 * api_cpu / rounds, "us", note="all that it did"
        ),
        Figure(f"{name}: rounds per second of processor time", rounds / max(api_cpu, 0.01), "1/s"),
        Figure(f"{name}: longest stall of the loop", 1000 * stalls.longest, "ms", note=str(stalls)),
    ]
