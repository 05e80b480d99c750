"""Where the demo publishes its servers: a real Traefik, and a simulated name server and Velocity proxy."""

from __future__ import annotations

import json
import secrets
import shutil
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import trio

from zlh.demo.part import PartSpec
from zlh.demo.place import Place, free_port

PLAYERS_PORT = 25565
ROUTED_PORTS = range(30000, 30064)
WEB_PORT = 8000
POLL_SECONDS = 1.0
THROTTLE_SECONDS = 0.1
LOOK_SECONDS = 0.1
KEY = "outside"


@dataclass(frozen=True)
class Outside:
    """The far ends of one run, and what the API must know of them."""

    place: Place
    zone: str
    dns_port: int = field(default_factory=free_port)
    velocity_port: int = field(default_factory=free_port)
    dns_token: str = field(default_factory=partial(secrets.token_hex, 16), repr=False)
    velocity_secret: str = field(default_factory=partial(secrets.token_hex, 16), repr=False)
    traefik_token: str = field(default_factory=partial(secrets.token_hex, 16), repr=False)
    prometheus_token: str = field(default_factory=partial(secrets.token_hex, 16), repr=False)

    @property
    def players(self) -> str:
        """Where Minecraft players come to."""
        return f"{self.place.players_host}:{PLAYERS_PORT}"

    @property
    def dns_url(self) -> str:
        return f"http://127.0.0.1:{self.dns_port}"

    @property
    def velocity_url(self) -> str:
        return f"http://127.0.0.1:{self.velocity_port}"

    def environment(self) -> dict[str, str]:
        place = self.place
        ports = f"{ROUTED_PORTS[0]}-{ROUTED_PORTS[-1]}"
        return {
            "ZLH_TECHNITIUM_URL": self.dns_url,
            "ZLH_TECHNITIUM_TOKEN": self.dns_token,
            "ZLH_TECHNITIUM_GAME_ADDRESSES": place.routes_host,
            "ZLH_TECHNITIUM_MINECRAFT_ADDRESSES": place.players_host,
            "ZLH_TECHNITIUM_IDE_ADDRESSES": place.routes_host,
            "ZLH_VELOCITY_URL": self.velocity_url,
            "ZLH_VELOCITY_SECRET": self.velocity_secret,
            "ZLH_VELOCITY_PORT": str(PLAYERS_PORT),
            "ZLH_TRAEFIK_TOKEN": self.traefik_token,
            "ZLH_TRAEFIK_TCP_PORTS": ports,
            "ZLH_TRAEFIK_UDP_PORTS": ports,
            "ZLH_TRAEFIK_GATEWAY_URL": f"http://127.0.0.1:{place.secrets.port}",
            "ZLH_PROMETHEUS_TOKEN": self.prometheus_token,
        }

    def simulators(self) -> PartSpec:
        words = ["--zone", self.zone, "--technitium-port", str(self.dns_port), "--technitium-token", self.dns_token]
        words += ["--velocity-port", str(self.velocity_port), "--velocity-secret", self.velocity_secret]
        return PartSpec(
            key=KEY,
            name="DNS and Velocity (simulated)",
            command=(sys.executable, "-m", "zlh.simulators.outside", *words, "--players", self.players),
        )

    def traefik(self) -> PartSpec:
        """Reads its routes from the API, and goes on with those that it has while that is away."""
        path = self.place.folder / "traefik.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(self._traefik_configuration(), indent=2) + "\n", "utf-8")
        return PartSpec(
            key="traefik",
            name="Traefik",
            command=(traefik_program(), f"--configFile={path}"),
            ready=self._until_routing,
        )

    def _traefik_configuration(self) -> dict[str, object]:
        host = self.place.routes_host
        entry_points = {f"tcp-{port}": {"address": f"{host}:{port}/tcp"} for port in ROUTED_PORTS}
        entry_points |= {f"udp-{port}": {"address": f"{host}:{port}/udp"} for port in ROUTED_PORTS}
        entry_points["web"] = {"address": f"{host}:{WEB_PORT}"}
        return {
            "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
            "log": {"level": "INFO"},
            "entryPoints": entry_points,
            "providers": {
                # Between two changes; by default 2 s.
                "providersThrottleDuration": f"{THROTTLE_SECONDS:g}s",
                "http": {
                    "endpoint": f"http://127.0.0.1:{self.place.secrets.port}/edge/traefik",
                    "pollInterval": f"{POLL_SECONDS:g}s",
                    "headers": {"Authorization": f"Bearer {self.traefik_token}"},
                },
            },
        }

    async def _until_routing(self) -> None:
        while True:
            try:
                async with await trio.open_tcp_stream(self.place.routes_host, WEB_PORT):
                    return
            except OSError:
                await trio.sleep(LOOK_SECONDS)

    async def name_of(self, vmid: int) -> str:
        """A name of the container in DNS with what it leads to, empty where it has none."""
        return next((f"{name} -> {value}" for kind, name, value in await self._records({vmid}) if kind == "A"), "")

    async def left_of(self, vmids: set[int]) -> list[str]:
        """What DNS still has of those containers, in words."""
        return [f"DNS still has {kind} {name}" for kind, name, _ in await self._records(vmids)]

    async def _records(self, vmids: set[int]) -> list[tuple[str, str, str]]:
        async with httpx.AsyncClient(trust_env=False) as client:
            records = (await client.get(f"{self.dns_url}/simulator/state")).json()["records"]
        ends = tuple(f"-{vmid}.{self.zone}" for vmid in vmids)
        return [(kind, name, value) for kind, name, value, *_ in records if name.endswith(ends)]

    async def greeting(self) -> str:
        """What a game says to a player who comes through the proxy; empty where nobody is there."""
        try:
            async with await trio.open_tcp_stream(self.place.players_host, PLAYERS_PORT) as stream:
                return b"".join([data async for data in stream]).decode(errors="replace").strip()
        except (OSError, trio.BrokenResourceError):
            return ""

    async def entrance(self, vmid: int) -> str:
        """Where a stranger is asked to come from the Portal; empty where Traefik knows of no such host."""
        host = f"ide-{vmid}.{self.zone}"
        async with httpx.AsyncClient(trust_env=False) as client:
            url = f"http://{self.place.routes_host}:{WEB_PORT}/"
            answer = await client.get(url, headers={"Host": host})
        return f"{host} at {self.place.routes_host}:{WEB_PORT}" if answer.status_code == 401 else ""


def traefik_program() -> str:
    """Beside our own interpreter where the demo was installed, or wherever the system has it. Empty: nowhere."""
    beside = Path(sys.executable).with_name("traefik")
    return str(beside) if beside.exists() else shutil.which("traefik") or ""
