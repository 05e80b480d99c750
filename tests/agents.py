"""Simulated agents for tests: quick ones, in the test's own process and on a free port."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from zlh.drivers.agent import AgentClient
from zlh.simulators.agent import Durations, SimulatedAgent

BOOTSTRAP = "bootstrap-token"
TOKEN = "agent-token-of-5001"
QUICK = Durations(install=0.1, start=0.05, stop_grace=1.0, chatter=60.0, update=0.1, restore=0.1)

GAME: dict[str, Any] = {
    "vmid": 5001,
    "container_type": "game",
    "game": "minecraft",
    "variant": "paper",
    "version": "1.21.1",
    "world": "world",
    "ports": [25565],
    "artifact_path": "minecraft/paper/1.21.1/server.jar",
    "java_path": "java/21/OpenJDK21.tar.gz",
    "memory_mb": 2048,
    "agent_token": TOKEN,
}
DEV: dict[str, Any] = {
    "vmid": 6001,
    "container_type": "dev",
    "runtime": "python",
    "version": "3.13",
    "memory_mb": 1024,
    "agent_token": TOKEN,
    "code_server": {"enabled": True, "port": 8443},
}


async def start_agent(
    nursery: trio.Nursery,
    directory: Path,
    *,
    light: bool = True,
    durations: Durations = QUICK,
    config: dict[str, Any] | None = None,
) -> SimulatedAgent:
    """A running agent on 127.0.0.1; with `config` one that was configured before and whose game runs."""
    agent = SimulatedAgent("127.0.0.1", directory, BOOTSTRAP, port=0, durations=durations, light=light)
    await nursery.start(agent.run)
    if config is not None:
        agent.seed(config)
        await until(lambda: agent.state == "running")
    return agent


@contextmanager
def client_of(agent: SimulatedAgent, token: str = TOKEN) -> Iterator[AgentClient]:
    client = AgentClient(agent.address, agent.port, token)
    try:
        yield client
    finally:
        client.close()


async def typed(client: AgentClient, line: str) -> int:
    """The status that the agent answers to a line typed into the console."""
    return (await client.request("POST", "/console/command", {"command": line})).status


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 10.0) -> None:
    """Waits for a condition with a deadline."""
    with trio.fail_after(seconds):
        while True:
            holds = condition()
            if await holds if inspect.isawaitable(holds) else holds:
                return
            await trio.sleep(0.01)
