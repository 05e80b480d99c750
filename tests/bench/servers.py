"""GET /api/servers through the gateway, from memory: how often, how quickly, at what cost."""

from __future__ import annotations

from typing import Any

import trio

from tests.bench.figures import Figure, at_least, at_most
from tests.bench.processes import result_of
from tests.bench.scale import Scale
from tests.bench.world import Api, World, open_world
from zlh.model.accounts import Role

SELDOM = 300


async def list_servers(scale: Scale) -> list[Figure]:
    """Those of a customer among all containers; agents are polled every five minutes, then at the default cadence."""
    async with open_world(scale) as world:
        customer, others = await world.account("customer"), await world.account("others")
        await world.account("operator", Role.OPERATOR)
        await world.add(customer, scale.own_servers)
        await world.add(others, scale.fleet - scale.own_servers)
        quiet = await _measure(world, "hardly polled", polling_running_seconds=SELDOM)
        polled = await _measure(world, "agents polled")
    return [*quiet, *polled]


async def _measure(world: World, how: str, **settings: object) -> list[Figure]:
    scale = world.scale
    async with world.api(**settings) as api:
        await api.ready()
        await api.observed(scale.fleet)
        token = await api.token("customer")
        size = len((await api.client.get("/api/servers", headers={"Authorization": f"Bearer {token}"})).content)
        await trio.sleep(scale.settle_seconds)
        await api.stalls()
        flat_out, cpu = await _load(api, token, scale, 0)
        paced, _ = await _load(api, token, scale, scale.paced_rate)
        stalls = await api.stalls()
    answers, seconds = flat_out["answers"], flat_out["seconds"]
    name = f"GET /api/servers, {how}"
    load = f"load generator used {flat_out['cpu'] / seconds:.0%} of another core"
    return [
        Figure(
            f"{name}: answers",
            answers / seconds,
            "1/s",
            at_least(1000),
            f"{scale.own_servers} of {scale.fleet} servers, {size / 1000:.0f} kB; {load}",
        ),
        Figure(f"{name}: answers per second of the API's processor time", answers / cpu, "1/s", at_least(1000)),
        Figure(f"{name}: processor of the API meanwhile", 100 * cpu / seconds, "% of a core"),
        Figure(f"{name}: median, {scale.connections} connections asking at once", 1000 * flat_out["p50"], "ms"),
        Figure(f"{name}: 99 %, {scale.connections} connections asking at once", 1000 * flat_out["p99"], "ms"),
        Figure(f"{name}: median at {scale.paced_rate} a second", 1000 * paced["p50"], "ms"),
        Figure(f"{name}: 99 % at {scale.paced_rate} a second", 1000 * paced["p99"], "ms", at_most(50)),
        Figure(f"{name}: longest stall of the loop", 1000 * stalls.longest, "ms", note=str(stalls)),
    ]


async def _load(api: Api, token: str, scale: Scale, rate: int) -> tuple[dict[str, Any], float]:
    """What the load generator saw, and the API's processor seconds meanwhile."""
    order = {
        "port": api.port,
        "path": "/api/servers",
        "token": token,
        "connections": scale.connections if not rate else 4 * scale.connections,
        "seconds": scale.load_seconds,
        "rate": rate,
    }
    before = api.usage().cpu
    seen = await result_of("tests.bench.load", order)
    return seen, max(api.usage().cpu - before, 0.01)
