"""Relays one request and its answer: to the control plane now, to anything that speaks HTTP/1.1 as well.

Where it goes and whether the body is collected first or streamed through are the caller's choice (`Route`). Answers
are passed on as they come: nothing is buffered, and a client that does not read holds back the upstream.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Protocol

import trio

from zlh.gateway.arrivals import Arrivals
from zlh.gateway.client import BodyBudget, BodyReader, Client
from zlh.gateway.connection import GoneError, Interrupted, Reason
from zlh.gateway.pace import Pace
from zlh.gateway.pipes import WORTH_IT, Pipe, SourceError
from zlh.gateway.refusals import Refusal
from zlh.gateway.upstream import Destination, Pool, Upstream, UpstreamBusyError, UpstreamError
from zlh.wire.chunked import LAST_CHUNK, ChunkedDecoder, TooLargeError, chunk
from zlh.wire.http import (
    Fields,
    HeadError,
    RequestHead,
    ResponseHead,
    build_request,
    build_response,
    end_to_end,
    parse_response,
)

_OURS = frozenset((b"content-length", b"x-request-id"))
_BODYLESS = frozenset((b"GET", b"HEAD", b"DELETE", b"OPTIONS"))
_REPEATABLE = frozenset((b"GET", b"HEAD", b"OPTIONS"))
_PIECE = 256 * 1024

MOST_HEADS = 16
"""Of one answer: those before the last are informational (1xx)."""


class CutError(Exception):
    """The answer broke off after a part of it was passed on: the client can only be told by closing."""


@dataclass(frozen=True, slots=True)
class Route:
    """`collect` is the most bytes of a body that are read before the upstream hears of the request; None streams it.

    `answer_seconds` is the time until the answer's head; 0.0 for no limit.
    """

    destination: Destination
    collect: int | None
    answer_seconds: float


@dataclass(slots=True)
class Exchange:
    """A request on its way. `fields` are those for the upstream, without the ones that frame the body. `rewrite`
    makes of the answer's end-to-end fields those that the client gets."""

    client: Client
    head: RequestHead
    fields: Fields
    request_id: bytes
    rewrite: Callable[[Fields], Fields] | None = None


class Relay:
    """Sends requests to upstreams of one pool."""

    def __init__(self, pool: Pool, budget: BodyBudget) -> None:
        self._pool = pool
        self._budget = budget

    @property
    def pool(self) -> Pool:
        return self._pool

    @property
    def arrivals(self) -> Arrivals:
        return self._pool.arrivals

    async def handle(self, exchange: Exchange, route: Route) -> bool:
        """Relays it; whether the client's connection can be used again.

        Raises Refusal while nothing was answered yet, then CutError; GoneError and Interrupted about the client.
        """
        body = BodyReader(exchange.client, exchange.head, route.collect)
        if route.collect is None and not body.done:
            return await self._streamed(exchange, route, body)
        collected = await body.collect(self._budget)
        fields = exchange.fields
        if collected or exchange.head.method not in _BODYLESS:
            fields = [*fields, (b"content-length", b"%d" % len(collected))]
        message = build_request(exchange.head.method, exchange.head.target, fields) + collected
        try:
            return await self._ask(exchange, route, message, fresh=False)
        except StaleError:
            # An idle connection that the upstream was closing: it has not looked at the request.
            return await self._ask(exchange, route, message, fresh=True)

    async def _ask(self, exchange: Exchange, route: Route, message: bytes, *, fresh: bool) -> bool:
        upstream = await self.open(exchange.client, route.destination, fresh=fresh)
        return await self._hear(exchange, route, upstream, message)

    async def resume(self, exchange: Exchange, route: Route, upstream: Upstream) -> bool:
        """As `handle`, for a request without a body that was sent to `upstream` before."""
        try:
            self._bind(exchange.client, upstream)
            return await self._hear(exchange, route, upstream, b"")
        except StaleError:
            message = build_request(exchange.head.method, exchange.head.target, exchange.fields)
            return await self._ask(exchange, route, message, fresh=True)

    async def _hear(self, exchange: Exchange, route: Route, upstream: Upstream, message: bytes) -> bool:
        """`message` is empty where it was sent before."""
        try:
            try:
                if message:
                    await send_upstream(upstream, message)
                answer = await read_answer(upstream, route.answer_seconds)
            except StaleError:
                if upstream.reused and exchange.head.method in _REPEATABLE and not exchange.client.hung_up:
                    raise
                raise no_answer() from None
            keep = await self.answer(exchange, upstream, answer)
            upstream.reusable = answer.keeps_alive and _has_ended(exchange.head.method, answer)
            return keep
        finally:
            self.close(exchange.client, upstream)

    async def _streamed(self, exchange: Exchange, route: Route, body: BodyReader) -> bool:
        """The body goes on as it comes; the upstream may answer before its end, and then the rest is not wanted."""
        length = body.length
        framing = (b"transfer-encoding", b"chunked") if length is None else (b"content-length", b"%d" % length)
        message = build_request(exchange.head.method, exchange.head.target, [*exchange.fields, framing])
        upstream = await self.open(exchange.client, route.destination, fresh=True)
        try:
            answer = await send_streamed(upstream, message, body, route.answer_seconds)
            return await self.answer(exchange, upstream, answer, keep=body.done)
        finally:
            self.close(exchange.client, upstream)

    async def open(self, client: Client, destination: Destination, *, fresh: bool) -> Upstream:
        """A connection for one exchange, which ends when the client goes away, so that its handler is cancelled.

        Close it with `close`. Raises Refusal 502 or 503, and Interrupted where the client was.
        """
        try:
            upstream = await self._pool.take(destination, fresh=fresh)
        except UpstreamBusyError:
            raise Refusal(503, "too many requests at once", retry_after=1) from None
        except UpstreamError:
            raise Refusal(502, "the service cannot be reached", retry_after=1) from None
        if client.interrupted is not None:
            # Its right to be here ended while the connection was made.
            self._pool.drop(upstream)
            raise Interrupted(client.interrupted)
        self._bind(client, upstream)
        return upstream

    def _bind(self, client: Client, upstream: Upstream) -> None:
        client.on_hangup = partial(upstream.interrupt, Reason.CLIENT_GONE)
        if client.hung_up:
            client.on_hangup()

    def close(self, client: Client, upstream: Upstream) -> None:
        """Gives the connection back where it is `reusable`, else closes it."""
        client.on_hangup = client.on_drain = None
        if upstream.reusable:
            self._pool.give(upstream)
        else:
            self._pool.drop(upstream)

    async def answer(
        self, exchange: Exchange, upstream: Upstream, answer: ResponseHead, *, keep: bool = True
    ) -> bool:
        """Passes the answer on; whether the client's connection can be used again."""
        client, head = exchange.client, exchange.head
        fields = end_to_end(answer.fields, answer.connection, _OURS)
        if exchange.rewrite is not None:
            fields = exchange.rewrite(fields)
        fields.append((b"x-request-id", exchange.request_id))
        has_body = answer.has_body(head.method)
        chunks = False
        if answer.length is not None and answer.status != 204:
            fields.append((b"content-length", b"%d" % answer.length))
        elif has_body and head.minor:
            chunks = True
            fields.append((b"transfer-encoding", b"chunked"))
        keep = keep and not client.last and head.keeps_alive and (not has_body or chunks or answer.length is not None)
        if not keep:
            fields.append((b"connection", b"close"))
        elif not head.minor:
            fields.append((b"connection", b"keep-alive"))
        if (b"content-type", b"text/event-stream") in fields:
            client.on_drain = partial(upstream.interrupt, Reason.DRAIN)
        message = build_response(answer.status, fields)
        if not has_body:
            await client.send(message)
        elif answer.length is not None:
            await pass_counted(upstream, client, message, answer.length)
        else:
            await _pass_open(upstream, client, message, ChunkedDecoder() if answer.chunked else None, chunks)
        return keep


def _has_ended(method: bytes, answer: ResponseHead) -> bool:
    """Whether the upstream is done with an answer that was passed on, and can take the next request. What it gives to
    a HEAD without a length may be a stream, which its handler goes on writing for nobody."""
    if method == b"HEAD":
        return answer.length is not None
    return answer.chunked or answer.length is not None or not answer.has_body(method)


class StaleError(Exception):
    """The upstream closed before a byte of its answer came."""


def no_answer() -> Refusal:
    return Refusal(502, "the service closed the connection without an answer")


async def send_upstream(upstream: Upstream, message: bytes) -> None:
    """Raises StaleError, Refusal 504, or GoneError where the client went away."""
    try:
        await upstream.send(message)
    except GoneError:
        raise StaleError from None
    except Interrupted as interruption:
        raise _ended(interruption) from None


async def read_answer(upstream: Upstream, seconds: float, *, upgrading: bool = False) -> ResponseHead:
    """The head of the final answer; informational ones are passed over, but for 101. Raises as `send_upstream`."""
    upstream.deadline = trio.current_time() + seconds if seconds else inf
    for _ in range(MOST_HEADS):
        try:
            head = await upstream.read_head()
        except GoneError:
            raise StaleError from None
        except Interrupted as interruption:
            raise _ended(interruption) from None
        except HeadError as error:
            raise Refusal(502, f"the service gave a malformed answer: {error.message}") from None
        if head is None:
            raise StaleError
        try:
            answer = parse_response(head)
        except HeadError as error:
            raise Refusal(502, f"the service gave a malformed answer: {error.message}") from None
        if answer.status == 101 and not upgrading:
            raise Refusal(502, "the service switched protocols unasked")
        if answer.status >= 200 or answer.status == 101:
            upstream.deadline = inf
            return answer
    raise Refusal(502, "the service gave one informational answer after the other")


def _ended(interruption: Interrupted) -> Refusal | GoneError | Interrupted:
    if interruption.reason is Reason.DEADLINE:
        return Refusal(504, "the service did not answer in time", details={"mayTakeEffect": True})
    if interruption.reason is Reason.CLIENT_GONE:
        return GoneError("the client went away before its answer")
    return interruption


class Body(Protocol):
    """A body on its way. `length` is None where it is to be chunked."""

    @property
    def length(self) -> int | None: ...

    @property
    def pipes(self) -> bool:
        """Whether what is left can be taken by `fill`, and is worth it."""

    async def read(self) -> bytes:
        """Some bytes, or none at the end. Raises Refusal, GoneError, Interrupted."""

    async def fill(self, pipe: Pipe) -> int:
        """Puts more of it into an empty pipe; how many bytes, 0 at the end. Raises as `read`."""


async def send_streamed(upstream: Upstream, message: bytes, body: Body, answer_seconds: float) -> ResponseHead:
    """Sends a head and its body as it comes, and reads the answer's head, which may be there before the body's end:
    the rest is not wanted then. `answer_seconds` count from the body's end. Raises what the body does, Refusal 502
    and 504, GoneError."""
    failures: list[Exception] = []
    answer: ResponseHead | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_pump_body, upstream, message, body, answer_seconds, failures)
        try:
            answer = await read_answer(upstream, 0.0)
        except StaleError:
            failures.append(no_answer())
        except (Refusal, GoneError, Interrupted) as error:
            failures.append(error)
        nursery.cancel_scope.cancel()
    if answer is None:
        raise failures[0]
    return answer


async def _pump_body(
    upstream: Upstream, message: bytes, body: Body, answer_seconds: float, failures: list[Exception]
) -> None:
    """Sends head and body. What goes wrong with the client is left in `failures` and ends the wait for an answer; an
    upstream that stops reading says why in its answer, if at all."""
    chunked = body.length is None
    try:
        await upstream.send(message)
        try:
            while not body.pipes and (data := await body.read()):
                await _outward(upstream.send(chunk(data) if chunked else data))
            if body.pipes:
                await _pump_piped(upstream, body)
        except _AwayError:
            return
        except (Refusal, GoneError, Interrupted) as error:
            failures.append(error)
            upstream.interrupt(Reason.ENDING)
            return
        if chunked:
            await upstream.send(LAST_CHUNK)
    except (GoneError, Interrupted):
        return
    if answer_seconds:
        upstream.expires_in(answer_seconds)


async def _pump_piped(upstream: Upstream, body: Body) -> None:
    """The rest of a body, inside the kernel. Raises _AwayError, and what the body raises."""
    try:
        pipe = Pipe()
    except OSError:
        while data := await body.read():
            await _outward(upstream.send(data))
        return
    try:
        while await body.fill(pipe):
            await _outward(_drain(pipe, upstream))
    finally:
        pipe.close()


async def _drain(pipe: Pipe, upstream: Upstream) -> None:
    while pipe.waiting:
        if not pipe.drain(upstream):
            await upstream.taking()


class _AwayError(Exception):
    """The upstream takes no more of a body."""


async def _outward(sending: Awaitable[None]) -> None:
    """Tells what went wrong with the upstream from what went wrong with the client. Raises _AwayError."""
    try:
        await sending
    except (GoneError, Interrupted):
        raise _AwayError from None


async def _next(upstream: Upstream, limit: int) -> bytes:
    """More of the answer's body, empty at the upstream's end. Raises CutError, GoneError (the client's)."""
    if upstream.buffer:
        return upstream.take(limit)
    try:
        return await upstream.recv(min(limit, _PIECE))
    except GoneError as error:
        raise CutError(str(error)) from None
    except Interrupted as interruption:
        raise _broken_off(interruption) from None


async def _readable(upstream: Upstream) -> None:
    """Waits for more of the answer's body. Raises CutError, GoneError (the client's)."""
    try:
        await upstream.readable()
    except Interrupted as interruption:
        raise _broken_off(interruption) from None


def _broken_off(interruption: Interrupted) -> CutError | GoneError:
    if interruption.reason is Reason.CLIENT_GONE:
        return GoneError("the client went away in the middle of its answer")
    return CutError(interruption.reason)


async def pass_counted(upstream: Upstream, client: Client, message: bytes, left: int) -> None:
    """Passes a head on, and the `left` bytes of its body. Raises CutError, GoneError, Interrupted."""
    if upstream.buffer:
        data = upstream.take(left)
        left -= len(data)
        message += data
    await client.send(message)
    if left >= WORTH_IT and not upstream.buffer and await _pass_piped(upstream, client, left):
        return
    while left:
        data = await _next(upstream, left)
        if not data:
            raise CutError("the service closed the connection in the middle of its answer")
        left -= len(data)
        await client.send(data)


async def _pass_piped(upstream: Upstream, client: Client, left: int) -> bool:
    """False, and nothing is done, where there is no pipe to be had."""
    try:
        pipe = Pipe()
    except OSError:
        return False
    try:
        while left or pipe.waiting:
            if not pipe.waiting:
                await _readable(upstream)
            if left:
                left -= pipe.fill(upstream, left)
            if pipe.waiting and not pipe.drain(client):
                await client.taking()
    except SourceError as error:
        raise CutError(str(error)) from None
    finally:
        pipe.close()
    return True


async def _pass_open(
    upstream: Upstream, client: Client, message: bytes, decoder: ChunkedDecoder | None, chunks: bool
) -> None:
    """A body of unknown length. Its end is the last chunk where there are chunks, else the upstream's close."""
    pace = Pace(_PIECE)
    while True:
        if message and not upstream.buffer:
            await client.send(message)
            message = b""
        data = await _next(upstream, _PIECE if decoder is None else pace.size)
        if not data:
            if decoder is not None:
                raise CutError("the service closed the connection in the middle of its answer")
            break
        if decoder is not None:
            data = _decode(decoder, data)
        out = message + (chunk(data) if chunks else data)
        message = b""
        if decoder is not None and decoder.done:
            upstream.buffer = decoder.rest + upstream.buffer
            await client.send(out + LAST_CHUNK if chunks else out)
            return
        await client.send(out)
        if decoder is not None:
            await pace.rest(decoder.lines)
    await client.send(message + LAST_CHUNK if chunks else message)


def _decode(decoder: ChunkedDecoder, data: bytes) -> bytes:
    try:
        return decoder.feed(data)
    except (HeadError, TooLargeError) as error:
        raise CutError(f"the service gave a malformed body: {error}") from None
