"""GET /api/servers/events: a websocket that first shows all of one's servers, then what changes.

    {"event": "snapshot", "servers": [Server, ...]}
    {"event": "delta", "servers": [Server, ...], "removed": ["5001", ...]}

Both have `"shared": {"<vmid>": [permission, ...]}` beside `servers` where others share some of them.

The access token comes as Authorization, as the `access_token` query value, or as the first message
{"auth": "<token>"} within five seconds.
"""

from __future__ import annotations

import logging
from typing import Any

import orjson
import trio
from quart import Response, Websocket

from zlh.api.call import client_address
from zlh.api.errors import envelope
from zlh.api.requestid import request_id
from zlh.api.routing import Route, admit, bearer
from zlh.api.services import Services
from zlh.model.access import told
from zlh.model.accounts import Principal
from zlh.model.errors import AbsentError, ForbiddenError, ProblemError, UnauthenticatedError

log = logging.getLogger(__name__)

FIRST_MESSAGE_SECONDS = 5.0
# Changes are collected for this long: a thousand polled containers become five messages a second, not a thousand.
GATHER_SECONDS = 0.2
INTERNAL = 1011
UNAUTHENTICATED = 4401
FORBIDDEN = 4403


class PeerGoneError(Exception):
    """The client is not there any more. Quart 0.23 says so with an error of its own, 0.22 by cancelling."""


class Peer:
    """The websocket's two directions, with one way to learn that nobody is at the other end."""

    def __init__(self, websocket: Websocket) -> None:
        self._websocket = websocket

    async def send(self, frame: bytes) -> None:
        try:
            await self._websocket.send(frame.decode())
        except Exception as error:
            raise PeerGoneError from error

    async def receive(self) -> str | bytes:
        try:
            return await self._websocket.receive()
        except Exception as error:
            raise PeerGoneError from error

    async def read_to_the_end(self) -> None:
        """Nothing is expected from the client; reading is how its going away is noticed."""
        while True:
            try:
                await self.receive()
            except PeerGoneError:
                return


async def server_events(services: Services, route: Route, websocket: Websocket) -> Response | None:
    """Refuses with plain HTTP where it can tell before the upgrade, and with a close code after it."""
    try:
        principal = _before_upgrade(services, route, websocket)
    except ProblemError as problem:
        return envelope(problem, request_id(websocket.headers))
    await websocket.accept()
    peer = Peer(websocket)
    try:
        if principal is None:
            principal = await _first_message(services, route, peer, client_address(websocket))
        code, reason = await _serve(services, route, principal, peer)
    except PeerGoneError:
        return None
    except ProblemError as problem:
        code = FORBIDDEN if problem.status == 403 else UNAUTHENTICATED
        reason = problem.message
    except Exception:
        log.exception("the event stream of request %s met a bug", request_id(websocket.headers))
        code, reason = INTERNAL, "something went wrong here"
    await websocket.close(code, reason)
    # To return while the client closes too would have both write at once.
    await peer.read_to_the_end()
    return None


def _before_upgrade(services: Services, route: Route, websocket: Websocket) -> Principal | None:
    """The caller, or None where the token is to come as the first message."""
    origin = websocket.headers.get("Origin")
    if origin is not None and not services.origins.allow(origin):
        raise ForbiddenError("this origin may not open websockets here", code="forbidden_origin")
    token = websocket.args.get("access_token")
    if token is None and "Authorization" in websocket.headers:
        token = bearer(websocket.headers)
    return None if token is None else admit(services, route, token, {}, client_address(websocket))


async def _first_message(services: Services, route: Route, peer: Peer, address: str) -> Principal:
    with trio.move_on_after(FIRST_MESSAGE_SECONDS):
        return admit(services, route, _token(await peer.receive()), {}, address)
    raise UnauthenticatedError("no access token came")


def _token(message: str | bytes) -> str:
    try:
        token = orjson.loads(message)["auth"]
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
        token = None
    if not isinstance(token, str):
        raise UnauthenticatedError('the first message must be {"auth": "<access token>"}')
    return token


async def _serve(services: Services, route: Route, principal: Principal, peer: Peer) -> tuple[int, str]:
    """Until access ends: the close code and why. Raises PeerGoneError."""
    over: list[tuple[int, str]] = []
    grant = services.access.stay(principal, suspended=route.suspended)
    try:
        async with trio.open_nursery() as nursery:

            def end(code: int, reason: str) -> None:
                over.append((code, reason))
                nursery.cancel_scope.cancel()

            async def show() -> None:
                try:
                    await _show(services, principal, peer)
                except PeerGoneError:
                    nursery.cancel_scope.cancel()

            grant.on_end(end)
            nursery.start_soon(show)
            await peer.read_to_the_end()
            nursery.cancel_scope.cancel()
    finally:
        grant.release()
    if not over:
        raise PeerGoneError
    return over[0]


async def _show(services: Services, principal: Principal, peer: Peer) -> None:
    sight = services.access.sight(principal)
    async with services.fleet.changes(sight) as changes:
        # Follow first: a change between the snapshot and the following would be lost.
        with services.access.shared.hearing(principal.account_id, changes.share):
            await peer.send(b'{"event":"snapshot",' + services.fleet.servers_json(sight)[1:])
            async for vmids in changes:
                await peer.send(orjson.dumps(_delta(services, principal, vmids)))
                await trio.sleep(GATHER_SECONDS)


def _delta(services: Services, principal: Principal, vmids: set[int]) -> dict[str, Any]:
    servers, removed, shared = [], [], {}
    sight = services.access.sight(principal)
    for vmid in sorted(vmids):
        try:
            server = services.fleet.server(vmid).as_dict()
        except AbsentError:
            removed.append(str(vmid))
            continue
        if services.access.may_see(principal, vmid):
            servers.append(server)
            if vmid in sight.shared:
                shared[str(vmid)] = told(sight.shared[vmid])
        else:
            removed.append(str(vmid))
    delta = {"event": "delta", "servers": servers, "removed": removed}
    return delta | {"shared": shared} if shared else delta
