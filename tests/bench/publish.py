"""From the moment at which a game runs to the moment at which somebody outside can play, on the demo's stack: the
name is in DNS, and the public port answers through a real Traefik that asks for its routes once a second."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import trio

from tests.bench.figures import Figure, at_most, quantile
from tests.bench.processes import program
from tests.bench.scale import Scale
from tests.plain import PLAIN

GAME = {"ctype": "game", "game": "terraria", "variant": "vanilla", "memoryMiB": 128, "cpuCores": 1, "diskGiB": 8}
DEMO_SECONDS = 120.0
LOOK_SECONDS = 0.05
AIM_SECONDS = 3.0
ANSWER_SECONDS = 0.2
"""Where there is no route, Traefik waits for what a guest has to say."""

GREETING = b"A ZLH server"


class Demo:
    """A running one, seen as its customer with an unlimited plan."""

    def __init__(self, ready: dict[str, Any], client: httpx.AsyncClient) -> None:
        self._ready = ready
        self._client = client

    async def sign_in(self) -> None:
        user = self._ready["users"]["fleet"]
        answer = await self._client.post("/api/auth/login", json=user)
        answer.raise_for_status()
        self._client.headers["Authorization"] = f"Bearer {answer.json()['token']}"

    async def call(self, method: str, path: str, document: object = None) -> dict[str, Any]:
        answer = await self._client.request(method, path, json=document)
        answer.raise_for_status()
        told: dict[str, Any] = answer.json()
        return told

    async def tear_down(self, vmid: int) -> None:
        operation = (await self.call("DELETE", f"/api/containers/{vmid}?force=true"))["operation"]
        with trio.fail_after(DEMO_SECONDS):
            while operation["state"] == "running":
                await trio.sleep(0.2)
                operation = (await self.call("GET", operation["href"]))["operation"]

    async def version(self) -> str:
        games = (await self.call("GET", "/api/catalog/game"))["games"]
        (game,) = (game for game in games if game["id"] == GAME["game"])
        (variant,) = (variant for variant in game["variants"] if variant["id"] == GAME["variant"])
        version: str = variant["versions"][0]
        return version

    async def ports(self) -> dict[str, int]:
        """Public ports by name, of those whose name has an address in DNS and whose service record is there."""
        async with httpx.AsyncClient(trust_env=False, verify=PLAIN) as client:
            records = (await client.get(f"{self._ready['dnsUrl']}/simulator/state")).json()["records"]
        named = {name for kind, name, *_ in records if kind == "A"}
        services = [value.split() for kind, _, value, *_ in records if kind == "SRV"]
        return {name: int(port) for _, _, port, name in services if name in named}

    async def answers(self, port: int) -> bool:
        """Whether a player who comes to the public port is greeted by the game."""
        with trio.move_on_after(ANSWER_SECONDS):
            try:
                async with await trio.open_tcp_stream(self._ready["routesHost"], port) as stream:
                    return (await stream.receive_some(64)).startswith(GREETING)
            except (OSError, trio.BrokenResourceError):
                return False
        return False


async def publish(scale: Scale) -> list[Figure]:
    async with open_demo() as demo:
        await demo.sign_in()
        version = await demo.version()
        await _published(demo, version, 1)  # what is only slow once
        single = [seconds for _ in range(scale.publishings) for seconds in await _published(demo, version, 1)]
        many = await _published(demo, version, scale.operations)
    return [*_figures("one at a time", single), *_figures(f"{scale.operations} at once", many)]


def _figures(how: str, seconds: list[float]) -> list[Figure]:
    name = f"from running to reachable, {how}"
    note = f"{len(seconds)} games"
    return [
        Figure(f"{name}: half within", quantile(seconds, 0.5), "s", note=note),
        Figure(f"{name}: 95 % within", quantile(seconds, 0.95), "s", at_most(AIM_SECONDS), note=note),
    ]


async def _published(demo: Demo, version: str, count: int) -> list[float]:
    """Orders `count` games at the same moment, and tears them down when all can be played."""
    orders: list[dict[str, Any]] = []

    async def order(number: int) -> None:
        wish = {**GAME, "version": version, "name": f"bench {number}"}
        orders.append(await demo.call("POST", "/api/instances", wish))

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(order, number)
    reached = await _reached(demo, {order["vmid"]: order["hostname"] for order in orders})
    seconds = []
    for one in orders:
        operation = (await demo.call("GET", one["operation"]["href"]))["operation"]
        (step,) = (step for step in operation["steps"] if step["name"] == "running")
        seconds.append(reached[one["vmid"]] - datetime.fromisoformat(step["endedAt"]).timestamp())
    async with trio.open_nursery() as nursery:
        for one in orders:
            nursery.start_soon(demo.tear_down, one["vmid"])
    return seconds


async def _reached(demo: Demo, waiting: dict[int, str]) -> dict[int, float]:
    """When each could first be played, Unix seconds. Names are looked for every 50 ms, and so are games once they
    have one; a look takes 0.2 s where nobody answers. Both are part of the figure."""
    reached: dict[int, float] = {}

    async def play(vmid: int, port: int) -> None:
        while not await demo.answers(port):  # noqa: ASYNC110 - others decide
            await trio.sleep(LOOK_SECONDS)
        reached[vmid] = time.time()

    with trio.fail_after(DEMO_SECONDS):
        async with trio.open_nursery() as nursery:
            while waiting:
                ports = await demo.ports()
                for vmid in [vmid for vmid, name in waiting.items() if name in ports]:
                    nursery.start_soon(play, vmid, ports[waiting.pop(vmid)])
                await trio.sleep(LOOK_SECONDS)
    return reached


@asynccontextmanager
async def open_demo() -> AsyncIterator[Demo]:
    with tempfile.TemporaryDirectory(prefix="zlh-bench-") as name:
        folder = Path(name)
        ready, log = folder / "ready.json", folder / "demo.log"
        words = ["demo", "--data-dir", folder / "data", "--port", "0", "--fleet", "1", "--quick"]
        async with program("zlh", *words, "--ready-file", ready, log=log):
            with trio.fail_after(DEMO_SECONDS):
                while not ready.exists():  # noqa: ASYNC110 - another process decides
                    await trio.sleep(0.1)
            told = json.loads(ready.read_text())
            async with httpx.AsyncClient(base_url=told["url"], trust_env=False, timeout=150.0) as client:
                yield Demo(told, client)
