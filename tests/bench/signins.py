"""Sign-ins through the gateway: how many a second, and what those feel who only look at their servers meanwhile.

Passwords are hashed in threads, so here the API may use every core, as in production; the load generator shares one.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import trio

from tests.bench.figures import Figure, at_most
from tests.bench.processes import result_of
from tests.bench.scale import Scale
from tests.bench.tokens import credentials
from tests.bench.world import PASSWORD, Api, World, open_world
from zlh.__main__ import CONFIG
from zlh.settings import Settings, load_settings

UNLIMITED = {"accounts_attempts_per_account": 10_000, "accounts_attempts_per_address": 100_000}


async def sign_ins(scale: Scale) -> list[Figure]:
    """With passwords that cost nothing, for the cost of all the rest; then with those of config/zlh.toml."""
    async with open_world(scale, agents=False) as world:
        await world.account("customer")
        cheap = await _cheap(world)
        real = await _real(world, load_settings(CONFIG, {}))
    return [*cheap, *real, *await credentials(scale)]


async def _cheap(world: World) -> list[Figure]:
    async with world.api(every_core=True, **UNLIMITED) as api:
        await _warm(api)
        before = api.usage().cpu
        seen = await _sign_in(api, world.scale, connections=world.scale.connections)
        cpu = max(api.usage().cpu - before, 0.01)
    name = f"sign-ins with passwords of 1 MiB, {world.scale.connections} at once"
    return [
        Figure(f"{name}: sign-ins", seen["answers"] / seen["seconds"], "1/s", note="all but the hash"),
        Figure(f"{name}: processor of the API for each", 1000 * cpu / max(1, seen["answers"]), "ms"),
        Figure(f"{name}: median", 1000 * seen["p50"], "ms"),
    ]


async def _real(world: World, settings: Settings) -> list[Figure]:
    """The password is hashed anew at the first sign-in, because it was made with other parameters."""
    chosen, scale = settings.accounts, world.scale
    cost = {
        "accounts_argon2_memory_mib": chosen.argon2_memory_mib,
        "accounts_argon2_passes": chosen.argon2_passes,
        "accounts_argon2_lanes": chosen.argon2_lanes,
        "accounts_hashing_threads": chosen.hashing_threads,
    }
    async with world.api(every_core=True, **UNLIMITED, **cost) as api:
        token = await _warm(api)
        alone = await _sign_in(api, scale, connections=1)
        before_memory = api.usage().rss_bytes
        await api.stalls()
        quiet = await _look(api, token, scale)
        quiet_stalls = await api.stalls()
        seen: dict[str, Any] = {}
        looked: dict[str, Any] = {}
        before = api.usage().cpu
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_into, seen, partial(_sign_in, api, scale, connections=scale.sign_ins))
            nursery.start_soon(_into, looked, partial(_look, api, token, scale))
        cpu = api.usage().cpu - before
        stalls = await api.stalls()
        grown = max(0, api.most_memory() - before_memory)
    parameters = f"{chosen.argon2_memory_mib} MiB, {chosen.argon2_passes} passes, {chosen.hashing_threads} threads"
    name = f"sign-ins, {parameters}"
    meanwhile = f"GET /api/servers at {scale.paced_rate} a second while {scale.sign_ins} sign-ins hash"
    return [
        Figure(f"{name}: one after another", alone["answers"] / alone["seconds"], "1/s"),
        Figure(f"{name}: median, one after another", 1000 * alone["p50"], "ms"),
        Figure(f"{name}: {scale.sign_ins} at once", seen["answers"] / seen["seconds"], "1/s"),
        Figure(f"{name}: median, {scale.sign_ins} at once", 1000 * seen["p50"], "ms"),
        Figure(f"{name}: processor of the API meanwhile", 100 * cpu / seen["seconds"], "% of a core"),
        Figure(f"{name}: memory for it at the most", grown / 1e6, "MB"),
        Figure(f"{meanwhile}: median", 1000 * looked["p50"], "ms", note=f"{1000 * quiet['p50']:.2g} ms without"),
        Figure(
            f"{meanwhile}: 99 %", 1000 * looked["p99"], "ms", at_most(50), f"{1000 * quiet['p99']:.2g} ms without"
        ),
        Figure(
            f"{meanwhile}: longest stall of the loop",
            1000 * stalls.longest,
            "ms",
            at_most(50),
            f"{stalls}; {1000 * quiet_stalls.longest:.2g} ms without",
        ),
    ]


async def _warm(api: Api) -> str:
    await api.ready()
    return await api.token("customer")


async def _sign_in(api: Api, scale: Scale, *, connections: int) -> dict[str, Any]:
    """As often as it can; what waits at the end is not counted."""
    return await result_of(
        "tests.bench.load",
        {
            "port": api.port,
            "path": "/api/auth/login",
            "token": "",
            "body": json.dumps({"identifier": "customer", "password": PASSWORD}),
            "connections": connections,
            "seconds": scale.sign_in_seconds,
            "rate": 0,
        },
    )


async def _look(api: Api, token: str, scale: Scale) -> dict[str, Any]:
    return await result_of(
        "tests.bench.load",
        {
            "port": api.port,
            "path": "/api/servers",
            "token": token,
            "connections": 4 * scale.connections,
            "seconds": scale.sign_in_seconds,
            "rate": scale.paced_rate,
        },
    )


async def _into(found: dict[str, Any], run: Any) -> None:
    found.update(await run())
