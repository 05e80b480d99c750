"""What a container weighs in the real API: row, cell, actors, connection, console history."""

from __future__ import annotations

import trio

from tests.bench.figures import Figure
from tests.bench.scale import Scale
from tests.bench.world import World, open_world

GROWTH_ROUNDS = 2


async def containers(scale: Scale) -> list[Figure]:
    """The API's resident memory with none, some and many of them, each time in a fresh process."""
    async with open_world(scale) as world:
        owner = await world.account("owner")
        empty = (await _resident(world, 0))[0]
        await world.add(owner, scale.fleet)
        some, _ = await _resident(world, scale.fleet)
        await world.add(owner, scale.large_fleet - scale.fleet)
        many, grown = await _resident(world, scale.large_fleet, GROWTH_ROUNDS)
    return [
        Figure("memory without containers", empty, "MB"),
        Figure(f"memory with {scale.fleet:,} containers", some, "MB"),
        Figure(f"memory with {scale.large_fleet:,} containers", many, "MB"),
        Figure(
            "memory of one container",
            1000 * (many - empty) / scale.large_fleet,
            "kB",
            note=f"between none and {scale.large_fleet:,}; all polled",
        ),
        Figure(
            f"growth with {scale.large_fleet:,} containers",
            grown,
            "MB",
            note=f"over {GROWTH_ROUNDS * scale.poll_seconds:.0f} s of polling",
        ),
    ]


async def _resident(world: World, count: int, rounds: int = 0) -> tuple[float, float]:
    """Megabytes, and by how much they grew in so many further measuring times."""
    async with world.api() as api:
        await api.ready()
        await api.observed(count)
        await trio.sleep(world.scale.settle_seconds)
        before = api.usage().rss_bytes / 1e6
        await trio.sleep(rounds * world.scale.poll_seconds)
        return before, api.usage().rss_bytes / 1e6 - before
