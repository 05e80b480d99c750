"""What the API needs around it, as processes on loopback, and the API itself, as often as a benchmark wants it.

PostgreSQL is as durable as in production; Proxmox VE is simulated and quick; agents are light (no child process).
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import trio

from tests.bench.fleet import Fleet
from tests.bench.processes import Usage, first_word, most_memory, program, usage
from tests.bench.scale import Scale
from tests.faults.world import free_port
from tests.plain import PLAIN
from zlh.__main__ import CONFIG
from zlh.model.accounts import Account, Role
from zlh.model.containers import ContainerType
from zlh.parts import create_user
from zlh.settings import load_settings
from zlh.simulators.proxmox.client import Cluster, running
from zlh.store.embedded import open_embedded

AGENT_PORT = 18888
BOOTSTRAP = "bootstrap-of-the-benchmarks"
PASSWORD = "a password for benchmarks"
READY_SECONDS = 30.0
OBSERVED_SECONDS = 300.0
LOOK_SECONDS = 0.5


def blocks() -> str:
    """The first two octets of our addresses: beyond those of the demo, and hardly those of another run."""
    return f"127.{224 + os.getpid() % 31}"


@dataclass(frozen=True, slots=True)
class Stalls:
    """How long the API's loop was busy at a stretch: the longest time in seconds, how often over 50 ms, and the
    longest of Python's garbage collections."""

    longest: float
    notable: int
    collection: float

    def __str__(self) -> str:
        return f"{self.notable} over 50 ms; longest garbage collection {1000 * self.collection:.0f} ms"


@dataclass
class Api:
    """A running API. `born` is when its process was started (monotonic)."""

    pid: int
    port: int
    born: float
    stalls_file: Path
    log: Path
    client: httpx.AsyncClient

    def usage(self) -> Usage:
        return usage(self.pid)

    def most_memory(self) -> int:
        """The most bytes that it ever had in memory."""
        return most_memory(self.pid)

    async def ready(self) -> None:
        """Waits until /api/ready says 200; shows what the API said where that does not come."""
        with trio.move_on_after(READY_SECONDS):
            while True:
                try:
                    if (await self.client.get("/api/ready")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await trio.sleep(0.02)
        raise RuntimeError(f"the API is not ready:\n{self.log.read_text(errors='replace')[-3000:]}")

    async def token(self, name: str) -> str:
        answer = await self.client.post("/api/auth/login", json={"identifier": name, "password": PASSWORD})
        answer.raise_for_status()
        token: str = answer.json()["token"]
        return token

    async def call(self, method: str, path: str, token: str, document: object = None) -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        answer = await self.client.request(method, path, json=document, headers=headers)
        answer.raise_for_status()
        return answer.json()

    async def running(self) -> int:
        """How many servers are observed to run. Their number in /metrics is the cheapest to ask for."""
        answer = (await self.client.get("/metrics")).text
        counts = [line for line in answer.splitlines() if line.startswith("zlh_servers{")]
        return sum(int(float(line.rsplit(" ", 1)[1])) for line in counts if 'status="running"' in line)

    async def observed(self, count: int) -> None:
        """Waits until so many servers are observed to run; shows what the API said where that does not come."""
        running = 0
        with trio.move_on_after(OBSERVED_SECONDS):
            while (running := await self.running()) < count:  # noqa: ASYNC110 - another process decides
                await trio.sleep(LOOK_SECONDS)
            return
        raise RuntimeError(f"only {running} of {count} run:\n{self.log.read_text(errors='replace')[-3000:]}")

    async def stalls(self) -> Stalls:
        """Since the last call, or the start."""
        self.stalls_file.unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGUSR1)
        with trio.fail_after(10.0):
            while not self.stalls_file.exists():  # noqa: ASYNC110 - another process decides
                await trio.sleep(0.02)
        seen = json.loads(self.stalls_file.read_text())
        return Stalls(**seen)


@dataclass
class World:
    """Without agents (`agents_control` empty) the addresses of the containers are free for one's own."""

    folder: Path
    scale: Scale
    cluster: Cluster
    agents_control: str
    agents_pid: int
    settings: dict[str, str]
    fleet: Fleet

    async def account(self, name: str, role: Role = Role.CUSTOMER) -> Account:
        settings = load_settings(CONFIG, self.settings)
        return await create_user(
            settings, email=f"{name}@example.com", username=name, password=PASSWORD, role=role, plan="unlimited"
        )

    async def add(self, owner: Account, count: int, *, ctype: ContainerType = ContainerType.GAME) -> list[int]:
        """Running containers with configured agents, before an API starts; returns their vmids."""
        return await self.fleet.add(load_settings(CONFIG, self.settings), owner.id, count, ctype)

    @asynccontextmanager
    async def api(self, *, every_core: bool = False, **settings: object) -> AsyncIterator[Api]:
        """The API in a process of its own, not ready yet; `settings` are those of the environment, without ZLH_. With
        `every_core` it shares the cores of all others too: for what it does in threads."""
        chosen = self.settings | {f"ZLH_{name.upper()}": str(value) for name, value in settings.items()}
        stalls, log = self.folder / "stalls.json", self.folder / "api.log"
        words: list[object] = ["--stalls", stalls]
        if self.scale.api_core is not None:
            words += ["--cores", self.scale.api_core, *(os.sched_getaffinity(0) if every_core else ())]
        port = int(chosen["ZLH_SERVER_PORT"])
        born = time.monotonic()
        async with (
            program("tests.bench.api", *words, log=log, settings=chosen) as process,
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=PLAIN, timeout=30.0
            ) as client,
        ):
            yield Api(process.pid, port, born, stalls, log, client)

    async def requests_to_agents(self) -> int:
        """How many requests all agents got until now."""
        async with httpx.AsyncClient(base_url=self.agents_control, trust_env=False, verify=PLAIN) as client:
            listed = (await client.get("/agents", timeout=30.0)).json()["agents"]
        return sum(agent["requests"] for agent in listed)


@asynccontextmanager
async def open_world(
    scale: Scale, *, agents: bool = True, time_scale: float = 0.01, instant_agents: bool = False
) -> AsyncIterator[World]:
    """`time_scale` is how many real seconds one of Proxmox's takes; instant agents install and start at once."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="zlh-bench-")))
        database_url = await stack.enter_async_context(open_embedded(folder / "database"))
        cluster = await stack.enter_async_context(
            running(
                folder / "proxmox.json",
                host=f"{blocks()}.0.2",
                nodes=("pve1:4096", "pve2:4096"),
                time_scale=time_scale,
            )
        )
        control, pid = "", 0
        if agents:
            words = ["--control-url", cluster.control, "--data-dir", folder / "agents"]
            words += ["--bootstrap-token", BOOTSTRAP, "--port", AGENT_PORT, "--light"]
            if instant_agents:
                words += ["--install-seconds", "0", "--start-seconds", "0"]
            process = await stack.enter_async_context(
                program("zlh.simulators.agents", *words, log=folder / "agents.log")
            )
            control, pid = (await first_word(process))["control"], process.pid
        yield World(
            folder=folder,
            scale=scale,
            cluster=cluster,
            agents_control=control,
            agents_pid=pid,
            settings=_settings(folder, database_url, cluster),
            fleet=Fleet(blocks(), cluster.control, control),
        )


def _settings(folder: Path, database_url: str, cluster: Cluster) -> dict[str, str]:
    """As in config/zlh.toml, but for addresses, secrets, and passwords that cost nothing to check."""
    return {
        "ZLH_SERVER_PORT": str(free_port()),
        "ZLH_DATABASE_URL": database_url,
        "ZLH_DATABASE_DATA_DIR": str(folder / "data"),
        "ZLH_ACCOUNTS_ARGON2_MEMORY_MIB": "1",
        "ZLH_ACCOUNTS_ARGON2_PASSES": "1",
        "ZLH_ACCOUNTS_ACCESS_TOKEN_SECONDS": "7200",
        "ZLH_PROXMOX_URL": cluster.url,
        "ZLH_PROXMOX_TOKEN_ID": cluster.token_id,
        "ZLH_PROXMOX_TOKEN_SECRET": cluster.token_secret,
        "ZLH_PROXMOX_CA_FILE": str(cluster.certificate),
        "ZLH_PROXMOX_STORAGE": "shared",
        "ZLH_PROXMOX_CLONE_FULL": "true",
        "ZLH_CONTAINERS_ADDRESS_POOL": f"{blocks()}.1.1-{blocks()}.4.254",
        "ZLH_CONTAINERS_ADDRESS_PREFIX": "8",
        "ZLH_CONTAINERS_AGENT_PORT": str(AGENT_PORT),
        "ZLH_CONTAINERS_AGENT_BOOTSTRAP_TOKEN": BOOTSTRAP,
    }
