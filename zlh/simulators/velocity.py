"""The bridge plugin of a Velocity proxy: what was registered lasts until the proxy is restarted."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import trio

from zlh.simulators.agent.http import PeerGone, Refusal, Request, Response, json_response, listen, serve

Place = tuple[str, int]


@dataclass
class Faults:
    """`down`: every connection is closed without a word. `slow`: seconds before each answer. `status`: of every
    answer. `half`: the list ends in the middle. `lost`: changes are made, but their answers do not arrive.
    `down_after`: so many more changes, then it is down. `refuses`: names that it does not take."""

    down: bool = False
    slow: float = 0.0
    status: int | None = None
    half: bool = False
    lost: bool = False
    down_after: int | None = None
    refuses: set[str] = field(default_factory=set)


class SimulatedVelocity:
    """`static` are servers of its configuration file, which nobody unregisters. `requests` are those that it got.
    `strict`: registering a name that leads elsewhere is a conflict, instead of an overwriting. `wrapped`: its list is
    inside an object."""

    def __init__(
        self, secret: str, static: Mapping[str, Place] | None = None, *, strict: bool = False, wrapped: bool = False
    ) -> None:
        self._proof = hashlib.sha256(secret.encode()).hexdigest()
        self._static = dict(static or {})
        self._strict = strict
        self._wrapped = wrapped
        self.servers: dict[str, Place] = dict(self._static)
        self.faults = Faults()
        self.requests: list[tuple[str, str]] = []
        self.restarts = 0

    def restart(self) -> None:
        """Only what its configuration file says is left."""
        self.servers = dict(self._static)
        self.restarts += 1

    @property
    def registered(self) -> dict[str, Place]:
        """What is there besides the servers of the configuration file."""
        return {name: place for name, place in self.servers.items() if name not in self._static}

    async def run(self, listener: socket.socket) -> None:
        """Serves until cancelled."""
        await serve(listener, self._handle)

    async def _handle(self, request: Request) -> Response:
        body = await request.json()
        if self.faults.down:
            raise PeerGone("the proxy is down")
        self.requests.append((request.method, request.path))
        await trio.sleep(self.faults.slow)
        if self.faults.status is not None:
            raise Refusal(self.faults.status, "no")
        if request.headers.get("x-zpack-secret") != self._proof:
            raise Refusal(401, "that is not the secret")
        match request.method, request.path:
            case "GET", "/zpack/list":
                return self._list()
            case "POST", "/zpack/register":
                return self._changed(self._register, body)
            case "POST", "/zpack/unregister":
                return self._changed(self._unregister, body)
        raise Refusal(404, "there is no such address")

    def _list(self) -> Response:
        servers = [
            {"server_name": name, "address": address, "port": port} for name, (address, port) in self.servers.items()
        ]
        answer = json_response({"servers": servers} if self._wrapped else servers)
        if self.faults.half:
            answer.body = answer.body[: len(answer.body) // 2]
        return answer

    def _changed(self, change: Any, body: dict[str, Any]) -> Response:
        if self.faults.down_after == 0:
            self.faults.down = True
            raise PeerGone("the proxy goes down")
        change(body)
        if self.faults.down_after is not None:
            self.faults.down_after -= 1
        if self.faults.lost:
            raise PeerGone("the answer is lost")
        return json_response({"ok": True})

    def _register(self, body: dict[str, Any]) -> None:
        name, address, port = body.get("server_name"), body.get("address"), body.get("port")
        if not (isinstance(name, str) and name and isinstance(address, str) and address and type(port) is int):
            raise Refusal(400, "server_name, address and port are needed")
        if name in self.faults.refuses:
            raise Refusal(422, "that name is not taken")
        name = name.lower()
        if self._strict and self.servers.get(name, (address, port)) != (address, port):
            raise Refusal(409, "that name is taken")
        self.servers[name] = (address, port)

    def _unregister(self, body: dict[str, Any]) -> None:
        name = body.get("server_name")
        if not isinstance(name, str):
            raise Refusal(400, "server_name is needed")
        if name.lower() not in self.servers:
            raise Refusal(404, "there is no such server")
        del self.servers[name.lower()]


def open_listener(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """Raises OSError where the address cannot be bound."""
    return listen(host, port)
