"""Console lines from one agent to one viewer and to many: how late at a lively pace, how many at full throttle."""

from __future__ import annotations

import json
from typing import Any

import trio

from tests.bench.figures import Figure, at_least
from tests.bench.processes import first_word, program, result_of
from tests.bench.scale import Scale
from tests.bench.world import AGENT_PORT, Api, World, open_world

FLAT_OUT = 200_000
"""Lines a second, more than anything here can carry: TCP slows the agent down, which then drops lines of its own."""

WARM_SECONDS = 2.0
LINES_PER_CORE = 100_000


class Stage:
    """One talking agent behind the API; the same viewers may also watch the agent itself."""

    def __init__(self, world: World, api: Api, vmid: int, token: str, talker: trio.Process) -> None:
        self._scale = world.scale
        self._api = api
        self._talker = talker
        seen = {"warm": min(WARM_SECONDS, self._scale.console_seconds), "seconds": self._scale.console_seconds}
        path = f"/api/servers/{vmid}/console/stream?format=text"
        agent_token = world.fleet.payload(vmid)["agent_token"]
        self._through_api = {**seen, "address": "127.0.0.1", "port": api.port, "path": path, "token": token}
        self._direct = {
            **seen,
            "address": world.fleet.address(vmid),
            "port": AGENT_PORT,
            "path": "/console/stream",
            "token": agent_token,
        }

    async def watch(self, viewers: int, rate: int, *, direct: bool = False) -> dict[str, Any]:
        """What so many viewers saw of so many lines a second, and the `apiCpu` seconds meanwhile."""
        assert self._talker.stdin is not None
        await self._talker.stdin.send_all(b"%d\n" % rate)
        order = (self._direct if direct else self._through_api) | {"viewers": viewers}
        before = self._api.usage().cpu
        seen = await result_of("tests.bench.viewers", order)
        # The viewers came, went and warmed up outside of their own count of seconds.
        share = seen["seconds"] / (seen["seconds"] + order["warm"])
        return {**seen, "apiCpu": max(0.01, (self._api.usage().cpu - before) * share)}


async def consoles(scale: Scale) -> list[Figure]:
    async with open_world(scale, agents=False) as world:
        customer = await world.account("customer")
        (vmid,) = await world.add(customer, 1)
        order = {
            "address": world.fleet.address(vmid),
            "port": AGENT_PORT,
            "directory": str(world.folder / "talker"),
            "payload": world.fleet.payload(vmid),
        }
        async with program("tests.bench.talker", log=world.folder / "talker.log") as talker, world.api() as api:
            assert talker.stdin is not None
            await talker.stdin.send_all(json.dumps(order).encode() + b"\n")
            await first_word(talker)
            await api.ready()
            await api.observed(1)
            stage = Stage(world, api, vmid, await api.token("customer"), talker)
            return [
                *await _lateness(stage, scale, 1),
                *await _lateness(stage, scale, scale.viewers),
                *await _throughput(stage, 1),
                *await _throughput(stage, scale.viewers),
            ]


async def _lateness(stage: Stage, scale: Scale, viewers: int) -> list[Figure]:
    direct = await stage.watch(viewers, scale.console_rate, direct=True)
    seen = await stage.watch(viewers, scale.console_rate)
    name = f"{scale.console_rate:,} console lines a second to {_people(viewers)}"
    note = "the same viewers at the agent itself: {:.2g} ms"
    return [
        Figure(f"{name}: age, median", 1000 * seen["p50"], "ms", note=note.format(1000 * direct["p50"])),
        Figure(f"{name}: age, 99 %", 1000 * seen["p99"], "ms", note=note.format(1000 * direct["p99"])),
        Figure(f"{name}: delivered", seen["lines"] / seen["seconds"], "1/s", note=f"{seen['dropped']} dropped"),
        Figure(f"{name}: processor of the API", 100 * seen["apiCpu"] / seen["seconds"], "% of a core"),
    ]


async def _throughput(stage: Stage, viewers: int) -> list[Figure]:
    seen = await stage.watch(viewers, FLAT_OUT)
    name = f"console at full throttle to {_people(viewers)}"
    dropped = f"{seen['dropped'] / max(1, seen['lines'] + seen['dropped']):.0%} dropped for slow viewers"
    return [
        Figure(
            f"{name}: delivered",
            seen["lines"] / seen["seconds"],
            "1/s",
            note=f"viewers' process {seen['cpu'] / seen['seconds']:.0%} of another core; {dropped}",
        ),
        Figure(
            f"{name}: per second of the API's processor time",
            seen["lines"] / seen["apiCpu"],
            "1/s",
            at_least(LINES_PER_CORE),
        ),
        Figure(f"{name}: processor of the API", 100 * seen["apiCpu"] / seen["seconds"], "% of a core"),
    ]


def _people(viewers: int) -> str:
    return "1 viewer" if viewers == 1 else f"{viewers} viewers"
