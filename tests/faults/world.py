"""Everything around an API that may die at any moment: PostgreSQL, a Proxmox cluster, agents; and the API, as often
as it takes. All of it real processes on loopback.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import trio

from tests.plain import PLAIN
from tests.postgres import QUICK
from zlh.demo.fleet import FIRST_FLEET_VMID, Fleet
from zlh.parts import open_database
from zlh.settings import load_settings
from zlh.simulators.proxmox.client import Cluster, running
from zlh.store import accounts
from zlh.store.embedded import EmbeddedPostgres

ROOT = Path(__file__).resolve().parents[2]
# Second numbers of loopback addresses; those of demos are lower.
BLOCKS = range(225, 250)
BOOTSTRAP = "bootstrap-of-the-world"
PASSWORD = "a password for tests"
START_SECONDS = 60.0
END_SECONDS = 20.0
# What was committed is still there after an immediate stop; only the machine's own death is left out.
POSTGRES = {**QUICK, "synchronous_commit": "on"}


def environment(network: str, database_url: str, cluster: Cluster, data_dir: Path, port: int) -> dict[str, str]:
    return {
        "ZLH_SERVER_PORT": str(port),
        "ZLH_DATABASE_URL": database_url,
        "ZLH_DATABASE_DATA_DIR": str(data_dir),
        # Each is a process that PostgreSQL starts anew whenever the API is.
        "ZLH_DATABASE_POOL_SIZE": "4",
        "ZLH_ACCOUNTS_DEFAULT_PLAN": "unlimited",
        "ZLH_ACCOUNTS_ARGON2_MEMORY_MIB": "1",
        "ZLH_ACCOUNTS_ARGON2_PASSES": "1",
        "ZLH_ACCOUNTS_ACCESS_TOKEN_SECONDS": "7200",
        "ZLH_PROXMOX_URL": cluster.url,
        "ZLH_PROXMOX_TOKEN_ID": cluster.token_id,
        "ZLH_PROXMOX_TOKEN_SECRET": cluster.token_secret,
        "ZLH_PROXMOX_CA_FILE": str(cluster.certificate),
        "ZLH_PROXMOX_WATCH_SECONDS": "1",
        "ZLH_PROXMOX_LIST_LAG_SECONDS": "0",
        "ZLH_POLLING_TRANSITION_SECONDS": "0.2",
        "ZLH_CONTAINERS_ADDRESS_POOL": f"{network}.0.10-{network}.0.250",
        "ZLH_CONTAINERS_ADDRESS_PREFIX": "8",
        "ZLH_CONTAINERS_AGENT_BOOTSTRAP_TOKEN": BOOTSTRAP,
        "ZLH_LOG_LEVEL": "info",
        # Whoever is killed leaves its private socket behind.
        "TMPDIR": str(data_dir.parent),
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class World:
    """`folder` holds the logs. `api` is the address of the API, whichever process serves it. `config` is a zlh.toml
    with its neighbours."""

    folder: Path
    cluster: Cluster
    agents_control: str
    postgres: EmbeddedPostgres
    api: str
    network: str
    settings: dict[str, str]
    nursery: trio.Nursery
    mortal: trio.Process
    _answers: trio.MemoryReceiveChannel[dict[str, Any]]
    token: str = ""
    config: Path = ROOT / "config" / "zlh.toml"
    _ended: dict[int, int] = field(default_factory=dict)

    async def start(self) -> int:
        """A new API process; returns its pid once it answers."""
        order = {
            "environment": self.settings,
            "config": str(self.config),
            "plan": str(self._plan),
            "log": str(self.folder / "api.log"),
        }
        assert self.mortal.stdin is not None
        await self.mortal.stdin.send_all(json.dumps(order).encode() + b"\n")
        pid = await self._born()
        with trio.fail_after(START_SECONDS):
            # Another process decides: there is nothing but to look again. So below.
            while not self._listening() and not self.dead(pid):  # noqa: ASYNC110
                await trio.sleep(0.01)
        if self.dead(pid):
            raise AssertionError(f"the API ended at its start:\n{self.log()}")
        return pid

    def arm(self, pid: int, *, target: str | None = None, record: Path | None = None) -> None:
        """From now on the process writes the places that it passes to `record`, and dies at `target`."""
        self._plan.write_text(json.dumps({"target": target, "record": str(record) if record else None}))
        os.kill(pid, signal.SIGUSR1)

    def log(self) -> str:
        """The end of what the API said."""
        return (self.folder / "api.log").read_text(errors="replace")[-4000:]

    async def death(self, pid: int, within: float = 30.0) -> int | None:
        """The exit status once the process ended (negative: the signal); None when it still lives."""
        with trio.move_on_after(within):
            while not self.dead(pid):  # noqa: ASYNC110
                await trio.sleep(0.02)
        return self._ended.get(pid)

    def dead(self, pid: int) -> bool:
        while True:
            try:
                answer = self._answers.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                return pid in self._ended
            self._ended[answer["pid"]] = answer["status"]

    def terminate(self, pid: int) -> None:
        os.kill(pid, signal.SIGTERM)

    async def kill(self, pid: int) -> None:
        if not self.dead(pid):
            os.kill(pid, signal.SIGKILL)
            await self.death(pid)

    def client(self) -> httpx.AsyncClient:
        """For the customer, or whoever's token it is."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return httpx.AsyncClient(base_url=self.api, headers=headers, timeout=20.0, trust_env=False, verify=PLAIN)

    async def call(self, method: str, path: str, document: object = None) -> Any:
        """One call as the customer; the body of a 2xx, HTTPStatusError otherwise."""
        async with self.client() as client:
            answer = await client.request(method, path, json=document)
            answer.raise_for_status()
            return answer.json()

    async def register(self, name: str) -> str:
        """Makes a customer, who makes the calls from now on; returns the token."""
        body = {"email": f"{name}@example.com", "username": name, "password": PASSWORD}
        self.token = (await self.call("POST", "/api/auth/register", body))["token"]
        return self.token

    async def make_operator(self, role: str = "operator") -> str:
        """An operator's token, or an administrator's. The account is made by the program's own command, and the
        running API hears of it."""
        await trio.run_process(
            [sys.executable, "-m", "zlh", "user", "create", "ops@example.com", "ops", "--role", role],
            env={**os.environ, **self.settings, "ZLH_PASSWORD": PASSWORD},
            cwd=ROOT,
            capture_stdout=True,
        )
        with trio.fail_after(10):
            signed_in = await self.call("POST", "/api/auth/login", {"identifier": "ops", "password": PASSWORD})
        token: str = signed_in["token"]
        return token

    async def operation(self, operation_id: str) -> dict[str, Any]:
        operation: dict[str, Any] = (await self.call("GET", f"/api/operations/{operation_id}"))["operation"]
        return operation

    async def seed(self, count: int) -> list[int]:
        """`count` running containers of the present customer with light agents, as if they had been provisioned;
        their vmids. The API is to be started after this."""
        settings = load_settings(ROOT / "config" / "zlh.toml", self.settings)
        place = SimpleNamespace(
            proxmox_control=self.cluster.control,
            fleet_address=lambda index: f"{self.network}.{2 + index // 250}.{1 + index % 250}",
        )
        async with open_database(settings) as database:
            owner = (await database.run(accounts.all_accounts))[0]
        await Fleet(place, settings, ROOT / "config").ensure(count, owner, self.agents_control)
        return [FIRST_FLEET_VMID + index for index in range(count)]

    async def finished(self, operation_id: str, within: float = 60.0) -> dict[str, Any]:
        """The operation once its state is final."""
        with trio.fail_after(within):
            while True:
                operation = await self.operation(operation_id)
                if operation["state"] in ("succeeded", "failed", "compensated"):
                    return operation
                await trio.sleep(0.05)

    async def servers(self) -> dict[int, dict[str, Any]]:
        return {int(server["id"]): server for server in (await self.call("GET", "/api/servers"))["servers"]}

    async def until_servers(self, holds: Callable[[dict[int, dict[str, Any]]], bool], within: float = 30.0) -> None:
        """Waits until what GET /api/servers says holds."""
        newest: dict[int, dict[str, Any]] = {}
        with trio.move_on_after(within):
            while True:
                newest = await self.servers()
                if holds(newest):
                    return
                await trio.sleep(0.1)
        raise AssertionError(
            f"after {within} s: {[(s['id'], s['status'], s['reason']) for s in newest.values()][:20]}"
        )

    async def agent_fault(self, **fault: Any) -> None:
        await self._agents("POST", fault)

    async def calm_agents(self) -> None:
        """Every fault of every agent ends."""
        await self._agents("DELETE", {})

    async def _agents(self, method: str, document: dict[str, Any]) -> None:
        async with httpx.AsyncClient(base_url=self.agents_control, trust_env=False, verify=PLAIN) as client:
            (await client.request(method, "/faults", json=document)).raise_for_status()

    async def _born(self) -> int:
        while True:
            answer = await self._answers.receive()
            if "status" not in answer:
                pid: int = answer["pid"]
                return pid
            self._ended[answer["pid"]] = answer["status"]

    @property
    def _plan(self) -> Path:
        return self.folder / "plan.json"

    def _listening(self) -> bool:
        """The gateway listens last, when all the rest is up."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", httpx.URL(self.api).port or 0)) == 0


@contextmanager
def free_network() -> Iterator[str]:
    """The first two numbers of addresses that no other world of this machine has, as long as the block."""
    for block in BLOCKS:
        descriptor = os.open(Path(tempfile.gettempdir()) / f"zlh-world-{block}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        try:
            yield f"127.{block}"
        finally:
            os.close(descriptor)
        return
    raise AssertionError("too many worlds at once")


@asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        network = stack.enter_context(free_network())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="zlh-world-")))
        postgres = EmbeddedPostgres(folder / "database", options=POSTGRES)
        database_url = await trio.to_thread.run_sync(postgres.start)
        stack.callback(postgres.stop)
        cluster = await stack.enter_async_context(
            running(folder / "proxmox.json", host=f"{network}.1.1", port=0, time_scale=0.01)
        )
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        agents, ready = await _process(nursery, _agents(cluster, folder), folder / "agents.log")
        port = free_port()
        mortal, _ = await _process(
            nursery, [sys.executable, "-m", "tests.faults.mortal"], folder / "api.log", quiet=True
        )
        yield World(
            folder=folder,
            cluster=cluster,
            agents_control=ready["control"],
            postgres=postgres,
            api=f"http://127.0.0.1:{port}",
            network=network,
            settings=environment(network, database_url, cluster, folder / "data", port),
            nursery=nursery,
            mortal=mortal,
            _answers=await _answers(nursery, mortal),
        )
        assert mortal.stdin is not None
        await mortal.stdin.aclose()
        agents.terminate()
        await mortal.wait()
        await agents.wait()


def _agents(cluster: Cluster, folder: Path) -> list[str]:
    words = [sys.executable, "-m", "zlh.simulators.agents", "--control-url", cluster.control]
    words += ["--data-dir", str(folder / "agents"), "--bootstrap-token", BOOTSTRAP]
    words += ["--light-from", str(FIRST_FLEET_VMID)]
    return [*words, "--install-seconds", "0.2", "--start-seconds", "0.1", "--chatter-seconds", "60"]


async def _process(
    nursery: trio.Nursery, words: list[str], log: Path, *, quiet: bool = False
) -> tuple[trio.Process, dict[str, Any]]:
    """Starts it, and unless `quiet` reads the JSON line that says that it is ready."""
    with log.open("ab") as errors:
        start = partial(
            trio.run_process,
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            check=False,
            cwd=ROOT,
            deliver_cancel=_end,
        )
        process: trio.Process = await nursery.start(start)
    if quiet:
        return process, {}
    assert process.stdout is not None
    with trio.fail_after(START_SECONDS):
        line = b""
        while not line.endswith(b"\n"):
            line += await process.stdout.receive_some(4096)
    return process, json.loads(line)


async def _end(process: trio.Process) -> None:
    """What a failed test leaves: asked first, for its own children are to be ended too."""
    process.terminate()
    with trio.move_on_after(END_SECONDS):
        await process.wait()
    process.kill()


async def _answers(nursery: trio.Nursery, mortal: trio.Process) -> trio.MemoryReceiveChannel[dict[str, Any]]:
    sender, receiver = trio.open_memory_channel[dict[str, Any]](1000)

    async def read() -> None:
        pending = b""
        assert mortal.stdout is not None
        async with sender:
            async for data in mortal.stdout:
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    await sender.send(json.loads(line))

    nursery.start_soon(read)
    return receiver
