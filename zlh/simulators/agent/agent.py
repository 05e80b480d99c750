"""One simulated agent: the contract on a real socket, a real directory and, unless light, a real child process."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import trio

from zlh.model.observed import AgentState
from zlh.simulators.agent import faults as wire
from zlh.simulators.agent.backups import Backups
from zlh.simulators.agent.console import Console
from zlh.simulators.agent.faults import FaultName, Faults
from zlh.simulators.agent.files import Files
from zlh.simulators.agent.http import Refusal, Request, Response, listen, serve
from zlh.simulators.agent.machine import Durations, Machine
from zlh.simulators.agent.memory import Memory
from zlh.simulators.agent.mods import Mods
from zlh.simulators.agent.routes import Parts, Routes
from zlh.simulators.agent.software import CodeServer, SelfUpdate

FLOOD_BEAT = 0.02
RESTART_SECONDS = 0.2


class SimulatedAgent:
    """`async with trio.open_nursery() as n: await n.start(agent.run)`; cancelling `run` switches the container off.

    `directory` keeps the agent's memory, `directory/server` is the container's server root. With port 0 the system
    chooses one; `agent.port` tells it.
    """

    def __init__(
        self,
        address: str,
        directory: Path,
        bootstrap_token: str,
        *,
        port: int = 18888,
        durations: Durations | None = None,
        light: bool = False,
    ) -> None:
        self.address = address
        self.port = port
        self.light = light
        self.faults = Faults(self._faults_changed)
        self.console = Console()
        self.memory = Memory(directory, bootstrap_token)
        self.requests = 0
        self.connections = 0
        self._directory = directory
        self._durations = durations or Durations()
        self._machine: Machine | None = None
        self._routes: Routes | None = None
        self._nursery: trio.Nursery | None = None
        self._flooding = False
        self._listening = trio.CancelScope()

    @property
    def state(self) -> AgentState:
        """UNKNOWN while it does not run."""
        return self._machine.state if self._machine is not None else AgentState.UNKNOWN

    def seed(self, payload: dict[str, Any]) -> None:
        """Makes it an agent that was configured long ago and whose game runs. Only while `run` runs."""
        assert self._machine is not None
        self._machine.seed(payload)

    async def run(
        self, listener: socket.socket | None = None, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Runs until cancelled, then ends the game with it. Raises OSError where the address cannot be bound."""
        listener = listener or listen(self.address, self.port)
        self.port = listener.getsockname()[1]
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                self._build(nursery)
                self._faults_changed()
                task_status.started()
                await self._serve_again_and_again(listener)
            finally:
                self._machine = self._nursery = None
                listener.close()

    def _build(self, nursery: trio.Nursery) -> None:
        root = self._directory / "server"
        machine = self._machine = Machine(
            root,
            self.memory,
            self.console,
            self.faults,
            self._durations,
            nursery,
            light=self.light,
            address=self.address,
        )
        code_server = CodeServer(nursery, self._durations.start)
        self._self_update = SelfUpdate(self.memory, nursery, self._durations.update, self._drop_connections)
        parts = Parts(
            memory=self.memory,
            machine=machine,
            console=self.console,
            faults=self.faults,
            files=Files(root),
            mods=Mods(self._directory),
            backups=Backups(self._directory, root, nursery, self.faults, self._durations.restore),
            code_server=code_server,
            self_update=self._self_update,
        )
        self._routes = Routes(parts)
        parts.backups.resume()
        machine.resume()
        code_server.follow(self.memory.config)

    async def _serve_again_and_again(self, listener: socket.socket) -> None:
        """Listens again after every interruption: an update of the agent, the fault `refusing`."""
        while True:
            with trio.CancelScope() as self._listening:
                await serve(listener, self._serve, on_count=self._count)
            await trio.sleep(RESTART_SECONDS)
            self._self_update.restarted()
            await self.faults.wait(FaultName.REFUSING, present=False)
            listener = listen(self.address, self.port)

    def _faults_changed(self) -> None:
        if self._nursery is None:
            return
        if self.faults.get(FaultName.REFUSING):
            self._drop_connections()
        if self.faults.get(FaultName.CONSOLE_FLOOD) and not self._flooding:
            self._flooding = True
            self._nursery.start_soon(self._flood)

    def _count(self, change: int) -> None:
        self.connections += change

    def _drop_connections(self) -> None:
        self._listening.cancel()

    async def _serve(self, request: Request) -> Response | None:
        assert self._routes is not None
        self.requests += 1
        if self.faults and not await wire.delay(self.faults, request.path, request.connection):
            return None
        try:
            response = await self._routes.answer(request)
        except Refusal as refusal:
            response = refusal.response()
        if response is None or not self.faults:
            return response
        return await wire.damage(self.faults, request.path, request.connection, response)

    async def _flood(self) -> None:
        number = 0
        while flood := self.faults.get(FaultName.CONSOLE_FLOOD):
            for _ in range(max(1, int(flood.rate * FLOOD_BEAT))):
                number += 1
                self.console.publish(f"flood line {number}")
            await trio.sleep(FLOOD_BEAT)
        self._flooding = False
