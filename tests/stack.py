"""The whole fleet for tests: simulated Proxmox and agents as processes, a real database, the real Fleet in a system.

    async with simulators(folder) as (cluster, agents), open_stack(postgres_url, cluster, agents) as stack:
        container = await stack.provision("one")
        await stack.succeeds(await stack.fleet.stop_host(container.vmid))

The database and the simulators outlive the stack: open a second one on the same ones to see what a restart does.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import trio

import actors
from tests.plain import PLAIN
from tests.proxmox import TIME_SCALE, token
from zlh.containers.fleet import Fleet
from zlh.containers.options import Options, Polling
from zlh.drivers.proxmox import ProxmoxDriver, Tls
from zlh.model.accounts import Account
from zlh.model.containers import Container, ContainerRequest, ContainerType, Resources, Software
from zlh.model.games import GameFacts, Games
from zlh.model.operations import Operation, OperationState
from zlh.model.plans import Plan
from zlh.simulators.proxmox.client import Cluster, running
from zlh.store import Database, Vault, accounts, containers, operations

BOOTSTRAP_TOKEN = "bootstrap-of-the-template"
SMALL = Resources(memory_mib=1024, cpu_cores=1, disk_gib=8)
PLAN = Plan("studio", games=20, devs=20, memory_mib=65536, cpu_cores=64, disk_gib=1000, defaults=SMALL, backups=3)
GAMES = Games(
    {
        "minecraft": GameFacts("minecraft", "tcp", (25565,), {"paper": "minecraft/paper/{version}/server.jar"}),
        "generic": GameFacts("game", "udp", (27015,), {"any": "{game}/{variant}/{version}/server.tar.gz"}),
    }
)
# One database may be opened by several stacks, so they share the key.
VAULT = Vault([Vault.new_key()])

# An operation of several steps, on a busy machine.
PATIENCE = 40.0

OPTIONS = Options(
    address_pool=tuple(f"127.64.{third}.{last}" for third in range(4) for last in range(1, 251)),
    address_prefix=8,
    bootstrap_token=BOOTSTRAP_TOKEN,
    watch_seconds=0.3,
    list_lag_seconds=0.0,
    shutdown_seconds=10.0,
    polling=Polling(transition_seconds=0.1, running_seconds=0.3, stopped_seconds=0.5, timeout_seconds=1.0),
)


@dataclass
class Agents:
    """The simulated agents' process. `port` is where each of them listens on its container's address."""

    control: str
    port: int
    pid: int

    async def list(self) -> dict[int, dict[str, Any]]:
        """What runs, by vmid: state, address, faults, number of requests."""
        return {agent["vmid"]: agent for agent in (await self._call("GET", "/agents"))["agents"]}

    async def cause(self, fault: str, **parameters: Any) -> None:
        """Turns a fault on (see `zlh.simulators.agent.faults`); `vmid` may be one that does not exist yet."""
        await self._call("POST", "/faults", {"fault": fault, **parameters})

    async def calm(self) -> None:
        """Turns every fault of every agent off."""
        await self._call("DELETE", "/faults", {})

    async def _call(self, method: str, path: str, document: object = None) -> Any:
        async with httpx.AsyncClient(base_url=self.control, timeout=20, trust_env=False, verify=PLAIN) as client:
            response = await client.request(method, path, json=document)
        response.raise_for_status()
        return response.json()


def agents_command(cluster: Cluster, data_dir: Path, port: int) -> list[str]:
    """Light agents that install and start in no time."""
    words = [sys.executable, "-m", "zlh.simulators.agents", "--control-url", cluster.control]
    words += ["--data-dir", str(data_dir), "--bootstrap-token", BOOTSTRAP_TOKEN, "--port", str(port), "--light"]
    return [*words, "--install-seconds", "0.1", "--start-seconds", "0.05", "--chatter-seconds", "1"]


def start_agents(cluster: Cluster, data_dir: Path) -> tuple[subprocess.Popen[bytes], Agents]:
    """Starts the process and waits until its agents may be asked; the caller ends it with `end`."""
    port = free_port()
    process = subprocess.Popen(agents_command(cluster, data_dir, port), stdout=subprocess.PIPE)
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    return process, Agents(ready["control"], port, process.pid)


def end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


@asynccontextmanager
async def simulators(folder: Path) -> AsyncIterator[tuple[Cluster, Agents]]:
    """A cluster and agents of one's own, empty."""
    async with running(folder / "proxmox.json", host="127.0.0.4", time_scale=TIME_SCALE) as cluster:
        process, agents = await trio.to_thread.run_sync(start_agents, cluster, folder / "agents")
        try:
            yield cluster, agents
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(end, process)


def free_port() -> int:
    """A port that nothing listens on, on any loopback address."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        number: int = sock.getsockname()[1]
    return number


@dataclass
class Stack:
    """A running fleet. `owners` is what the fleet said of each vmid's owner; `account` is one customer. `suspended`
    is what is known of accounts' standing; of those that are not in it nothing is known."""

    fleet: Fleet
    system: actors.System
    db: Database
    driver: ProxmoxDriver
    cluster: Cluster
    agents: Agents
    account: Account
    owners: dict[int, int | None] = field(default_factory=dict)
    asked_before: int = 0
    suspended: dict[int, bool] = field(default_factory=dict)

    def suspend(self, suspended: bool = True, *, account: Account | None = None) -> None:
        """From now on the account is suspended, or is not."""
        account_id = (account or self.account).id
        self.suspended[account_id] = suspended
        self.fleet.standing_changed(account_id)

    async def requests(self) -> list[tuple[str, str, str]]:
        """(method, path, body) of what Proxmox was asked since this stack was opened."""
        return (await self.cluster.requests())[self.asked_before :]

    async def create(
        self,
        name: str = "Test",
        *,
        account: Account | None = None,
        ctype: ContainerType = ContainerType.GAME,
        resources: Resources = SMALL,
        variant: str = "paper",
    ) -> Operation:
        """Asks for a container; returns the operation that makes it."""
        software = Software("minecraft", "1.21.4", variant=variant, world="earth")
        if ctype is ContainerType.DEV:
            software = Software("python", "3.12")
        request = ContainerRequest(ctype, name, software, resources, ports=(25565,))
        _row, operation = await self.fleet.create(account or self.account, request)
        return operation

    async def provision(self, name: str = "Test", **wishes: Any) -> Container:
        """A container that runs."""
        operation = await self.succeeds(await self.create(name, **wishes))
        return self.fleet.container(operation.vmid)

    async def ended(self, operation: Operation, *, within: float = PATIENCE) -> Operation:
        """The operation once it ended, however it did."""
        ended = await self.fleet.wait(operation.id, within=within)
        assert ended.state.final, describe(ended)
        return ended

    async def succeeds(self, operation: Operation, *, within: float = PATIENCE) -> Operation:
        return self._expect(await self.ended(operation, within=within), OperationState.SUCCEEDED)

    async def compensated(self, operation: Operation, *, within: float = PATIENCE) -> Operation:
        return self._expect(await self.ended(operation, within=within), OperationState.COMPENSATED)

    async def fails(self, operation: Operation, *, within: float = PATIENCE) -> Operation:
        return self._expect(await self.ended(operation, within=within), OperationState.FAILED)

    def _expect(self, operation: Operation, state: OperationState) -> Operation:
        assert operation.state is state, describe(operation)
        return operation

    async def step(self, operation: Operation, name: str, *, within: float = PATIENCE) -> Operation:
        """The operation as it is once the step of that name was begun."""
        with trio.fail_after(within):
            async with self.fleet.follow(operation.id) as states:
                async for state in states:
                    if state.step(name).attempts:
                        return state
        raise AssertionError(f"the step {name} was never begun: {describe(state)}")

    async def status(self, vmid: int, wanted: str, *, within: float = PATIENCE) -> None:
        """Waits until the container's status is the wanted one."""

        async def there() -> bool:
            return self.fleet.server(vmid).status == wanted

        await until(there, within=within, lacking=lambda: self.fleet.server(vmid).as_dict())

    async def gone(self, vmid: int, *, within: float = PATIENCE) -> None:
        """Waits until nothing of the container is left: in Proxmox, database, memory, actor tree or among agents."""

        async def nothing() -> bool:
            return not await self.traces(vmid)

        await until(nothing, within=within)

    async def traces(self, vmid: int) -> list[str]:
        """Where something of the container is left."""
        found = {
            "Proxmox": vmid in await self.cluster.containers(),
            "agents": vmid in await self.agents.list(),
            "rows": await self.db.run(containers.get, vmid) is not None,
            "operations": await self.db.run(operations.of_container, vmid) is not None,
            "memory": vmid in self.fleet.projection,
            "actors": str(vmid) in self.system.dynamic("fleet").names(),
            "owners": self.owners.get(vmid) is not None,
        }
        return [where for where, present in found.items() if present]


@asynccontextmanager
async def open_stack(
    postgres_url: str,
    cluster: Cluster,
    agents: Agents,
    *,
    plan: Plan = PLAN,
    suspended: dict[int, bool] | None = None,
    **changes: Any,
) -> AsyncIterator[Stack]:
    """A fleet in a system of its own. `changes` are fields of `Options`."""
    standing = {} if suspended is None else suspended
    options = dataclasses.replace(OPTIONS, agent_port=agents.port, **changes)
    db = Database(postgres_url, vault=VAULT)
    driver = ProxmoxDriver(cluster.url, token(cluster), Tls(ca_file=cluster.certificate))
    owners: dict[int, int | None] = {}
    fleet = Fleet(
        db=db,
        proxmox=driver,
        games=GAMES,
        plans={plan.name: plan},
        options=options,
        now=time.time,
        owner_changed=owners.__setitem__,
        suspended=standing.get,
    )
    try:
        account = await customer(db, "ada", plan)
        asked = len(await cluster.requests())
        async with actors.open_system(actors.supervisor("root", fleet.specs())) as system:
            yield Stack(fleet, system, db, driver, cluster, agents, account, owners, asked, standing)
    finally:
        with trio.CancelScope(shield=True):
            await driver.aclose()
            await db.aclose()


async def customer(db: Database, name: str, plan: Plan = PLAN) -> Account:
    """The customer of that name, made where there is none yet."""
    known = await db.run(accounts.by_identifier, name)
    if known is not None:
        return known
    return await db.run(
        accounts.create,
        email=f"{name}@example.com",
        username=name,
        password_hash="none",
        plan=plan.name,
        now=datetime.now(UTC),
    )


async def until(
    condition: Callable[[], Awaitable[bool]],
    *,
    within: float = PATIENCE,
    lacking: Callable[[], object] = lambda: "the condition",
) -> None:
    """Waits for a condition that other processes decide; fails with what was `lacking`."""
    with trio.move_on_after(within):
        while not await condition():  # noqa: ASYNC110 - nobody tells us
            await trio.sleep(0.02)
        return
    raise AssertionError(f"not within {within:g} s: {lacking()}")


def describe(operation: Operation) -> str:
    steps = "; ".join(f"{step.name} {step.state}: {step.error or step.note}" for step in operation.steps)
    return f"{operation.kind} of {operation.vmid} is {operation.state} ({operation.error}): {steps}"
