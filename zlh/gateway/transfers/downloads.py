"""Downloads: an agent's bytes, passed on as they come."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from math import inf
from typing import TypeVar
from urllib.parse import quote

from zlh.gateway.connection import GoneError, Interrupted, Reason
from zlh.gateway.limits import Limits
from zlh.gateway.pace import Pace
from zlh.gateway.pipes import WORTH_IT, Pipe, SourceError
from zlh.gateway.refusals import Refusal
from zlh.gateway.relay import CutError
from zlh.gateway.transfers.agent import Agent, Reply, unreachable
from zlh.gateway.transfers.transfer import Transfer
from zlh.gateway.upstream import Upstream
from zlh.model.agent_calls import AgentPlace, Feature
from zlh.wire.chunked import LAST_CHUNK, ChunkedDecoder, TooLargeError, chunk
from zlh.wire.http import Fields, HeadError

T = TypeVar("T")

PIECE = 256 * 1024
_ASKED = frozenset(
    (b"if-match", b"if-modified-since", b"if-none-match", b"if-range", b"if-unmodified-since", b"range")
)
_CONDITIONS = frozenset((b"if-modified-since", b"if-none-match"))
_TOLD = frozenset((b"accept-ranges", b"content-range", b"content-type", b"etag", b"last-modified"))
_TOLD_OF_THE_SAME = frozenset((b"etag", b"last-modified"))
_PLAIN = re.compile(r"[^A-Za-z0-9._ -]")
_PASSED = (200, 206, 304)


async def download(
    transfer: Transfer, agent: Agent, place: AgentPlace, path: str, query: dict[str, str], name: str, feature: Feature
) -> bool:
    """Passes on what the agent has there, as a file called `name`; whether the connection can be used again.

    A HEAD is asked as a GET whose body nobody reads: not every agent knows HEAD. Raises Refusal, CutError, GoneError.
    """
    asked = [field for field in transfer.head.fields if field[0] in _ASKED]
    async with agent.ask(place, b"GET", path, query, asked) as reply:
        if reply.head.status == 416:
            return await _unsatisfiable(transfer, reply)
        if reply.head.status not in _PASSED:
            raise await agent.refusal(reply, place, feature, about=True)
        if not _asked_for(reply.head.status, asked):
            raise Refusal(502, "the agent answered what was not asked", code="agent_unreachable")
        if (reply.field(b"content-encoding") or b"identity").lower() != b"identity":
            raise Refusal(502, "the agent's answer was not understood: it is compressed", code="agent_unreachable")
        return await _pass_on(transfer, reply, name)


def _asked_for(status: int, asked: Fields) -> bool:
    """Nobody takes a part for the whole file, or keeps an old one, who did not say that they can."""
    names = {name for name, _ in asked}
    return {206: b"range" in names, 304: not names.isdisjoint(_CONDITIONS)}.get(status, True)


async def _pass_on(transfer: Transfer, reply: Reply, name: str) -> bool:
    client, method = transfer.arrival.client, transfer.head.method
    status, known = reply.head.status, reply.head.length
    body = reply.head.has_body(method)
    length = known if known is not None or reply.head.has_body(b"GET") else 0
    chunks = body and length is None and transfer.head.minor == 1
    message, keep = transfer.head_of(status, _fields(reply, name), length=length, keep=True)
    if not body:
        transfer.status = status
        await client.send(message)
        return keep
    async with aclosing(_pieces(reply, transfer.tools.limits)) as pieces:
        try:
            first = await anext(pieces, b"")
        except CutError as error:
            raise unreachable(str(error), changes=False) from None
        transfer.status = status
        await _send(transfer, message, first, chunks)
        left = 0 if length is None else length - len(first)
        if left < WORTH_IT or reply.upstream.buffer or not await _piped(transfer, reply, left):
            async for piece in pieces:
                await _send(transfer, b"", piece, chunks)
    if chunks:
        await client.send(LAST_CHUNK)
    return keep


async def _send(transfer: Transfer, message: bytes, piece: bytes, chunks: bool) -> None:
    """A piece of the body, behind the answer's head where that is given."""
    framed = chunk(piece) if chunks else piece
    await transfer.arrival.client.send(message + framed if message else framed)
    transfer.moved += len(piece)


async def _piped(transfer: Transfer, reply: Reply, left: int) -> bool:
    """Moves the rest inside the kernel. False, and nothing is done, where there is no pipe to be had."""
    upstream, client, limits = reply.upstream, transfer.arrival.client, transfer.tools.limits
    try:
        pipe = Pipe()
    except OSError:
        return False
    try:
        while left:
            await _arrival(upstream, upstream.readable(), limits)
            taken = pipe.fill(upstream, left)
            left -= taken
            transfer.moved += taken
            while pipe.waiting:
                if not pipe.drain(client):
                    await client.taking()
    except SourceError as error:
        raise CutError(f"the agent: {error}") from None
    finally:
        pipe.close()
    return True


async def _arrival(upstream: Upstream, waiting: Awaitable[T], limits: Limits) -> T:
    """What is waited for. The agent's time only counts: how fast the client reads is not its fault. Raises CutError,
    and GoneError where the client went away."""
    upstream.expires_in(limits.stall_seconds)
    try:
        arrived = await waiting
    except GoneError as error:
        raise CutError(str(error)) from None
    except Interrupted as interruption:
        if interruption.reason is Reason.CLIENT_GONE:
            raise GoneError("the client went away in the middle of a download") from None
        raise CutError(f"the agent: {interruption.reason}") from None
    upstream.deadline = inf
    return arrived


async def _pieces(reply: Reply, limits: Limits) -> AsyncGenerator[bytes, None]:
    """The body. Raises CutError where it breaks off or stalls, GoneError where the client went away."""
    upstream, left = reply.upstream, reply.head.length
    decoder = ChunkedDecoder() if reply.head.chunked else None
    pace = Pace(PIECE)
    while left is None or left:
        size = PIECE if decoder is None else pace.size
        data = upstream.take(size)
        if not data:
            data = await _arrival(upstream, upstream.recv(size), limits)
        if not data:
            if left is None and decoder is None:
                return
            raise CutError("the agent closed the connection in the middle of its answer")
        if decoder is not None:
            try:
                data = decoder.feed(data)
            except (HeadError, TooLargeError) as error:
                raise CutError(f"the agent gave a malformed body: {error}") from None
        elif left is not None:
            # What comes beyond the length is not asked for; the connection is closed with it.
            data = data[:left]
            left -= len(data)
        if data:
            yield data
        if decoder is not None:
            if decoder.done:
                return
            await pace.rest(decoder.lines)


def _fields(reply: Reply, name: str) -> Fields:
    """What the client is told: nothing of the agent's own that a browser would act on."""
    # What a cache is told with 304 takes the place of what it knows of the file.
    told = _TOLD if reply.head.status != 304 else _TOLD_OF_THE_SAME
    fields = [field for field in reply.head.fields if field[0] in told]
    if reply.head.status != 304:
        fields.append((b"content-disposition", disposition(name)))
    return [
        *fields,
        (b"cache-control", b"private, no-cache"),
        # A page that it holds runs nothing here, whatever opens it.
        (b"content-security-policy", b"sandbox"),
    ]


def disposition(name: str) -> bytes:
    """`attachment` with that file name, for old clients in letters that all of them read (RFC 6266)."""
    plain = _PLAIN.sub("_", name) or "file"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}".encode("ascii")


async def _unsatisfiable(transfer: Transfer, reply: Reply) -> bool:
    """416, with the size that the agent tells."""
    size = reply.field(b"content-range")
    refusal = Refusal(416, "there is nothing at that range", code="range_not_satisfiable")
    extra: Fields = [] if size is None else [(b"content-range", size)]
    whole = refusal.answer(transfer.arrival.request_id, [*extra, *transfer.cors()], prebuilt=transfer.tools.safety)
    transfer.tools.counters.refusals[refusal.code] += 1
    transfer.status = refusal.status
    await transfer.arrival.client.send(whole)
    return False
