"""CPU of one poll (three requests a round) against simulated agents in another process.

python -m tests.drivers.agent.bench --agents 1000 --seconds 20
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import trio

from zlh.drivers.agent import AgentClient
from zlh.drivers.errors import DriverError
from zlh.simulators.agent.http import Request, Response, json_response, listen, serve
from zlh.simulators.agents import allow_many_files

TICK = 0.05


def addresses(count: int) -> list[str]:
    return [f"127.77.{index // 250}.{index % 250 + 1}" for index in range(count)]


async def start_agents(
    count: int, directory: Path, *, task_status: trio.TaskStatus[tuple[trio.Process, float]]
) -> None:
    """Runs the agents' process on a list of containers that we serve; reports it and how long it took to be ready."""
    containers = [
        {"vmid": 5000 + index, "running": True, "address": address, "template": False}
        for index, address in enumerate(addresses(count))
    ]

    async def answer(request: Request) -> Response:
        if request.query["after"] != "-1":
            await trio.sleep_forever()
        return json_response({"version": 1, "containers": containers})

    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    command = [sys.executable, "-m", "zlh.simulators.agents", "--control-url", url, "--data-dir", str(directory)]
    began = time.monotonic()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, listener, answer)
        process = await trio.lowlevel.open_process(
            [*command, "--bootstrap-token", "boot", "--light"], stdout=subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            json.loads(await process.stdout.receive_some())
            task_status.started((process, time.monotonic() - began))
            await trio.sleep_forever()
        finally:
            process.terminate()
            with trio.CancelScope(shield=True):
                await process.wait()


async def poll_for_ever(client: AgentClient, interval: float, counts: dict[str, int]) -> None:
    """As a poller does: a task of its own, woken on a common tick."""
    at = trio.current_time() + random.random() * interval
    while True:
        await trio.sleep_until(round(at / TICK) * TICK)
        at += interval
        try:
            with trio.move_on_after(2.0):
                await client.health()
                await client.ready()
                await client.status()
                counts["rounds"] += 1
                continue
        except DriverError as error:
            counts[repr(error)] = counts.get(repr(error), 0) + 1
        counts["misses"] += 1


async def measure(count: int, seconds: float, interval: float) -> dict[str, Any]:
    counts = {"rounds": 0, "misses": 0}
    with tempfile.TemporaryDirectory() as directory:
        async with trio.open_nursery() as nursery:
            process, start_seconds = await nursery.start(start_agents, count, Path(directory))
            await trio.sleep(2)
            agents_cpu = _cpu_of(process.pid)
            await trio.sleep(3)
            agents_idle = (_cpu_of(process.pid) - agents_cpu) / 3
            clients = [AgentClient(address, 18888, "boot") for address in addresses(count)]
            for client in clients:
                nursery.start_soon(poll_for_ever, client, interval, counts)
            await trio.sleep(interval + 1)
            counts.update(rounds=0, misses=0)
            cpu, agents_cpu = time.process_time(), _cpu_of(process.pid)
            await trio.sleep(seconds)
            cpu, agents_cpu = time.process_time() - cpu, _cpu_of(process.pid) - agents_cpu
            found = dict(counts)
            for client in clients:
                client.close()
            nursery.cancel_scope.cancel()
    rounds = max(1, found["rounds"])
    return {
        "agents": count,
        "agentsStartSeconds": round(start_seconds, 2),
        "agentsIdleCpuPercent": round(100 * agents_idle, 1),
        "rounds": found["rounds"],
        "misses": found["misses"],
        "cpuMsPerRound": round(1000 * cpu / rounds, 3),
        "cpuMsPerRequest": round(1000 * cpu / rounds / 3, 3),
        "coreShareAt5s": round(cpu / seconds * interval / 5, 3),
        "agentsCpuMsPerRound": round(1000 * agents_cpu / rounds, 3),
    }


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--interval", type=float, default=5.0)
    options = parser.parse_args()
    allow_many_files()
    print(json.dumps(trio.run(measure, options.agents, options.seconds, options.interval)))


if __name__ == "__main__":
    main()
