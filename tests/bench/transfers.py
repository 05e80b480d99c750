"""Files through the gateway: how fast beside nginx and beside no proxy at all, at what cost, and what others feel."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from tests.bench.figures import Figure, at_least, at_most
from tests.bench.nginx import PROGRAM, nginx
from tests.bench.processes import Usage, first_word, program, result_of, usage
from tests.bench.scale import Scale
from tests.bench.world import AGENT_PORT, Api, World, open_world
from tests.faults.world import free_port

LOOK_SECONDS = 0.02
LINE = 125_000_000
"""Bytes a second: what one line of 1 Gbit/s brings. At full speed whoever asks would wait for its core."""
# What is usual for large files: nothing is written to disk on the way.
PASS_ON = """\
    server {{
        listen 127.0.0.1:{own_port};
        location / {{
            proxy_pass http://{address}:{port};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            client_max_body_size 0;
            proxy_request_buffering off;
            proxy_buffering on;
            proxy_max_temp_file_size 0;
        }}
    }}
"""


@dataclass(frozen=True, slots=True)
class Way:
    """From the client to the agent; `spent` looks at the process between them."""

    address: str
    port: int
    path: str
    token: str
    spent: Callable[[], Usage] | None = None

    def order(self, method: str, size: int, rate: int = 0) -> dict[str, Any]:
        path = self.path.format(size=size)
        return {
            "address": self.address,
            "port": self.port,
            "method": method,
            "path": path,
            "token": self.token,
            "bytes": size,
            "rate": rate,
        }


@dataclass(frozen=True, slots=True)
class Moved:
    """Gigabytes a second, and processor seconds of what stands between for each of them."""

    rate: float
    cost: float


async def transfers(scale: Scale) -> list[Figure]:
    async with open_world(scale, agents=False) as world, _between(world) as (api, ours, direct, proxied):
        figures = [
            *await _speed("download", "GET", scale, ours, direct, proxied),
            *await _speed("upload", "PUT", scale, ours, direct, proxied),
        ]
        for name, method in (("download", "GET"), ("upload", "PUT")):
            grown = await _growth(api, ours, method, scale.transfer_bytes)
            title = f"memory of the API during {_size(scale.transfer_bytes)} of {name}"
            figures.append(Figure(f"{title}: growth", grown / 1e6, "MB", at_most(32)))
        figures += await _others(api, ours, direct, scale)
    return figures


@asynccontextmanager
async def _between(world: World) -> AsyncIterator[tuple[Api, Way, Way, Way | None]]:
    """The API, nginx and nothing before the same agent."""
    scale = world.scale
    customer, other = await world.account("customer"), await world.account("other")
    (vmid,) = await world.add(customer, 1)
    await world.add(other, scale.own_servers)
    address, agent_token = world.fleet.address(vmid), world.fleet.payload(vmid)["agent_token"]
    async with (
        program("tests.bench.freight", log=world.folder / "freight.log") as freight,
        world.api() as api,
        _nginx(world, address) as proxy,
    ):
        assert freight.stdin is not None
        await freight.stdin.send_all(json.dumps({"address": address, "port": AGENT_PORT}).encode() + b"\n")
        await first_word(freight)
        await api.ready()
        await api.observed(1)
        ours = Way(
            "127.0.0.1",
            api.port,
            f"/api/game/{vmid}/files/content?path={{size}}",
            await api.token("customer"),
            api.usage,
        )
        direct = Way(address, AGENT_PORT, "/files/content?path={size}", agent_token)
        proxied = None
        if proxy is not None:
            port, pid = proxy
            proxied = Way("127.0.0.1", port, direct.path, agent_token, lambda: usage(pid))
        yield api, ours, direct, proxied


@asynccontextmanager
async def _nginx(world: World, address: str) -> AsyncIterator[tuple[int, int] | None]:
    """Its port and its pid; None where there is none on this machine."""
    if PROGRAM is None:
        yield None
        return
    port = free_port()
    inside = PASS_ON.format(own_port=port, address=address, port=AGENT_PORT)
    async with nginx(world.folder, "freight", inside, ("127.0.0.1", port), world.scale.api_core) as pid:
        yield port, pid


async def _speed(name: str, method: str, scale: Scale, ours: Way, direct: Way, proxied: Way | None) -> list[Figure]:
    """Each way in turn, several times: what else the machine does hits all of them. The best of each counts."""
    ways = [way for way in (direct, proxied, ours) if way is not None]
    seen: dict[Way, list[Moved]] = {way: [] for way in ways}
    for _ in range(scale.rounds):
        for way in ways:
            seen[way].append(await _move(way, method, scale.transfer_bytes))
    best = {
        way: Moved(max(each.rate for each in moved), min(each.cost for each in moved)) for way, moved in seen.items()
    }
    title = f"{name} of {_size(scale.transfer_bytes)}"
    figures = [
        Figure(f"{title}: without anything between", best[direct].rate, "GB/s"),
        Figure(f"{title}: through the API", best[ours].rate, "GB/s"),
        Figure(f"{title}: processor of the API", best[ours].cost, "s/GB"),
    ]
    if proxied is None:
        return figures
    return [
        *figures,
        Figure(f"{title}: through nginx", best[proxied].rate, "GB/s"),
        Figure(f"{title}: processor of nginx", best[proxied].cost, "s/GB"),
        Figure(
            f"{title}: the API's speed by nginx's",
            best[ours].rate / best[proxied].rate,
            "",
            at_least(1.0),
            note=f"the best of {scale.rounds} each, in turn; neighbours of this machine show in it",
        ),
        Figure(
            f"{title}: what a second of the API's processor moves by nginx's",
            max(1e-9, best[proxied].cost) / max(1e-9, best[ours].cost),
            "",
            at_least(1.0),
        ),
    ]


async def _move(way: Way, method: str, size: int) -> Moved:
    before = way.spent().cpu if way.spent else 0.0
    seconds = (await result_of("tests.bench.mover", way.order(method, size)))["seconds"]
    spent = way.spent().cpu - before if way.spent else 0.0
    return Moved(size / seconds / 1e9, spent / size * 1e9)


async def _growth(api: Api, way: Way, method: str, size: int) -> float:
    """The most bytes that the API had in memory meanwhile, beyond those before."""
    before = most = api.usage().rss_bytes

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, api.usage().rss_bytes)
            await trio.sleep(LOOK_SECONDS)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await _move(way, method, size)
        nursery.cancel_scope.cancel()
    return max(most, api.usage().rss_bytes) - before


async def _others(api: Api, ours: Way, direct: Way, scale: Scale) -> list[Figure]:
    """Another customer's GET /api/servers, while nothing is moved and while something is all the time. What is moved
    past the API shows how much of it comes from too few cores: whoever asks shares one with both ends."""
    order = {
        "port": api.port,
        "path": "/api/servers",
        "token": await api.token("other"),
        "connections": scale.connections,
        "seconds": scale.load_seconds,
        "rate": scale.paced_rate,
    }
    title = "another customer's GET /api/servers, 99 %"
    idle = (await result_of("tests.bench.load", order))["p99"]
    figures = [Figure(f"{title}: idle", 1000 * idle, "ms")]
    for name, way, method in (
        ("during a download at 1 Gbit/s past the API", direct, "GET"),
        ("during a download at 1 Gbit/s", ours, "GET"),
        ("during an upload at 1 Gbit/s", ours, "PUT"),
    ):
        await api.stalls()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_again_and_again, way, method, scale.transfer_bytes)
            busy = (await result_of("tests.bench.load", order))["p99"]
            nursery.cancel_scope.cancel()
        note = (
            f"{1000 * busy:.3g} ms; the API's loop was busy for {1000 * (await api.stalls()).longest:.0f} ms at most"
        )
        aim = at_most(2.0) if way is ours else None
        figures.append(Figure(f"{title}: {name}, by idle", busy / idle, "", aim, note))
    return figures


async def _again_and_again(way: Way, method: str, size: int) -> None:
    while True:
        await result_of("tests.bench.mover", way.order(method, size, LINE))


def _size(size: int) -> str:
    return f"{size / 1e9:.2g} GB"
