"""The gateway: the one place where requests come in, are judged, and go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import trio

from zlh.gateway.client import BodyBudget, Client, State
from zlh.gateway.connection import GoneError, Reason
from zlh.gateway.console import ConsoleDoor
from zlh.gateway.doors import Arrival, Door, Tools
from zlh.gateway.express import Asked, Express
from zlh.gateway.forwarded import SPOOFABLE, TrustedProxies, client_address, forwarded_fields
from zlh.gateway.ide import IdeDoor
from zlh.gateway.limits import Limits
from zlh.gateway.listener import Listener, open_listener
from zlh.gateway.reads import Reads, answer_from_memory
from zlh.gateway.refusals import Refusal, request_id_of
from zlh.gateway.relay import CutError, Exchange, Relay, Route
from zlh.gateway.splice import SpliceRoute, relay_websocket
from zlh.gateway.stats import Counters, Stats
from zlh.gateway.transfers import TransfersDoor
from zlh.gateway.upstream import Pool, UnixDestination
from zlh.gateway.watch import Watch
from zlh.ide import House
from zlh.model.console import Consoles, Doorkeeper, Guestbook
from zlh.model.transfers import Depot
from zlh.wire.browsers import SAFETY, cors_fields
from zlh.wire.http import HEAD_END, Fields, HeadError, RequestHead, build_fields, end_to_end, parse_request


class Address(NamedTuple):
    host: str
    port: int


class Gateway:
    """Made by `serve`. `address` is where it listens."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        upstream_socket: str,
        doorkeeper: Doorkeeper,
        consoles: Consoles,
        trusted_proxies: Iterable[str],
        origin_allowed: Callable[[str], bool],
        reads: Reads | None,
        guestbook: Guestbook | None,
        depot: Depot | None,
        house: House | None,
        safety: Fields,
        limits: Limits,
    ) -> None:
        self._limits = limits
        self._safety = build_fields(safety)
        self._reads = reads
        self._proxies = TrustedProxies(trusted_proxies)
        self._origin_allowed = origin_allowed
        self._counters = Counters()
        self._watch = Watch()
        self._pool = Pool(limits, self._watch)
        self._relay = Relay(self._pool, BodyBudget(limits.bodies))
        self._tools = Tools(
            relay=self._relay,
            watch=self._watch,
            counters=self._counters,
            limits=limits,
            proxies=self._proxies,
            safety=self._safety,
            origin_allowed=origin_allowed,
        )
        # By host first: on the host of an IDE every path is the IDE's.
        self._ide = None if house is None else IdeDoor(self._tools, house)
        ides = () if self._ide is None else (self._ide,)
        self._house = house
        self._transfers = None if depot is None else TransfersDoor(self._tools, doorkeeper, depot)
        moves = () if self._transfers is None else (self._transfers,)
        consoles_door = ConsoleDoor(self._tools, doorkeeper, consoles, guestbook)
        self._doors: tuple[Door, ...] = (*ides, consoles_door, *moves)
        destination = UnixDestination(upstream_socket)
        self._route = Route(destination, limits.body, limits.answer_seconds)
        self._splice_route = SpliceRoute(destination, limits.websocket, limits.answer_seconds, limits.close_seconds)
        sock = open_listener(host, port, limits.backlog)
        self.address = Address(*sock.getsockname()[:2])
        self._listener = Listener(
            sock,
            self._converse,
            limits=limits,
            proxies=self._proxies,
            watch=self._watch,
            counters=self._counters,
            safety=self._safety,
        )
        self._express = None if house is None else Express(self._tools, house, self._listener)
        self._draining = False
        self._drained = trio.Event()

    async def run(self) -> None:
        """Until cancelled, or until a drain is complete."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch.run)
                nursery.start_soon(self._listener.run)
                await self._drained.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._listener.stop()
            self._pool.close()
            self._watch.close()

    async def drain(self, within: float = 5.0) -> None:
        """Accepts no more; answers new requests on open connections with 503; closes websockets with 1012 and event
        streams; waits at most `within` seconds for what is in flight, then closes everything. `run` then returns."""
        self._draining = True
        self._listener.stop()
        with trio.move_on_after(within):
            told: set[Client] = set()
            for client in self._listener.clients:
                client.last = True
            while any(client.state in (State.BUSY, State.WEBSOCKET) for client in self._listener.clients):
                for client in self._listener.clients - told:
                    if client.on_drain is not None:
                        told.add(client)
                        client.on_drain()
                await trio.sleep(0.02)
        for client in tuple(self._listener.clients):
            client.interrupt(Reason.DRAIN)
        self._drained.set()

    def stats(self) -> Stats:
        states = [client.state for client in self._listener.clients]
        counted = self._counters
        return Stats(
            connections=len(states),
            half_open=states.count(State.HALF_OPEN),
            idle=states.count(State.IDLE),
            websockets=states.count(State.WEBSOCKET),
            upstream_connections=self._pool.open_count,
            transfers=0 if self._transfers is None else self._transfers.under_way,
            ide_visits=0 if self._house is None else len(self._house.presence),
            accepted=counted.accepted,
            requests=counted.requests,
            disconnects=counted.disconnects,
            shed=counted.shed,
            crashes=counted.crashes,
            bytes_in=counted.bytes_in,
            bytes_out=counted.bytes_out,
            lines_dropped=counted.lines_dropped,
            refusals=dict(counted.refusals),
        )

    async def _converse(self, client: Client) -> None:
        """One request after the other. Raises GoneError, Interrupted, and bugs."""
        while True:
            head: RequestHead | None = None
            try:
                asked = await self._express.serve(client) if self._express is not None else None
                raw = await client.next_head() if asked is None else asked.raw
                self._listener.busy(client)
                if raw is None:
                    return
                client.state = State.BUSY
                self._counters.requests += 1
                head = parse_request(raw)
                if not await self._handle(client, head, asked):
                    return
            except HeadError as error:
                await self._refuse(client, head, Refusal(error.status, f"malformed request: {error.message}"))
                return
            except Refusal as refusal:
                await self._refuse(client, head, refusal)
                return
            except CutError:
                self._counters.refusals["cut"] += 1
                return
            client.state = State.IDLE
            self._listener.idle(client)

    async def _handle(self, client: Client, head: RequestHead, asked: Asked | None) -> bool:
        """Whether the connection can be used again. Raises Refusal, CutError, GoneError, Interrupted."""
        if asked is not None and self._ide is not None:
            return await self._ide.resume(client, head, asked)
        if self._draining:
            raise Refusal(503, "the service is restarting", code="draining", retry_after=1)
        for door in self._doors:
            if door.wants(head):
                address = client_address(head, client.address, client.trusted, self._proxies)
                return await door.enter(Arrival(client, head, request_id_of(head), address))
        wants_websocket = head.upgrade == b"websocket"
        if wants_websocket:
            self._tools.check_origin(head)
        elif self._reads is not None:
            keep = await answer_from_memory(
                self._reads, client, head, request_id_of(head), self._proxies, self._safety
            )
            if keep is not None:
                return keep
        exchange = self._exchange(client, head)
        if wants_websocket:
            return await relay_websocket(self._relay, exchange, self._splice_route)
        return await self._relay.handle(exchange, self._route)

    def _exchange(self, client: Client, head: RequestHead) -> Exchange:
        request_id = request_id_of(head)
        fields = end_to_end(head.fields, head.connection, _NOT_FORWARDED)
        fields += forwarded_fields(head, client.address, client.trusted, self._proxies)
        fields.append((b"x-request-id", request_id))
        if not head.host:
            fields.append((b"host", b"localhost"))
        return Exchange(client, head, fields, request_id)

    async def _refuse(self, client: Client, head: RequestHead | None, refusal: Refusal) -> None:
        """Answers, and gives the client a moment to read that."""
        self._counters.refusals[refusal.code] += 1
        client.state = State.LINGERING
        client.on_hangup = client.on_drain = None
        answer = refusal.answer(request_id_of(head), self._cors(head), prebuilt=self._safety)
        if head is not None and head.method == b"HEAD":
            answer = answer[: answer.index(HEAD_END) + len(HEAD_END)]
        try:
            client.send_nowait(answer)
        except GoneError:
            return
        if client.interrupted is None:
            self._listener.idle(client)
            await client.linger(self._limits.linger_seconds)

    def _cors(self, head: RequestHead | None) -> Fields:
        """Without these a page of another origin sees a network error instead of the refusal."""
        origin = head.get(b"origin") if head is not None else None
        if origin is None or not self._origin_allowed(origin.decode("latin1")):
            return []
        return cors_fields(origin)


_NOT_FORWARDED = SPOOFABLE | {b"content-length", b"expect"}


async def serve(
    host: str,
    port: int,
    *,
    upstream_socket: str,
    doorkeeper: Doorkeeper,
    consoles: Consoles,
    trusted_proxies: Iterable[str] = (),
    origin_allowed: Callable[[str], bool] = lambda origin: False,
    reads: Reads | None = None,
    guestbook: Guestbook | None = None,
    depot: Depot | None = None,
    house: House | None = None,
    safety: Fields | None = None,
    limits: Limits | None = None,
    task_status: trio.TaskStatus[Gateway] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listens on `host`:`port` (0 picks one) until cancelled or drained; reports the Gateway once it is listening.

    `upstream_socket` is the path of the control plane's unix socket. `origin_allowed` judges the Origin of
    websockets; clients that send none are no browsers. What `reads` can answer is not relayed, `house` lets people
    through to IDEs and forwarded ports (None: there are none), `guestbook` hears who types into consoles, `depot` is
    where files come from and go to. `safety` are the fields that every answer of the gateway's own carries (None:
    those of `zlh.wire.browsers`). Raises OSError where it cannot listen, ValueError for malformed proxies.
    """
    gateway = Gateway(
        host,
        port,
        upstream_socket=upstream_socket,
        doorkeeper=doorkeeper,
        consoles=consoles,
        trusted_proxies=trusted_proxies,
        origin_allowed=origin_allowed,
        reads=reads,
        guestbook=guestbook,
        depot=depot,
        house=house,
        safety=list(SAFETY) if safety is None else safety,
        limits=limits or Limits(),
    )
    task_status.started(gateway)
    await gateway.run()
