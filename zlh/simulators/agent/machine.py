"""The state machine of one container's software.

idle -> installing -> starting -> running -> stopping -> idle
             |            \\---------/
           error            crashed          (both may be started again; an error is installed anew)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from zlh.model.observed import AgentState
from zlh.simulators.agent.child import STARTED, stamp
from zlh.simulators.agent.console import Console
from zlh.simulators.agent.faults import FaultName, Faults
from zlh.simulators.agent.game import LightPlay, Play, ProcessPlay
from zlh.simulators.agent.http import Refusal
from zlh.simulators.agent.memory import Memory

GAME_STEPS = ("downloading artifact", "installing java", "unpacking", "writing configuration")
DEV_STEPS = ("installing runtime", "installing code-server")
# A change of these does not need another installation.
SETTINGS = ("agent_token", "memory_mb", "admin_user", "admin_pass", "code_server", "ports")
REQUIRED = {
    "game": {"vmid": int, "game": str, "variant": str, "version": str, "world": str, "ports": list, "memory_mb": int}
    | {"artifact_path": str},
    "dev": {"vmid": int, "runtime": str, "version": str, "memory_mb": int},
}
UP = (AgentState.STARTING, AgentState.RUNNING)


@dataclass(frozen=True, slots=True)
class Durations:
    """How long things take, in seconds; `chatter` is the pause between two log lines of the game."""

    install: float = 2.0
    start: float = 1.0
    stop_grace: float = 5.0
    chatter: float = 15.0
    update: float = 1.0
    restore: float = 0.5


class Machine:
    """Every method that changes something is immediate: the work goes on in `nursery`. Refusal(409) where the state
    does not allow it."""

    def __init__(
        self,
        root: Path,
        memory: Memory,
        console: Console,
        faults: Faults,
        durations: Durations,
        nursery: trio.Nursery,
        *,
        light: bool,
        address: str,
    ) -> None:
        self.state = AgentState.IDLE
        self.install_step: str | None = None
        self.error: str | None = None
        self.running_since: float | None = None
        self.players: list[str] = []
        self._root = root
        self._memory = memory
        self._console = console
        self._faults = faults
        self._durations = durations
        self._nursery = nursery
        self._light = light
        self._address = address
        self._play: Play | None = None
        self._again = False

    def resume(self) -> None:
        """After a restart of the agent: goes on with an installation, and starts what ran before."""
        if self._memory.config and not self._memory.installed:
            self._begin_install()
        elif self._memory.wanted:
            self._begin()

    def configure(self, payload: Mapping[str, Any]) -> int:
        """Takes the payload; 202 where an installation begins or goes on, 200 where there is nothing to install."""
        _check_payload(payload)
        same = _software(payload) == _software(self._memory.config)
        if not same and self.state not in (AgentState.IDLE, AgentState.CRASHED, AgentState.ERROR):
            raise Refusal(409, f"not possible while {self.state}")
        self._memory.config = dict(payload)
        self._memory.token = payload.get("agent_token") or self._memory.token
        self._memory.installed = same and self._memory.installed
        self._memory.save()
        if self._memory.installed:
            return 200
        if self.state is not AgentState.INSTALLING:
            self._begin_install()
        return 202

    def seed(self, payload: Mapping[str, Any]) -> None:
        """As if it had been configured and installed long ago, and runs: fleets for load tests begin so."""
        _check_payload(payload)
        self._memory.config = dict(payload)
        self._memory.token = payload.get("agent_token") or self._memory.token
        self._memory.installed = self._memory.wanted = True
        self._memory.save()
        if self.state not in UP:
            self._begin()

    def start(self) -> None:
        if not self._memory.installed:
            raise Refusal(409, "nothing is installed" if self._memory.config else "not configured")
        if self.state not in (AgentState.IDLE, AgentState.CRASHED, AgentState.ERROR):
            raise Refusal(409, f"not possible while {self.state}")
        self._begin()

    def stop(self) -> None:
        if self.state not in UP:
            raise Refusal(409, f"not possible while {self.state}")
        self._want(False)
        self._end_softly()

    def restart(self) -> None:
        if self.state not in UP:
            self.start()
            return
        self._again = True
        self._want(True)
        self._end_softly()

    def kill(self) -> None:
        """Ends the game at once, also while a stop hangs; nothing to do where no game runs."""
        self._again = False
        self._want(False)
        if self._play is not None:
            self.state = AgentState.STOPPING
            self._play.kill()

    def command(self, line: str) -> None:
        if self._play is None:
            raise Refusal(409, f"no game reads commands while {self.state}")
        self._play.send(line)

    def _want(self, wanted: bool) -> None:
        if self._memory.wanted is not wanted:
            self._memory.wanted = wanted
            self._memory.save()

    def _end_softly(self) -> None:
        assert self._play is not None
        self.state = AgentState.STOPPING
        self._play.send("stop")
        self._nursery.start_soon(self._end_hard_later, self._play)

    async def _end_hard_later(self, play: Play) -> None:
        await trio.sleep(self._durations.stop_grace)
        if play is self._play:
            play.kill()

    def _begin_install(self) -> None:
        self.state = AgentState.INSTALLING
        self.error = None
        self.install_step = "preparing"
        self._nursery.start_soon(self._install)

    async def _install(self) -> None:
        steps = GAME_STEPS if self._memory.config["container_type"] == "game" else DEV_STEPS
        for number, step in enumerate(steps):
            self.install_step = step
            self._console.publish(f"[agent] {step}")
            await trio.sleep(self._durations.install / len(steps))
            if number == 0 and self._faults.get(FaultName.INSTALL_HANGS):
                await self._faults.wait(FaultName.INSTALL_HANGS, present=False)
            if number == 0 and self._faults.get(FaultName.INSTALL_FAILS):
                self.state = AgentState.ERROR
                self.error = f"{step}: the installer exited with code 1"
                return
        if not self._light:
            _write_files(self._root, self._memory.config)
        self.install_step = None
        self._memory.installed = True
        self._want(True)
        self._memory.save()
        self._begin()

    def _begin(self) -> None:
        self._want(True)
        self.error = None
        self._play = self._new_play()
        self.state = AgentState.STARTING
        self._nursery.start_soon(self._run)

    def _new_play(self) -> Play:
        if self._light:
            return LightPlay(self._durations.start)
        ports = self._memory.config.get("ports") or [0]
        return ProcessPlay(
            self._root, self._durations.start, self._durations.chatter, listen=(self._address, ports[0])
        )

    async def _run(self) -> None:
        assert self._play is not None
        self.players.clear()
        if self._faults.get(FaultName.CRASH_ON_START):
            self._play.send("crash")
        self._root.mkdir(parents=True, exist_ok=True)
        code = await self._play.run(self._line)
        self._play = None
        self.running_since = None
        again, self._again = self._again, False
        if self.state is not AgentState.STOPPING:
            self._crashed(code)
        elif again:
            self._begin()
        else:
            self.state = AgentState.IDLE

    def _crashed(self, code: int) -> None:
        self.state = AgentState.CRASHED
        self.error = f"the game exited with code {code}"
        self._memory.crash_count += 1
        self._memory.wanted = False
        self._memory.save()
        self._console.publish(stamp(self.error))

    def _line(self, line: str) -> None:
        self._console.publish(line)
        if self.state is AgentState.STARTING and STARTED in line:
            self.state = AgentState.RUNNING
            self.running_since = trio.current_time()
        elif line.endswith(" joined the game"):
            self.players.append(line.split("]: ", 1)[-1].removesuffix(" joined the game"))
        elif line.endswith(" left the game"):
            name = line.split("]: ", 1)[-1].removesuffix(" left the game")
            self.players = [player for player in self.players if player != name]


def _check_payload(payload: Mapping[str, Any]) -> None:
    """Raises Refusal(400) that names every problem."""
    required = REQUIRED.get(str(payload.get("container_type")))
    if required is None:
        raise Refusal(400, "`container_type` is neither game nor dev")
    problems = {
        name: "missing" if name not in payload else f"not of type {kind.__name__}"
        for name, kind in required.items()
        if not isinstance(payload.get(name), kind)
    }
    if problems:
        raise Refusal(400, "the payload is not valid", problems)


def _software(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in payload.items() if name not in SETTINGS}


def _write_files(root: Path, config: Mapping[str, Any]) -> None:
    """What an installation leaves on the disk."""
    root.mkdir(parents=True, exist_ok=True)
    if config["container_type"] == "dev":
        (root / "README.md").write_text(f"# {config['runtime']} {config['version']}\n")
        return
    (root / "eula.txt").write_text("eula=true\n")
    port = config["ports"][0] if config["ports"] else 25565
    (root / "server.properties").write_text(f"level-name={config['world']}\nserver-port={port}\nmotd=A ZLH server\n")
    (root / config["world"]).mkdir(exist_ok=True)
    (root / "logs").mkdir(exist_ok=True)
    (root / "logs" / "latest.log").touch()
