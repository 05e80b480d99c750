"""A real Traefik, a real Prometheus and a real Knot around a real API, all on loopback."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import trio

from tests.drivers.dns_contract import ZONE
from tests.drivers.rfc2136.knot import HOST, SECRET, Knot
from tests.faults.world import World, free_port, open_world
from tests.plain import PLAIN
from zlh.demo.outside import traefik_program
from zlh.drivers.resolver import NameServer

T = TypeVar("T")

IDE_ZONE = f"ide.{ZONE}"
POOL = range(30000, 30004)
WEB_PORT = 8000
POLL_SECONDS = 1.0
NODE_EXPORTER_PORT = 9100
TRAEFIK_TOKEN = "token of the routes"
PROMETHEUS_TOKEN = "token of the targets"
GREETING = b"A ZLH server"


@dataclass
class Published:
    """`routes` is the address of Traefik's entry points."""

    world: World
    knot: Knot
    pid: int
    routes: str
    prometheus: str

    async def resolved(self, name: str) -> set[str]:
        return await NameServer(HOST, self.knot.port).addresses(name)

    def names(self) -> set[str]:
        """Those of records of the zone, marks left out."""
        return {name for _kind, name, _text, _ttl in self.knot.records() if not name.startswith("_zlh.")}

    async def play(self, port: int) -> bytes:
        """What a player hears who comes to that public port; nothing where no game is behind it."""
        try:
            with trio.move_on_after(2):
                async with await trio.open_tcp_stream(self.routes, port) as stream:
                    return bytes(await stream.receive_some(64))
        except (OSError, trio.BrokenResourceError):
            return b""
        return b""

    async def play_udp(self, port: int) -> bytes:
        guest = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with guest, trio.move_on_after(0.5):
            await guest.sendto(b"who is there?", (self.routes, port))
            return await guest.recv(2048)
        return b""

    async def series(self, query: str) -> list[dict[str, Any]]:
        """What Prometheus answers: labels, and under "value" the newest value."""
        async with httpx.AsyncClient(trust_env=False, verify=PLAIN) as client:
            answer = await client.get(f"{self.prometheus}/api/v1/query", params={"query": query})
        found: list[dict[str, Any]] = answer.raise_for_status().json()["data"]["result"]
        return [{**one["metric"], "value": one["value"][1]} for one in found]


async def seen(look: Callable[[], Awaitable[T]], good: Callable[[T], object], within: float = 30.0) -> T:
    """What is seen once it is good."""
    newest: T | None = None
    with trio.move_on_after(within):
        while True:
            newest = await look()
            if good(newest):
                return newest
            await trio.sleep(0.05)
    raise AssertionError(f"after {within:g} s: {newest}")


@asynccontextmanager
async def open_published(tmp_path: Path) -> AsyncIterator[Published]:
    knot = Knot(tmp_path)
    async with AsyncExitStack() as stack:
        stack.callback(knot.stop)
        knot.start()
        world = await stack.enter_async_context(open_world())
        routes = f"{world.network}.1.4"
        world.settings |= _settings(world, knot, routes)
        pid = await world.start()
        await world.register("customer")
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        port = free_port()
        await _start(nursery, _traefik(tmp_path, world, routes), (routes, WEB_PORT), tmp_path / "traefik.log")
        await _start(nursery, _prometheus(tmp_path, world, port), (HOST, port), tmp_path / "prometheus.log")
        yield Published(world, knot, pid, routes, f"http://{HOST}:{port}")


def _settings(world: World, knot: Knot, routes: str) -> dict[str, str]:
    ports = f"{POOL[0]}-{POOL[-1]}"
    return {
        "ZLH_CONTAINERS_ZONE": ZONE,
        "ZLH_IDE_ZONE": IDE_ZONE,
        "ZLH_EDGE_RESOLVER": f"{HOST}:{knot.port}",
        "ZLH_RFC2136_SERVER": f"{HOST}:{knot.port}",
        "ZLH_RFC2136_KEY_NAME": "ours",
        "ZLH_RFC2136_KEY_SECRET": SECRET,
        "ZLH_RFC2136_GAME_ADDRESSES": routes,
        "ZLH_RFC2136_IDE_ADDRESSES": routes,
        "ZLH_TRAEFIK_TOKEN": TRAEFIK_TOKEN,
        "ZLH_TRAEFIK_POLL_SECONDS": f"{POLL_SECONDS}",
        "ZLH_TRAEFIK_SETTLE_SECONDS": "0.6",
        "ZLH_TRAEFIK_TCP_PORTS": ports,
        "ZLH_TRAEFIK_UDP_PORTS": ports,
        "ZLH_TRAEFIK_HTTP_ENTRY_POINTS": "web",
        "ZLH_TRAEFIK_GATEWAY_URL": world.api,
        "ZLH_PROMETHEUS_TOKEN": PROMETHEUS_TOKEN,
        "ZLH_PROMETHEUS_NODE_EXPORTER_PORT": f"{NODE_EXPORTER_PORT}",
    }


def _traefik(folder: Path, world: World, routes: str) -> list[str]:
    entry_points = {f"tcp-{port}": {"address": f"{routes}:{port}/tcp"} for port in POOL}
    entry_points |= {f"udp-{port}": {"address": f"{routes}:{port}/udp"} for port in POOL}
    entry_points["web"] = {"address": f"{routes}:{WEB_PORT}"}
    configuration = {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "entryPoints": entry_points,
        "providers": {
            "providersThrottleDuration": "0.1s",
            "http": {
                "endpoint": f"{world.api}/edge/traefik",
                "pollInterval": f"{POLL_SECONDS:g}s",
                "headers": {"Authorization": f"Bearer {TRAEFIK_TOKEN}"},
            },
        },
    }
    (folder / "traefik.json").write_text(json.dumps(configuration))
    return [_program(traefik_program(), "traefik", "./dev setup"), f"--configFile={folder / 'traefik.json'}"]


def _prometheus(folder: Path, world: World, port: int) -> list[str]:
    job = {
        "job_name": "zlh",
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "http_sd_configs": [
            {
                "url": f"{world.api}/sd/exporters",
                "refresh_interval": "1s",
                # Prometheus 2.42 sends no type of its own here.
                "authorization": {"type": "Bearer", "credentials": PROMETHEUS_TOKEN},
            }
        ],
    }
    # JSON is YAML.
    (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": [job]}))
    found = shutil.which("prometheus") or ""
    return [
        _program(found, "prometheus", "apt-get install -y --no-install-recommends prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={HOST}:{port}",
    ]


def _program(found: str, name: str, how: str) -> str:
    if not found:
        pytest.skip(f"{name} is not installed: {how}")
    return found


async def _start(nursery: trio.Nursery, words: list[str], listens: tuple[str, int], log: Path) -> None:
    with log.open("ab") as output:
        run = partial(trio.run_process, words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
        await nursery.start(run)

    async def listening() -> bool:
        try:
            async with await trio.open_tcp_stream(*listens):
                return True
        except OSError:
            return False

    await seen(listening, bool)
