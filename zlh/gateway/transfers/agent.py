"""One request to an agent, whose bytes the gateway moves itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from math import inf
from urllib.parse import quote, urlencode

from zlh.drivers.agent import parse_refusal
from zlh.gateway.client import Client
from zlh.gateway.connection import GoneError, Interrupted
from zlh.gateway.doors import Tools
from zlh.gateway.refusals import Refusal
from zlh.gateway.relay import Body, StaleError, read_answer, send_streamed, send_upstream
from zlh.gateway.upstream import TcpDestination, Upstream
from zlh.model.agent_calls import AgentPlace, Agents, Feature
from zlh.wire.chunked import ChunkedDecoder, TooLargeError
from zlh.wire.http import Fields, HeadError, ResponseHead, build_request

LACKING = (404, 405, 501)
_PROBES = {Feature.BACKUPS: "/backups"}
"""What every agent answers that knows the feature at all; of all others it is the list of files."""

_MAX_REFUSAL = 64 * 1024
_REFUSAL_SECONDS = 5.0


class Reply:
    """An agent's answer: its head, and the connection that its body comes by."""

    def __init__(self, upstream: Upstream, head: ResponseHead) -> None:
        self.upstream = upstream
        self.head = head

    def field(self, name: bytes) -> bytes | None:
        for field, value in self.head.fields:
            if field == name:
                return value
        return None

    async def words(self) -> tuple[str, dict[str, str]]:
        """What a refusal says, as far as it comes whole and soon."""
        body, decoder = bytearray(), ChunkedDecoder(_MAX_REFUSAL) if self.head.chunked else None
        wanted = _MAX_REFUSAL if self.head.length is None else min(self.head.length, _MAX_REFUSAL)
        self.upstream.expires_in(_REFUSAL_SECONDS)
        try:
            while len(body) < wanted and not (decoder is not None and decoder.done):
                data = self.upstream.take() or await self.upstream.recv()
                if not data:
                    break
                body += decoder.feed(data) if decoder is not None else data
        except (GoneError, Interrupted, HeadError, TooLargeError):
            pass
        self.upstream.deadline = inf
        return parse_refusal(bytes(body[:wanted]))


class Agent:
    """The agent of one container, for one transfer of `client`."""

    def __init__(self, tools: Tools, agents: Agents, client: Client, vmid: int, request_id: bytes) -> None:
        self._tools = tools
        self._agents = agents
        self._client = client
        self._vmid = vmid
        self._request_id = request_id

    @asynccontextmanager
    async def ask(
        self,
        place: AgentPlace,
        method: bytes,
        path: str,
        query: Mapping[str, str],
        fields: Fields,
        body: Body | None = None,
    ) -> AsyncIterator[Reply]:
        """Its answer to one request, on a connection that is closed with the block.

        Raises Refusal 502 "agent_unreachable" and 503, what reading `body` raises, and GoneError.
        """
        message = _request(place, method, path, query, fields, body, self._request_id)
        seconds = self._tools.limits.answer_seconds
        with_words = body is not None
        try:
            upstream = await self._tools.relay.open(
                self._client, TcpDestination(place.address, place.port), fresh=True
            )
        except Refusal as refusal:
            raise _of_agent(refusal, with_words, began=False) from None
        try:
            try:
                if body is None:
                    await send_upstream(upstream, message)
                    head = await read_answer(upstream, seconds)
                else:
                    head = await send_streamed(upstream, message, body, seconds)
            except StaleError:
                raise unreachable("the agent closed the connection without an answer", changes=with_words) from None
            except Refusal as refusal:
                raise _of_agent(refusal, with_words) from None
            yield Reply(upstream, head)
        finally:
            self._tools.relay.close(self._client, upstream)

    async def refusal(self, reply: Reply, place: AgentPlace, feature: Feature, *, about: bool) -> Refusal:
        """What an answer that is no success means. `about`: a 404 may be about what was named; whether it is, or the
        agent does not know the call, is found out."""
        status = reply.head.status
        message, details = await reply.words()
        if status in LACKING and not (about and status == 404 and await self._knows(place, feature)):
            self._agents.learn_lacking(self._vmid, feature)
            return lacking(feature)
        if status < 400 or status in (401, 403):
            # Its 401 is about our token: the caller is signed in, and must not be told otherwise.
            return Refusal(502, message or f"the agent answered with status {status}", code="agent_refused")
        if status == 507:
            return Refusal(507, message or "the disk is full", code="disk_full", details=details or None)
        code = "precondition_failed" if status == 412 else "agent_refused"
        words = message or f"the agent answered with status {status}"
        return Refusal(status, words, code=code, details=details or None)

    async def _knows(self, place: AgentPlace, feature: Feature) -> bool:
        async with self.ask(place, b"GET", _PROBES.get(feature, "/files"), {}, []) as reply:
            return reply.head.status not in LACKING


def lacking(feature: Feature) -> Refusal:
    return Refusal(
        501,
        "this container's agent is too old for that: update the agent",
        code="agent_unsupported",
        details={"feature": feature.value},
    )


def unreachable(words: str, *, changes: bool) -> Refusal:
    return Refusal(
        502, words, code="agent_unreachable", details={"mayTakeEffect": True} if changes else None, retry_after=1
    )


def _of_agent(refusal: Refusal, changes: bool, *, began: bool = True) -> Refusal:
    """A refusal of the relay's, in words that say who did it; those of the body are the client's and stay."""
    if refusal.status == 502:
        words = refusal.message.replace("the service", "the agent")
        return unreachable(words, changes=changes and began)
    if refusal.status == 504:
        return unreachable("the agent did not answer in time", changes=changes)
    return refusal


def _request(
    place: AgentPlace,
    method: bytes,
    path: str,
    query: Mapping[str, str],
    fields: Fields,
    body: Body | None,
    request_id: bytes,
) -> bytes:
    host = f"[{place.address}]" if ":" in place.address else place.address
    target = f"{path}?{urlencode(query, quote_via=quote)}" if query else path
    framing: Fields = [
        (b"host", f"{host}:{place.port}".encode()),
        (b"authorization", f"Bearer {place.token}".encode()),
        (b"x-request-id", request_id),
        (b"accept-encoding", b"identity"),
        (b"connection", b"close"),
    ]
    if body is not None:
        length = body.length
        framing.append((b"transfer-encoding", b"chunked") if length is None else (b"content-length", b"%d" % length))
    return build_request(method, target.encode("ascii"), [*framing, *fields])
