"""Every way in, and how to knock there: the routes of the table, and the console, which the gateway serves itself.

A websocket is two doors: the token comes with the handshake, or as the first message.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import trio
from quart import Response
from quart.testing import WebsocketResponseError

from tests.api.hostile import example_query
from tests.api.world import World
from tests.gateway.behind import FakeConsoles
from tests.gateway.peer import Socket, connect, handshake
from zlh.api import create_app
from zlh.api.call import Call, json_response
from zlh.api.routes import ROUTES
from zlh.api.routing import ADDRESS_PART, SAFE, VMID, Route, Who
from zlh.gateway import serve
from zlh.model.access import Permission, Scope
from zlh.model.console import Line
from zlh.wire.frames import Close

REFUSED_AS = {4401: 401, 4403: 403, 4404: 404}
"""What the close codes of websockets are as HTTP statuses."""

LET_IN = 299
"""The status of a handler that was reached; a real one has its own."""


async def _reached(call: Call, **parameters: Any) -> Response:
    return json_response({}, LET_IN)


CONSOLE = Route(
    "GET",
    f"/api/servers/{VMID}/console/stream",
    Who.SIGNED_IN,
    _reached,
    "The console",
    None,
    101,
    scope=Scope.CONSOLE,
    permission=Permission.WATCH,
    websocket=True,
)


@dataclass(frozen=True)
class Door:
    """`late`: a websocket whose token comes as the first message."""

    route: Route
    late: bool = False

    @property
    def name(self) -> str:
        return self.route.name + (", token as the first message" if self.late else "")

    @property
    def owned(self) -> bool:
        return "vmid" in self.route.parameters

    @property
    def changing(self) -> bool:
        return self.route.method not in SAFE

    @property
    def needs(self) -> Permission:
        """At the container in its address."""
        return self.route.permission or Permission.OWN


def _doors() -> list[Door]:
    closed = [route for route in ROUTES if route.who is not Who.PUBLIC]
    sockets = [*(route for route in closed if route.websocket), CONSOLE]
    late = [Door(route, late=True) for route in sockets]
    return [*(Door(route) for route in closed), Door(CONSOLE), *late]


DOORS = _doors()


@dataclass(frozen=True)
class Reply:
    """`code` and `error` are of the refusal; None where a websocket's close said it."""

    status: int
    code: str | None = None
    error: str | None = None

    @property
    def welcome(self) -> bool:
        return self.status in (LET_IN, 101)

    def is_refusal(self, status: int, code: str) -> bool:
        return self.status == status and self.code in (None, code)


@dataclass
class Street:
    """`shown` is the same table with handlers that only tell that they were reached."""

    world: World
    shown: World
    port: int

    async def knock(self, door: Door, token: str | None, vmid: int = 5001, **values: str) -> Reply:
        """Nothing is behind the door but the word that one came in."""
        return await self._knock(self.shown, door, token, vmid, values)

    async def enter(self, door: Door, token: str | None, vmid: int = 5001, body: Any = None, **values: str) -> Reply:
        """The real thing."""
        return await self._knock(self.world, door, token, vmid, values, body)

    async def _knock(
        self, world: World, door: Door, token: str | None, vmid: int, values: dict[str, str], body: Any = None
    ) -> Reply:
        path = address(door.route, vmid, **values) + example_query(door.route)
        if door.route is CONSOLE:
            return await self._console(door, path, token)
        if door.route.websocket:
            with trio.fail_after(10):
                return await _websocket(world, door, path, token)
        answer = await world.call(door.route.method, path, token, body, raw=b"{}" if body is None else None)
        if answer.status >= 400:
            return Reply(answer.status, answer.json["code"], answer.json["error"])
        return Reply(answer.status)

    async def _console(self, door: Door, path: str, token: str | None) -> Reply:
        fields = [f"Authorization: Bearer {token}"] if token is not None and not door.late else []
        async with connect(self.port) as peer:
            await peer.send(handshake(path, *fields))
            if fields:
                answer = await peer.answer()
                refused = answer.status != 101
                return Reply(answer.status, *(answer.json[key] for key in ("code", "error") if refused))
            await peer.read_head()
            socket = Socket(peer)
            await socket.send(json.dumps({"auth": token or ""}))
            event = await socket.event()
            return Reply(REFUSED_AS[event.code]) if isinstance(event, Close) else Reply(101)


def address(route: Route, vmid: int = 5001, **values: str) -> str:
    known = {"vmid": str(vmid), "operation_id": "op0001", "path": "root/idle", **values}
    return ADDRESS_PART.sub(lambda match: known.get(match[1], "1"), route.path)


async def _websocket(world: World, door: Door, path: str, token: str | None) -> Reply:
    headers = {"Authorization": f"Bearer {token}"} if token is not None and not door.late else {}
    # The test client's own nursery wraps what happens inside of it.
    try:
        async with world.app.test_client().websocket(path, headers=headers) as ws:
            if not headers:
                await ws.send(json.dumps({"auth": token or ""}))
            try:
                await ws.receive()
            except WebsocketResponseError:
                raise
            except Exception as closed:  # noqa: BLE001 - its name depends on Quart's version
                return Reply(REFUSED_AS[int(closed.args[0])])
            return Reply(101)
    except* WebsocketResponseError as group:
        (error,) = group.exceptions
    response = error.args[0]
    said = json.loads(await response.get_data(as_text=False))
    return Reply(response.status_code, said["code"], said["error"])


@asynccontextmanager
async def open_street(world: World) -> AsyncIterator[Street]:
    bare = [
        route if route.websocket else replace(route, handler=_reached, body=None, query=None, idempotent=False)
        for route in ROUTES
    ]
    shown = replace(world, app=create_app(world.services, bare))
    consoles = FakeConsoles()
    consoles.history = (Line(1, 1.0, "whoever is in sees this"),)
    async with trio.open_nursery() as nursery:
        gateway = await nursery.start(
            partial(
                serve,
                "127.0.0.1",
                0,
                upstream_socket="/nowhere",
                doorkeeper=world.access,
                consoles=consoles,
            )
        )
        yield Street(world, shown, gateway.address.port)
        nursery.cancel_scope.cancel()
