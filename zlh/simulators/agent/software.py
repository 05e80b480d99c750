"""Software beside the game: the agent's own update, and a dev container's code-server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import trio

from zlh.simulators.agent.http import Refusal
from zlh.simulators.agent.memory import Memory

LATEST = "1.5.0"


class SelfUpdate:
    """The agent replaces itself: it works on for `seconds`, then calls `restart`, which ends with `restarted`."""

    def __init__(self, memory: Memory, nursery: trio.Nursery, seconds: float, restart: Callable[[], None]) -> None:
        self._memory = memory
        self._nursery = nursery
        self._seconds = seconds
        self._restart = restart
        self._state = "idle"

    def as_dict(self) -> dict[str, Any]:
        current = self._memory.version
        return {"current": current, "latest": LATEST, "available": current != LATEST, "state": self._state}

    def begin(self) -> None:
        if self._state == "updating":
            raise Refusal(409, "an update is under way")
        if self._memory.version == LATEST:
            raise Refusal(409, "already the latest version")
        self._state = "updating"
        self._nursery.start_soon(self._run)

    async def _run(self) -> None:
        await trio.sleep(self._seconds)
        self._restart()

    def restarted(self) -> None:
        """Whoever answers from here on is the latest version, if it was an update that restarted the agent."""
        if self._state == "updating":
            self._memory.version = LATEST
            self._memory.save()
            self._state = "idle"


class CodeServer:
    """Status and power of code-server; what it would serve is another program's."""

    def __init__(self, nursery: trio.Nursery, seconds: float) -> None:
        self._nursery = nursery
        self._seconds = seconds
        self._state = "stopped"
        self._port = 8443
        self._change = 0
        self._enabled = False

    @property
    def missing(self) -> bool:
        """It is to be there, and is not."""
        return self._enabled and self._state != "running"

    def as_dict(self) -> dict[str, Any]:
        return {"state": self._state, "port": self._port, "version": "4.104.0"}

    def follow(self, config: Mapping[str, Any]) -> None:
        """Starts it where the configuration enables it."""
        wish = config.get("code_server")
        if not isinstance(wish, dict):
            return
        self._port = int(wish.get("port", self._port))
        self._enabled = bool(wish.get("enabled"))
        if self._enabled and self._state == "stopped":
            self.change("start")

    def change(self, verb: str) -> None:
        """start, stop, restart; Refusal(409) for a start of what is up and a stop of what is down."""
        if (verb == "start") is (self._state != "stopped") and verb != "restart":
            raise Refusal(409, f"code-server is {self._state}")
        self._change += 1
        if verb == "stop":
            self._state = "stopped"
            return
        self._state = "starting"
        self._nursery.start_soon(self._start, self._change)

    async def _start(self, change: int) -> None:
        await trio.sleep(self._seconds)
        if change == self._change:
            self._state = "running"
