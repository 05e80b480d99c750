"""The demo's processes: PostgreSQL, the Proxmox cluster and its agents, the far ends of the edge, Stripe, the API,
Traefik.

Started in order, stopped in reverse, started again when one of them dies.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import trio

from zlh.demo.fleet import FIRST_FLEET_VMID, Fleet
from zlh.demo.outside import Outside
from zlh.demo.part import Part, PartFailedError, PartSpec
from zlh.demo.payments import Payments
from zlh.demo.people import ensure_people
from zlh.demo.place import AGENT_PORT, CONTROL_PORT, PROXMOX_PORT, Place, free_port
from zlh.demo.screen import Checklist, Screen
from zlh.settings import load_plans, load_settings
from zlh.simulators.proxmox.client import TOKEN_ID

CONFIG = Path(__file__).resolve().parent.parent.parent / "config" / "demo.toml"
NODES = ("pve1:1024", "pve2:1024")
LOOK_SECONDS = 0.05
RESTARTS, RESTART_SECONDS = 3, 60.0


@dataclass(frozen=True)
class Pace:
    """How long the simulated parts take: real seconds per Proxmox second, an installation, the start of a game."""

    time_scale: float
    install_seconds: float
    start_seconds: float


UNHURRIED = Pace(time_scale=0.25, install_seconds=3.0, start_seconds=1.0)
BRISK = Pace(time_scale=0.05, install_seconds=0.8, start_seconds=0.3)


@dataclass
class Plant:
    """The running parts. `url` is the API's, `agents_control` that of the simulated agents; `restarted` is called
    when a part has become another process."""

    place: Place
    zone: str
    parts: dict[str, Part]
    agents_control: str
    outside: Outside
    payments: Payments
    has_fleet: bool
    restarted: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.place.secrets.port}"

    @property
    def pids(self) -> dict[str, int]:
        return {key: part.pid for key, part in self.parts.items()}

    async def keep(self, tell: Callable[[str], None]) -> None:
        """Starts again whatever dies, and tells it; raises PartFailedError (in a group) when that does not help."""
        async with trio.open_nursery() as nursery:
            for part in self.parts.values():
                nursery.start_soon(self._keep, part, tell)

    async def _keep(self, part: Part, tell: Callable[[str], None]) -> None:
        ends: list[float] = []
        while True:
            how = await part.ended()
            ends = [end for end in ends if end > trio.current_time() - RESTART_SECONDS] + [trio.current_time()]
            if len(ends) > RESTARTS:
                raise PartFailedError(part.spec.name, f"ended with {how}, again and again", part.log)
            tell(f"{part.spec.name} ended with {how}; it is being started again")
            await part.start()
            self.restarted()
            tell(f"{part.spec.name} runs again, as process {part.pid}")


@asynccontextmanager
async def open_plant(place: Place, pace: Pace, fleet: int, screen: Screen) -> AsyncIterator[Plant]:
    """Everything runs for as long as the block lasts. Raises PartFailedError, alone or in a group."""
    builder = _Builder(place, pace)
    try:
        with screen.checklist() as checklist:
            await builder.build(checklist, fleet)
        yield Plant(
            place,
            builder.zone,
            builder.parts,
            builder.agents_control,
            builder.outside,
            builder.payments,
            has_fleet=fleet > 0,
        )
    finally:
        await builder.stop()


class _Builder:
    def __init__(self, place: Place, pace: Pace) -> None:
        self.parts: dict[str, Part] = {}
        self.agents_control = ""
        self.zone = load_settings(CONFIG, {}).containers.zone
        self.outside = Outside(place, self.zone)
        self.payments = Payments(place, load_plans(CONFIG.parent / "plans.toml"))
        self._place = place
        self._pace = pace
        self._url = f"http://127.0.0.1:{place.secrets.port}"

    async def build(self, checklist: Checklist, fleet: int) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._start, _database(self._place), checklist)
            nursery.start_soon(self._start_cluster, checklist)
            nursery.start_soon(self._start, self.outside.simulators(), checklist)
            nursery.start_soon(self._start, self.payments.simulator(), checklist)
        settings = load_settings(CONFIG, self._environment())
        with checklist.row("accounts") as row:
            people = await ensure_people(settings, self._place, fleet=fleet > 0)
            row.note = ", ".join(people)
        if fleet:
            with checklist.row(f"fleet of {fleet} containers") as row:
                made = await Fleet(self._place, settings, CONFIG.parent).ensure(
                    fleet, people["fleet"], self.agents_control
                )
                row.note = f"{made} new"
        await self._start(self._api(), checklist)
        await self._start(self.outside.traefik(), checklist)

    async def _start_cluster(self, checklist: Checklist) -> None:
        await self._start(_proxmox(self._place, self._pace), checklist)
        agents = await self._start(_agents(self._place, self._pace), checklist)
        self.agents_control = agents.said["control"]

    async def _start(self, spec: PartSpec, checklist: Checklist) -> Part:
        part = self.parts[spec.key] = Part(spec, self._place.log(spec.key))
        with checklist.row(spec.name):
            await part.start()
        return part

    async def stop(self) -> None:
        """The API first, what it needs after it."""
        with trio.CancelScope(shield=True):
            if "api" in self.parts:
                await self.parts["api"].stop()
            async with trio.open_nursery() as nursery:
                for part in self.parts.values():
                    nursery.start_soon(part.stop)

    def _environment(self) -> dict[str, str]:
        place = self._place
        return {
            "ZLH_SERVER_PORT": str(place.secrets.port),
            "ZLH_DATABASE_URL": self.parts["database"].said["url"],
            "ZLH_DATABASE_DATA_DIR": str(place.folder),
            "ZLH_MAIL_FOLDER": str(place.mail),
            "ZLH_PROXMOX_URL": place.proxmox_url,
            "ZLH_PROXMOX_TOKEN_ID": TOKEN_ID,
            "ZLH_PROXMOX_TOKEN_SECRET": place.secrets.proxmox_secret,
            "ZLH_PROXMOX_CA_FILE": str(place.certificate),
            "ZLH_CONTAINERS_ADDRESS_POOL": place.address_pool,
            "ZLH_CONTAINERS_AGENT_PORT": str(AGENT_PORT),
            "ZLH_CONTAINERS_AGENT_BOOTSTRAP_TOKEN": place.secrets.bootstrap_token,
            **self.outside.environment(),
            **self.payments.environment(),
        }

    def _api(self) -> PartSpec:
        return PartSpec(
            key="api",
            name="the API",
            command=(sys.executable, "-m", "zlh", "--config", str(CONFIG), "serve"),
            environment=self._environment(),
            ready=_until_ready(self._url),
            stop_seconds=15.0,
        )


def _database(place: Place) -> PartSpec:
    return PartSpec(
        key="database",
        name="PostgreSQL",
        command=(sys.executable, "-m", "zlh.demo.database", str(place.folder)),
        stop_seconds=40.0,
    )


def _proxmox(place: Place, pace: Pace) -> PartSpec:
    words = ["--state", str(place.folder / "proxmox.json"), "--host", place.proxmox_host]
    words += ["--port", str(PROXMOX_PORT), "--control-port", str(CONTROL_PORT), "--time-scale", str(pace.time_scale)]
    words += ["--token", f"{TOKEN_ID}={place.secrets.proxmox_secret}", "--certificate-out", str(place.certificate)]
    for node in NODES:
        words += ["--node", node]
    return PartSpec(
        key="proxmox",
        name="Proxmox VE, two nodes (simulated)",
        command=(sys.executable, "-m", "zlh.simulators.proxmox", *words),
    )


def _agents(place: Place, pace: Pace) -> PartSpec:
    words = ["--control-url", place.proxmox_control, "--data-dir", str(place.folder / "agents")]
    words += ["--bootstrap-token", place.secrets.bootstrap_token, "--port", str(AGENT_PORT)]
    words += ["--control-port", str(free_port()), "--light-from", str(FIRST_FLEET_VMID)]
    words += ["--install-seconds", str(pace.install_seconds), "--start-seconds", str(pace.start_seconds)]
    return PartSpec(
        key="agents",
        name="agents in the containers (simulated)",
        command=(sys.executable, "-m", "zlh.simulators.agents", *words),
    )


def _until_ready(url: str) -> Callable[[], Awaitable[None]]:
    async def ready() -> None:
        async with httpx.AsyncClient(base_url=url, trust_env=False, verify=False, timeout=5.0) as client:  # noqa: S501
            while True:
                try:
                    answer = await client.get("/api/ready")
                    if answer.status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await trio.sleep(LOOK_SECONDS)

    return ready
