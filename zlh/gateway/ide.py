"""Hosted IDEs and forwarded ports: people are let in, and their requests and websockets moved to the container."""

from __future__ import annotations

import re
from dataclasses import replace

import trio

from zlh.gateway.client import BodyReader, Client
from zlh.gateway.connection import GoneError, Interrupted
from zlh.gateway.doors import Arrival, Tools
from zlh.gateway.express import Asked, cut_off
from zlh.gateway.forwarded import client_address
from zlh.gateway.ide_fields import answer_fields, own_origin, refuse_foreign, upstream_fields
from zlh.gateway.ide_pages import PageWriter
from zlh.gateway.refusals import Refusal
from zlh.gateway.relay import CutError, Exchange, Route
from zlh.gateway.splice import SpliceRoute, relay_websocket
from zlh.gateway.upstream import TcpDestination
from zlh.ide import Admitted, Condition, House, Place, Visit, pass_cookie, pass_name, take_pass
from zlh.ide.pages import START_PATH
from zlh.model.accounts import Principal
from zlh.model.activity import Use
from zlh.model.console import EndCallback
from zlh.model.console import Visit as Caller
from zlh.model.errors import ProblemError, UnauthenticatedError
from zlh.store import StoreUnavailable
from zlh.wire.frames import CloseCode
from zlh.wire.http import Fields, RequestHead, build_response
from zlh.wire.walker import UNLIMITED

# A token of ours is a JWT with such a signature; a program in a container may have `token` in its addresses, too.
_TOKEN = re.compile(rb"token=([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86})")
_MOST_OF_A_FORM = 4096
_TOLD_BY_PAGES = (401, 403, 404, 409, 501, 502, 503, 504)


class IdeDoor:
    """Every request is admitted from memory, every websocket ends with the right to it."""

    def __init__(self, tools: Tools, house: House) -> None:
        self._tools = tools
        self._house = house
        self._pages = PageWriter(house)
        tools.watch.on_tick(house.presence.tick)

    def wants(self, head: RequestHead) -> bool:
        return self._house.names.place(head.host, head.path) is not None

    async def enter(self, arrival: Arrival) -> bool:
        place = self._house.names.place(arrival.head.host, arrival.head.path)
        assert place is not None
        principal: Principal | None = None
        try:
            redirect = await self._redirect(arrival, place)
            if redirect is not None:
                return await self._send(arrival, redirect)
            admitted, fields = await self._admit(arrival.head, place)
            principal = admitted.principal
            if arrival.head.path == place.prefix + START_PATH:
                return await self._start(arrival, place, admitted)
            return await self._pass_on(arrival, place, admitted, fields)
        except StoreUnavailable:
            raise Refusal(503, "sign-ins cannot be checked at the moment", retry_after=2) from None
        except ProblemError as problem:
            return await self._refused(arrival, place, principal, Refusal.of(problem))
        except Refusal as refusal:
            return await self._refused(arrival, place, principal, refusal)

    async def resume(self, client: Client, head: RequestHead, asked: Asked) -> bool:
        """As `enter`, for what was admitted and asked on the fast lane, and whose answer belongs here."""
        house, regular = self._house, asked.regular
        place, principal = regular.place, regular.principal
        address = client_address(head, client.address, client.trusted, self._tools.proxies)
        arrival = Arrival(client, head, asked.request_id, address)
        _, fields = take_pass(head.fields, pass_name(place, secure=house.secure))
        destination = asked.upstream.destination
        assert isinstance(destination, TcpDestination)
        exchange = self._exchange(arrival, place, Admitted(principal), fields, destination)
        route = Route(destination, None, self._tools.limits.answer_seconds)
        try:
            return await self._tools.relay.resume(exchange, route, asked.upstream)
        except Refusal as refusal:
            return await self._refused(arrival, place, principal, refusal)
        finally:
            regular.finish(asked.cut)

    async def _redirect(self, arrival: Arrival, place: Place) -> Fields | None:
        """Where a browser is sent before anything else: to the address without its token, which is spent by that, or
        to the one with its closing slash."""
        head = arrival.head
        parts = head.query.split(b"&")
        ours = [part for part in parts if self._is_token(part)]
        offered = [part.partition(b"=")[2] for part in ours]
        if head.upgrade or head.method not in (b"GET", b"HEAD"):
            return None
        if not offered and place.inside(head.path):
            return None
        if head.path[1:2] == b"\\":
            # Browsers take that for a second slash, and what follows for a host.
            raise Refusal(400, "a target that is not a path")
        rest = b"&".join(part for part in parts if part not in ours)
        path = head.path if place.inside(head.path) else place.prefix + b"/"
        fields: Fields = [(b"location", path + (b"?" + rest if rest else b""))]
        if not offered:
            return fields
        if head.method == b"HEAD":
            raise Refusal(405, "a token is redeemed by opening its address", code="method_not_allowed")
        fields += await self._redeem(head, place, offered[0].decode())
        return fields

    def _is_token(self, part: bytes) -> bool:
        """Whether this part of a query is a token of ours. Those of programs may have signatures of that length, too
        (ES256)."""
        match = _TOKEN.fullmatch(part)
        return match is not None and self._house.gatekeeper.issued(match[1].decode())

    async def _redeem(self, head: RequestHead, place: Place, token: str) -> Fields:
        """The cookie that the token becomes. A browser that is in already needs none: an address may be opened
        twice."""
        house = self._house
        try:
            given = await house.gatekeeper.redeem(token, place)
        except UnauthenticatedError:
            try:
                await self._admit(head, place)
            except ProblemError:
                pass
            else:
                return []
            raise
        return [self._cookie(place, given)]

    async def _admit(self, head: RequestHead, place: Place) -> tuple[Admitted, Fields]:
        """Who comes, and the request's fields without our cookies."""
        offered, fields = take_pass(head.fields, pass_name(place, secure=self._house.secure))
        admitted = await self._house.gatekeeper.admit(place, offered)
        if admitted.principal is not None:
            refuse_foreign(head, secure=self._house.secure)
        return admitted, fields

    async def _pass_on(self, arrival: Arrival, place: Place, admitted: Admitted, fields: Fields) -> bool:
        """Whether the client's connection can be used again."""
        house, client, head = self._house, arrival.client, arrival.head
        condition = house.condition(place.vmid)
        if condition is not Condition.OPEN:
            raise Refusal(503, "the container cannot be reached at the moment", retry_after=2)
        host, port = house.address(place)
        destination = TcpDestination(host, port, group=place.vmid)
        exchange = self._exchange(arrival, place, admitted, fields, destination)
        visit = house.join(place, admitted)
        try:
            # Also while a websocket is being opened; once it is, it ends in its own way.
            visit.on_end(lambda code, reason: cut_off(client))
            if head.upgrade == b"websocket":
                return await self._websocket(exchange, destination, visit)
            house.activity.touched(place.vmid, Use.IDE)
            limits = self._tools.limits
            client.at_program = True
            kept = await self._tools.relay.handle(exchange, Route(destination, None, limits.answer_seconds))
            if not kept and head.length != 0:
                # An early answer is lost where the rest of the request meets a closed socket.
                await client.linger(limits.linger_seconds)
            return kept
        finally:
            visit.leave()

    def _exchange(
        self, arrival: Arrival, place: Place, admitted: Admitted, fields: Fields, destination: TcpDestination
    ) -> Exchange:
        client, head = arrival.client, arrival.head
        inside = place.inside(head.target)
        if not inside.startswith(b"/") or inside.startswith(b"//"):
            raise Refusal(400, "a target that is not a path")
        own = (head.host.lower(), b"%b:%d" % (destination.host.encode(), destination.port))
        cookies = [self._cookie(place, admitted.renewed)] if admitted.renewed is not None else []
        return Exchange(
            client,
            replace(head, target=inside) if place.prefix else head,
            [
                *upstream_fields(self._house, place, client, head, fields, self._tools.proxies),
                (b"x-request-id", arrival.request_id),
            ],
            arrival.request_id,
            lambda given: answer_fields(given, place, own) + cookies,
        )

    async def _websocket(self, exchange: Exchange, destination: TcpDestination, visit: Visit) -> bool:
        house, limits, vmid = self._house, self._tools.limits, visit.place.vmid
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:

            def opened(end: EndCallback) -> None:
                visit.on_end(end)
                if visit.principal is not None:
                    nursery.start_soon(self._vouch, visit, visit.principal)

            route = SpliceRoute(
                destination, UNLIMITED, limits.answer_seconds, limits.close_seconds, compression=True, opened=opened
            )
            house.activity.opened(vmid, Use.IDE)
            try:
                kept = await relay_websocket(self._tools.relay, exchange, route)
            except (Refusal, CutError, GoneError, Interrupted) as error:
                # Not out of the nursery, which would make a group of it.
                failure = error
            finally:
                house.activity.closed(vmid, Use.IDE)
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return kept

    async def _vouch(self, visit: Visit, principal: Principal) -> None:
        """For as long as a websocket is open: its session may end without anybody saying so."""
        passes = self._house.gatekeeper.passes
        while True:
            await trio.sleep(passes.vouched_seconds)
            try:
                await passes.vouch(principal)
            except UnauthenticatedError as error:
                visit.end(CloseCode.UNAUTHENTICATED, error.message)
                return
            except StoreUnavailable:
                continue

    async def _start(self, arrival: Arrival, place: Place, admitted: Admitted) -> bool:
        """The button of a page."""
        head, principal = arrival.head, admitted.principal
        if head.method in (b"GET", b"HEAD"):
            # A page that stands here because the start failed was loaded again.
            return await self._send(arrival, [(b"location", place.prefix + b"/")])
        if head.method != b"POST" or principal is None:
            raise Refusal(405, "this address is for the button of a page", code="method_not_allowed")
        if head.get(b"origin") is None and head.get(b"sec-fetch-site") != b"same-origin":
            raise Refusal(403, "only a page of this place may start it", code="forbidden_origin")
        body = BodyReader(arrival.client, head, _MOST_OF_A_FORM)
        while await body.read():
            pass
        agent = (head.get(b"user-agent") or b"").decode("latin1")
        request_id = arrival.request_id.decode("latin1")
        await self._house.start(principal, Caller(place.vmid, arrival.address, agent, request_id))
        return await self._send(arrival, [(b"location", self._back(head, place))])

    def _back(self, head: RequestHead, place: Place) -> bytes:
        """Where the button was: the page that was asked for in the first place."""
        came_from = head.get(b"referer") or b""
        origin = own_origin(head, secure=self._house.secure)
        path = came_from[len(origin) :] if came_from.startswith(origin + b"/") else b""
        inside = path.startswith(place.prefix + b"/") and path[1:2] not in (b"/", b"\\")
        return path if inside else place.prefix + b"/"

    async def _refused(self, arrival: Arrival, place: Place, principal: Principal | None, refusal: Refusal) -> bool:
        """A page for people, the envelope for everything else."""
        if refusal.status in _TOLD_BY_PAGES:
            kept = await self._pages.write(arrival, place, principal, refusal)
            if kept is not None:
                return kept
        raise refusal

    def _cookie(self, place: Place, value: str) -> tuple[bytes, bytes]:
        seconds = self._house.gatekeeper.passes.seconds
        return b"set-cookie", pass_cookie(place, value, seconds, secure=self._house.secure)

    async def _send(self, arrival: Arrival, fields: Fields) -> bool:
        """A redirect."""
        keep = not arrival.client.last and arrival.head.keeps_alive
        fields += [
            (b"content-length", b"0"),
            (b"cache-control", b"no-store"),
            (b"referrer-policy", b"no-referrer"),
            (b"x-request-id", arrival.request_id),
        ]
        if not keep:
            fields.append((b"connection", b"close"))
        elif not arrival.head.minor:
            fields.append((b"connection", b"keep-alive"))
        await arrival.client.send(build_response(303, fields))
        return keep
