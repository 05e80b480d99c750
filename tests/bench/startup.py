"""From the start of the API's process to the last container that it has seen run."""

from __future__ import annotations

import time
from statistics import median

from tests.bench.figures import Figure
from tests.bench.scale import Scale
from tests.bench.world import World, open_world


async def start(scale: Scale) -> list[Figure]:
    """The middle of a few starts; the first one runs with cold agents and is not counted."""
    async with open_world(scale) as world:
        await world.add(await world.account("owner"), scale.fleet)
        await _start(world)
        starts = [await _start(world) for _ in range(scale.rounds)]
    ready, observed, longest = (median(column) for column in zip(*starts, strict=True))
    name = f"start with {scale.fleet:,} containers"
    return [
        Figure(
            f"{name}: until /api/ready is 200", ready, "s", note=f"the middle of {scale.rounds}; imports included"
        ),
        Figure(f"{name}: until all are observed", observed, "s", note="looked twice a second"),
        Figure(f"{name}: longest stall of the loop", 1000 * longest, "ms"),
    ]


async def _start(world: World) -> tuple[float, float, float]:
    async with world.api() as api:
        await api.ready()
        ready = time.monotonic() - api.born
        await api.observed(world.scale.fleet)
        observed = time.monotonic() - api.born
        return ready, observed, (await api.stalls()).longest
