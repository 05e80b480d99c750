"""Websockets that are passed on: the handshake is relayed, then frames are moved without being opened.

The client's frames are counted and measured on the way, the upstream's only followed, so that a close frame of ours
can be put between two of them. Compression is the two sides' own affair where the route lets them agree on it: what
is compressed is moved as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import trio

from zlh.gateway.arrivals import Arrivals
from zlh.gateway.client import Client, State
from zlh.gateway.connection import GoneError, Interrupted, Reason
from zlh.gateway.refusals import Refusal
from zlh.gateway.relay import Exchange, Relay, StaleError, no_answer, read_answer, send_upstream
from zlh.gateway.upstream import Destination, Upstream
from zlh.model.console import EndCallback
from zlh.wire.frames import CloseCode, Opcode, Violation, close_payload, is_key, server_frame
from zlh.wire.http import RequestHead, ResponseHead, build_request, build_response, end_to_end
from zlh.wire.walker import FrameLimits, FrameWalker

_EXTENSIONS = frozenset((b"sec-websocket-extensions",))


def check_handshake(head: RequestHead) -> bytes:
    """The Sec-WebSocket-Key of a proper opening handshake (RFC 6455, 4.2.1). Raises Refusal 400 or 426."""
    if head.method != b"GET" or head.minor == 0 or head.length != 0:
        raise Refusal(400, "a websocket is opened with a plain GET of HTTP/1.1")
    if head.get(b"sec-websocket-version") != b"13":
        raise Refusal(426, "only websocket version 13 is spoken here")
    key = head.get(b"sec-websocket-key") or b""
    if not is_key(key):
        raise Refusal(400, "a malformed Sec-WebSocket-Key")
    return key


@dataclass(frozen=True, slots=True)
class SpliceRoute:
    """Where a websocket goes, and what its client may send there. `compression`: the two may agree on it.

    `opened` is called once the websocket is open, with what closes it: `end(code, reason)`.
    """

    destination: Destination
    frames: FrameLimits
    answer_seconds: float
    close_seconds: float
    compression: bool = False
    opened: Callable[[EndCallback], None] | None = None


async def relay_websocket(relay: Relay, exchange: Exchange, route: SpliceRoute) -> bool:
    """Opens it at the upstream and moves frames until one side closes; an answer other than 101 is passed on.

    Whether the client's connection can be used again. Raises as Relay.handle.
    """
    check_handshake(exchange.head)
    client = exchange.client
    fields = [field for field in exchange.fields if route.compression or field[0] not in _EXTENSIONS]
    fields += [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
    upstream = await relay.open(client, route.destination, fresh=True)
    try:
        try:
            await send_upstream(upstream, build_request(b"GET", exchange.head.target, fields))
            answer = await read_answer(upstream, route.answer_seconds, upgrading=True)
        except StaleError:
            raise no_answer() from None
        if client.interrupted is not None:
            # Its right to be here ended in the moment in which the answer came.
            raise Interrupted(client.interrupted)
        if answer.status != 101:
            return await relay.answer(exchange, upstream, answer)
        message, compressed = _switching(answer, exchange, route)
        await client.send(message)
        client.state = State.WEBSOCKET
        # From now on the client is read all the time, which shows that it went away.
        client.on_hangup = None
        await _Splice(client, upstream, route, relay.arrivals, compressed).run()
        return False
    finally:
        relay.close(client, upstream)


def _switching(answer: ResponseHead, exchange: Exchange, route: SpliceRoute) -> tuple[bytes, bool]:
    """The head for the client, and whether messages may be compressed from here on."""
    fields = end_to_end(answer.fields, answer.connection, frozenset((b"content-length", b"x-request-id")))
    agreed = [value for name, value in fields if name in _EXTENSIONS]
    offered = (
        b",".join(value for name, value in exchange.head.fields if name in _EXTENSIONS) if route.compression else b""
    )
    names = {each.partition(b";")[0].strip().lower() for each in b",".join(agreed).split(b",")} - {b""}
    if not names <= {b"permessage-deflate"} or (names and b"permessage-deflate" not in offered.lower()):
        raise Refusal(502, "the service negotiated an extension that was not offered")
    if exchange.rewrite is not None:
        fields = exchange.rewrite(fields)
    fields += [(b"connection", b"Upgrade"), (b"upgrade", b"websocket"), (b"x-request-id", exchange.request_id)]
    return build_response(101, fields), bool(names)


class _Splice:
    """One websocket between a client and its upstream. The outbound side alone writes to the client.

    As long as both take what they are given, bytes are passed on where they arrive (`_quick_in`, `_quick_out`); the
    tasks only see what is out of the ordinary.
    """

    def __init__(
        self, client: Client, upstream: Upstream, route: SpliceRoute, arrivals: Arrivals, compressed: bool
    ) -> None:
        self._client = client
        self._upstream = upstream
        self._arrivals = arrivals
        self._close_seconds = route.close_seconds
        self._opened = route.opened
        self._inbound = FrameWalker(masked=True, limits=route.frames, compressed=compressed)
        self._outbound = FrameWalker(masked=False, compressed=compressed)
        self._ending: Violation | None = None
        self._violated = False
        self._cut = False
        self._client_done = trio.Event()
        # What was followed already, and the other side did not take at once.
        self._rest_in = self._rest_out = b""
        self._client_gone: GoneError | None = None

    async def run(self) -> None:
        self._client.on_drain = partial(self._end, Violation(CloseCode.RESTART, "restarting"))
        if self._opened is not None:
            self._opened(lambda code, reason: self._end(Violation(code, reason)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pump_in)
            try:
                await self._pump_out()
                await self._say_goodbye()
            except (GoneError, Interrupted):
                pass
            nursery.cancel_scope.cancel()

    def _end(self, ending: Violation) -> None:
        """The outbound task stops at the end of the frame that it is in, and sends our close frame."""
        if self._ending is None:
            self._ending = ending
            # A client that does not read would not take our close frame either.
            self._client.finish_within(2 * self._close_seconds)
            self._upstream.finish_within(self._close_seconds)
            if self._outbound.between_frames:
                self._upstream.interrupt(Reason.ENDING)

    async def _pump_in(self) -> None:
        """Until the client is gone or has said its last word."""
        client = self._client
        try:
            while data := client.take() or await self._arrivals.pump(client, self._quick_in):
                if self._rest_in:
                    data, self._rest_in = self._rest_in, b""
                    await self._pass_in(data)
                elif self._may_pass_in(data):
                    await self._pass_in(data)
                elif self._inbound.closing and not self._violated:
                    break
        except (GoneError, Interrupted):
            pass
        client.interrupt(Reason.CLIENT_GONE)
        self._upstream.interrupt(Reason.CLIENT_GONE)
        self._client_done.set()

    def _quick_in(self, data: bytes) -> bool:
        """Whether nothing is left to be done with it."""
        if self._ending is not None and not self._violated:
            return False
        if not self._may_pass_in(data):
            return True
        try:
            sent = self._upstream.send_nowait(data)
        except GoneError:
            self._upstream.interrupt(Reason.ENDING)
            return True
        if sent == len(data):
            return True
        self._rest_in = data[sent:]
        return False

    def _may_pass_in(self, data: bytes) -> bool:
        """Follows it, unless nothing of this client is listened to any more."""
        if self._violated:
            return False
        problem = self._inbound.walk(data, trio.current_time() if self._inbound.limited else 0.0)
        if problem is not None:
            self._violated = True
            self._end(problem)
        return self._ending is None

    async def _pass_in(self, data: bytes) -> None:
        try:
            await self._upstream.send(data)
        except GoneError:
            self._upstream.interrupt(Reason.ENDING)
        except Interrupted as interruption:
            if interruption.reason is Reason.DEADLINE:
                self._end(Violation(CloseCode.POLICY, "the service does not read"))

    async def _pump_out(self) -> None:
        """Until the upstream ends, or until we end it. Raises GoneError or Interrupted about the client."""
        client, upstream = self._client, self._upstream
        while True:
            try:
                data = upstream.take() or await self._arrivals.pump(upstream, self._quick_out)
            except (GoneError, Interrupted):
                return
            if self._client_gone is not None:
                raise self._client_gone
            if not data:
                return
            if self._rest_out:
                data, self._rest_out = self._rest_out, b""
            else:
                ended = self._ending is not None
                self._outbound.walk(data, 0.0)
                if ended and self._outbound.boundary:
                    # What came after the frame that was under way is not for this client any more.
                    await client.send(data[: self._outbound.boundary])
                    self._cut = True
                    return
            await client.send(data)
            if self._ending is not None and self._outbound.between_frames:
                return

    def _quick_out(self, data: bytes) -> bool:
        """Whether nothing is left to be done with it."""
        if self._ending is not None:
            return False
        self._outbound.walk(data, 0.0)
        try:
            sent = self._client.send_nowait(data)
        except GoneError as error:
            self._client_gone = error
            return False
        if sent == len(data):
            return True
        self._rest_out = data[sent:]
        return False

    async def _say_goodbye(self) -> None:
        """Our close frame, where the upstream did not send one, and a moment for the client's answer to it."""
        client = self._client
        client.finish_within(2 * self._close_seconds)
        if not self._outbound.closing:
            if not (self._outbound.between_frames or self._cut):
                return
            ending = self._ending or Violation(CloseCode.INTERNAL, "the service ended the connection")
            await client.send(server_frame(Opcode.CLOSE, close_payload(ending.code, ending.reason)))
        if self._inbound.closing and not self._violated:
            return
        with trio.move_on_after(self._close_seconds):
            await self._client_done.wait()
