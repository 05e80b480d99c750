"""The program that runs an agent for every container: it follows Proxmox, takes orders, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.agents import BOOTSTRAP, GAME, TOKEN, until
from tests.plain import PLAIN
from tests.simulators.agent.processes import children_of
from tests.stopwatch import Stopwatch
from zlh.drivers.agent import AgentClient
from zlh.drivers.errors import DriverError, Unreachable
from zlh.simulators.agent.http import Request, Response, json_response, listen, serve


class Containers:
    """The control endpoint of a Proxmox simulator, as far as agents look at it."""

    def __init__(self, *addresses: str) -> None:
        self.version = 1
        self.list: list[dict[str, Any]] = [{"vmid": 9000, "running": True, "address": "127.0.0.9", "template": True}]
        self.list += [
            {"vmid": 5001 + index, "running": True, "address": address, "template": False, "started": 1.0}
            for index, address in enumerate(addresses)
        ]
        self._moved = trio.Event()

    def change(self, vmid: int, **values: Any) -> None:
        next(item for item in self.list if item["vmid"] == vmid).update(values)
        self._news()

    def remove(self, vmid: int) -> None:
        self.list = [item for item in self.list if item["vmid"] != vmid]
        self._news()

    def _news(self) -> None:
        self.version += 1
        self._moved.set()
        self._moved = trio.Event()

    async def answer(self, request: Request) -> Response:
        while int(request.query["after"]) == self.version:
            await self._moved.wait()
        return json_response({"version": self.version, "containers": self.list})


class Program:
    """The running program: its process, the port of its agents, and its control endpoint."""

    def __init__(self, process: trio.Process, control: str, port: int) -> None:
        self.process = process
        self.control = control
        self.port = port

    async def tell(self, method: str, path: str, body: object = None) -> Any:
        async with httpx.AsyncClient(base_url=self.control, trust_env=False, verify=PLAIN) as client:
            answer = await client.request(method, path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def agents(self) -> dict[int, dict[str, Any]]:
        return {item["vmid"]: item for item in (await self.tell("GET", "/agents"))["agents"]}

    async def state(self, vmid: int) -> str:
        return str((await self.agents()).get(vmid, {}).get("state"))

    async def reaches(self, vmid: int, state: str) -> None:
        async def reached() -> bool:
            return await self.state(vmid) == state

        await until(reached)


@asynccontextmanager
async def program(containers: Containers, data_dir: Path, *words: str) -> AsyncIterator[Program]:
    """Runs it until the block ends, however it ended by then."""
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    port = _free_port()
    command = [sys.executable, "-m", "zlh.simulators.agents", "--control-url", url, "--data-dir", str(data_dir)]
    command += ["--bootstrap-token", BOOTSTRAP, "--port", str(port), "--install-seconds", "0.1"]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, listener, containers.answer)
        process = await trio.lowlevel.open_process(
            [*command, "--start-seconds", "0.05", *words], stdout=subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            with trio.fail_after(20):
                ready = json.loads(await process.stdout.receive_some())
            yield Program(process, ready["control"], port)
        finally:
            with trio.CancelScope(shield=True):
                process.terminate()
                await process.wait()
                await process.stdout.aclose()
            nursery.cancel_scope.cancel()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def test_agents_follow_their_containers(tmp_path):
    containers = Containers("127.0.40.1", "127.0.40.2")
    async with program(containers, tmp_path, "--light") as fleet:
        assert sorted(await fleet.agents()) == [5001, 5002]
        client = AgentClient("127.0.40.1", fleet.port, BOOTSTRAP)
        await client.configure(GAME)
        await fleet.reaches(5001, "running")
        containers.change(5001, running=False)

        async def off() -> bool:
            try:
                await client.health()
            except DriverError as error:
                return isinstance(error, Unreachable)
            return False

        await until(off)
        assert (tmp_path / "5001" / "state.json").exists()
        containers.change(5001, running=True, started=2.0)
        await fleet.reaches(5001, "running")
        containers.change(5001, address="127.0.40.7")

        async def moved() -> bool:
            return (await fleet.agents()).get(5001, {}).get("address") == "127.0.40.7"

        await until(moved)
        await fleet.reaches(5001, "running")
        containers.remove(5001)
        await until(lambda: not (tmp_path / "5001").exists())
        assert sorted(await fleet.agents()) == [5002]


async def test_a_reboot_is_another_agent_even_when_nobody_saw_it_off(tmp_path):
    containers = Containers("127.0.41.1")
    async with program(containers, tmp_path, "--light") as fleet:
        client = AgentClient("127.0.41.1", fleet.port, BOOTSTRAP)
        await client.health()
        assert (await fleet.agents())[5001]["requests"] == 1
        containers.change(5001, started=2.0)

        async def rebooted() -> bool:
            return (await fleet.agents()).get(5001, {}).get("requests") == 0

        await until(rebooted)
        client.close()


async def test_seeds_run_at_once_and_later(tmp_path):
    containers = Containers("127.0.42.1")
    async with program(containers, tmp_path, "--light") as fleet:
        seeds = [{"vmid": 5001, "config": GAME}, {"vmid": 5002, "config": GAME | {"vmid": 5002}}]
        await fleet.tell("POST", "/seeds", {"agents": seeds})
        await fleet.reaches(5001, "running")
        containers.list.append({**containers.list[-1], "vmid": 5002, "address": "127.0.42.2"})
        containers.change(5002, running=True)
        await fleet.reaches(5002, "running")
        client = AgentClient("127.0.42.2", fleet.port, TOKEN)
        assert (await client.ready()).ready
        client.close()


async def test_faults_are_caused_and_cleared_over_the_control_endpoint(tmp_path):
    containers = Containers("127.0.43.1", "127.0.43.2", "127.0.43.3", "127.0.43.4")
    async with program(containers, tmp_path, "--light") as fleet:
        chosen = (await fleet.tell("POST", "/faults", {"fraction": 0.5, "fault": "refusing"}))["vmids"]
        assert len(chosen) == 2
        for vmid, agent in (await fleet.agents()).items():
            assert bool(agent["faults"]) is (vmid in chosen)
        address = (await fleet.agents())[chosen[0]]["address"]
        client = AgentClient(address, fleet.port, BOOTSTRAP)

        async def healthy() -> bool:
            try:
                await client.health()
            except DriverError:
                return False
            return True

        async def refused() -> bool:
            return not await healthy()

        await until(refused)
        await fleet.tell("DELETE", "/faults")
        await until(healthy)
        await fleet.tell("POST", "/faults", {"vmid": 5001, "fault": "slow", "seconds": 0.5, "path": "/ready"})
        assert (await fleet.agents())[5001]["faults"][0]["seconds"] == 0.5
        client.close()
        for wish in ({"fault": "odd"}, {"fault": "slow", "fraction": 7}, {"fault": "slow", "seconds": "x"}):
            with pytest.raises(AssertionError, match="error"):
                await fleet.tell("POST", "/faults", wish)


async def test_an_address_that_is_taken_is_tried_again(tmp_path):
    containers = Containers("127.0.44.1")
    async with program(containers, tmp_path, "--light") as fleet:
        containers.list.append({**containers.list[-1], "vmid": 5002, "address": "127.0.44.2"})
        taken = listen("127.0.44.2", fleet.port)
        containers.change(5002, running=True)

        async def known() -> bool:
            return 5002 in await fleet.agents()

        await until(known)
        assert await fleet.state(5002) == "unknown"
        taken.close()
        await fleet.reaches(5002, "idle")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
async def test_no_child_outlives_the_program(tmp_path, number):
    containers = Containers("127.0.45.1", "127.0.45.2", "127.0.45.3")
    async with program(containers, tmp_path, "--light-from", "5003") as fleet:
        seeds = [{"vmid": vmid, "config": GAME | {"vmid": vmid}} for vmid in (5001, 5002, 5003)]
        await fleet.tell("POST", "/seeds", {"agents": seeds})
        for vmid in (5001, 5002, 5003):
            await fleet.reaches(vmid, "running")
        children = children_of(fleet.process.pid)
        assert len(children) == 2
        watch = Stopwatch()
        os.kill(fleet.process.pid, number)
        with trio.fail_after(30):
            await fleet.process.wait()
            await until(lambda: not any(alive(child) for child in children))
        assert watch.seconds < 3
        assert fleet.process.returncode == (-9 if number == signal.SIGKILL else 0)
    async with program(containers, tmp_path, "--light") as fleet:
        for vmid in (5001, 5002, 5003):
            await fleet.reaches(vmid, "running")
