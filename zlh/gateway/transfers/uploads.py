"""Uploads of one whole file: bytes that are passed on to an agent as they come."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from zlh.gateway.client import BodyReader
from zlh.gateway.pipes import Pipe
from zlh.gateway.refusals import Refusal
from zlh.gateway.relay import Body
from zlh.gateway.transfers.agent import Agent, Reply, lacking, unreachable
from zlh.gateway.transfers.room import Room
from zlh.gateway.transfers.transfer import Transfer
from zlh.model.agent_calls import AgentPlace, Agents, Feature
from zlh.model.errors import InvalidError
from zlh.wire.http import Fields

CONTENT = "/files/content"
_CONDITIONS = (b"if-match", b"if-none-match")
_TAG = re.compile(rb'(W/)?("[\x21\x23-\x7e]*")')


class Source(Body, Protocol):
    """`done`: all of it was read."""

    @property
    def done(self) -> bool: ...


class Metered:
    """A body on its way to a disk: counted, and cut where there is no more room."""

    def __init__(self, body: Source, room: Room) -> None:
        self._body = body
        self._room = room
        self.passed = 0

    @property
    def length(self) -> int | None:
        return self._body.length

    @property
    def done(self) -> bool:
        return self._body.done

    async def read(self) -> bytes:
        data = await self._body.read()
        self._count(len(data))
        return data

    @property
    def pipes(self) -> bool:
        return self._body.pipes

    async def fill(self, pipe: Pipe) -> int:
        taken = await self._body.fill(pipe)
        self._count(taken)
        return taken

    def _count(self, size: int) -> None:
        self._room.take(size)
        self.passed += size


@dataclass(frozen=True, slots=True)
class Written:
    """`status` is 201 for a new file, else 204."""

    status: int
    etag: bytes | None


async def write(agent: Agent, place: AgentPlace, path: str, body: Metered, fields: Fields) -> Written:
    """Streams one file to the agent, which must not say that all is well before the end of it.

    Raises Refusal, GoneError and Interrupted; what is there then is what was there before.
    """
    async with agent.ask(place, b"PUT", CONTENT, {"path": path}, fields, body) as reply:
        status = reply.head.status
        if status not in (200, 201, 204):
            raise await agent.refusal(reply, place, Feature.FILES, about=True)
        if not body.done:
            raise unreachable("the agent did not wait for the end of the file", changes=True)
        return Written(201 if status == 201 else 204, reply.field(b"etag"))


async def put(transfer: Transfer, agent: Agent, agents: Agents, place: AgentPlace, path: str, room: Room) -> bool:
    """PUT of one file; whether the connection can be used again."""
    if not path:
        raise InvalidError.of(("path", "names the server's directory, not a file"))
    fields = [field for field in transfer.head.fields if field[0] in _CONDITIONS]
    if fields:
        await _judge(transfer, agent, agents, place, path)
    body = Metered(BodyReader(transfer.arrival.client, transfer.head, None), room)
    try:
        written = await write(agent, place, path, body, fields)
    finally:
        transfer.moved = body.passed
    told: Fields = [] if written.etag is None else [(b"etag", written.etag)]
    return await transfer.answer(written.status, told)


async def _judge(transfer: Transfer, agent: Agent, agents: Agents, place: AgentPlace, path: str) -> None:
    """Looks at what is there before a byte is written: an agent that knows nothing of conditions would write whatever
    they say, and one that does would say no only after the last byte. Raises Refusal 412, 501."""
    wanted, unless = transfer.head.get(b"if-match"), transfer.head.get(b"if-none-match")
    if unless not in (None, b"*"):
        raise Refusal(400, "If-None-Match of an upload can only be *", code="invalid")
    agents.reach(transfer.vmid, Feature.FILE_VERSIONS, changes=True)
    there, tag = await _look(agent, place, path)
    if there and tag is None:
        agents.learn_lacking(transfer.vmid, Feature.FILE_VERSIONS)
        raise lacking(Feature.FILE_VERSIONS)
    if (there and unless is not None) or (wanted is not None and not _matches(wanted, tag)):
        raise Refusal(
            412,
            "the file is not the one that you had in mind: look again",
            code="precondition_failed",
            details={"etag": tag.decode("latin1") if tag is not None else None},
        )


async def _look(agent: Agent, place: AgentPlace, path: str) -> tuple[bool, bytes | None]:
    """Whether there is a file, and its version."""
    async with agent.ask(place, b"GET", CONTENT, {"path": path}, []) as reply:
        if reply.head.status == 200:
            return True, _strong(reply)
        refusal = await agent.refusal(reply, place, Feature.FILES, about=True)
        if refusal.status == 404:
            return False, None
        raise refusal


def _strong(reply: Reply) -> bytes | None:
    tag = reply.field(b"etag")
    return tag if tag is not None and (found := _TAG.fullmatch(tag)) and not found[1] else None


def _matches(wanted: bytes, tag: bytes | None) -> bool:
    """A weak tag names no version of the bytes: it matches nothing."""
    return tag is not None and (wanted == b"*" or (b"", tag) in _TAG.findall(wanted))
