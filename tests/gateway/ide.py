"""A gateway with a dev container behind it: 6001, whose programs are small servers in this process."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from math import inf
from types import SimpleNamespace
from typing import Any

import trio

from tests.gateway.behind import FakeConsoles, FakeDoorkeeper, FakeGrant
from tests.gateway.peer import Answer, Peer, Socket, connect, handshake
from zlh.gateway import Gateway, Limits, serve
from zlh.ide import Admitted, House, Names, Place, Reach
from zlh.model.accounts import Principal, Role
from zlh.model.activity import Use
from zlh.model.agent_calls import AgentAnswer, AgentCall
from zlh.model.containers import Container, ContainerType, Power, Resources, Software
from zlh.model.errors import AbsentError, ForbiddenError, UnauthenticatedError
from zlh.model.games import CODE_SERVER_PORT
from zlh.model.operations import OperationKind
from zlh.model.whereabouts import Whereabouts
from zlh.wire.chunked import ChunkedDecoder
from zlh.wire.frames import FrameDecoder, Opcode, Text, accept_key, server_frame
from zlh.wire.http import RequestHead, parse_request

VMID = 6001
ZONE = "ide.test"
HOST = f"ide-{VMID}.{ZONE}"
AGENT_PORT = 18888
AT = datetime(2026, 1, 1, tzinfo=UTC)
ADA = Principal(1, Role.CUSTOMER, "session", inf)
TOKEN = f"a.b.{'t' * 86}"
OTHER_TOKEN = f"a.b.{'x' * 86}"

_addresses = itertools.count(1)

Handler = Callable[[trio.SocketStream], Awaitable[Any]]


def fresh_address() -> str:
    """A loopback address that no other process of the tests takes: the IDE's port is always the same."""
    pid = os.getpid()
    return f"127.{64 + pid // 250 % 128}.{1 + pid % 250}.{next(_addresses) % 250 + 1}"


def row(address: str | None, ctype: ContainerType = ContainerType.DEV) -> Container:
    return Container(
        vmid=VMID,
        owner_id=1,
        ctype=ctype,
        name="workshop",
        hostname="workshop",
        software=Software("node", "22"),
        resources=Resources(1024, 1, 10),
        ports=(),
        agent_token="secret",
        created_at=AT,
        updated_at=AT,
        address=address,
        provisioned=True,
    )


@dataclass
class FakeWorkshops:
    """One container. `ide` is what its agent says of the IDE, None where it does not answer."""

    found: Whereabouts
    ide: str | None = "running"
    started: list[str] = field(default_factory=list)

    def whereabouts(self, vmid: int) -> Whereabouts:
        if vmid != VMID:
            raise AbsentError("there is no such container")
        return self.found

    async def call(self, vmid: int, call: AgentCall) -> AgentAnswer:
        if self.ide is None:
            raise ForbiddenError("no")
        if call.method == "POST":
            self.started.append(call.path)
        return AgentAnswer(200, json.dumps({"state": self.ide}).encode())

    async def start_host(self, vmid: int, *, actor_id: int | None = None) -> Any:
        self.started.append("host")

    def power(self, power: Power, doing: OperationKind | None = None) -> None:
        self.found = replace(self.found, power=power, doing=doing)


class FakeGatekeeper:
    """The pass "good" is Ada's, and works while `open` says so; TOKEN becomes it, once."""

    def __init__(self) -> None:
        self.refusal: Exception | None = None
        self.public = False
        self.power = True
        self.ide = True
        self.spent = False
        self.renewed: str | None = None
        self.grants: list[FakeGrant] = []
        self.vouching: list[Exception | None] = []
        self.passes = SimpleNamespace(seconds=600.0, vouched_seconds=0.05, vouch=self._vouch)

    async def _vouch(self, principal: Principal) -> None:
        if self.vouching and (error := self.vouching.pop(0)) is not None:
            raise error

    async def redeem(self, token: str, place: Place) -> str:
        if token != TOKEN or self.spent:
            raise UnauthenticatedError("the token has been used", code="token_spent")
        self.spent = True
        return "good"

    async def admit(self, place: Place, offered: list[str]) -> Admitted:
        if self.is_public(place):
            return Admitted(None)
        if self.refusal is not None:
            raise self.refusal
        if "good" not in offered:
            raise UnauthenticatedError("sign in first")
        return Admitted(ADA, self.renewed)

    def recognise(self, place: Place, token: str) -> Principal | None:
        good = self.refusal is None and token == "good" and self.renewed is None
        return ADA if good else None

    def stay(self, place: Place, principal: Principal) -> FakeGrant:
        self.grants.append(FakeGrant(True, inf))
        return self.grants[-1]

    def may_power(self, principal: Principal, vmid: int) -> bool:
        return self.power

    def may_into_ide(self, principal: Principal, vmid: int) -> bool:
        return self.ide

    def is_public(self, place: Place) -> bool:
        return self.public and place.port is not None

    def is_ours(self, authorization: str) -> bool:
        return "zlh_" in authorization

    def issued(self, token: str) -> bool:
        return token.startswith("a.b.")

    def welcome(self, place: Place, principal: Principal | None) -> bool:
        return self.is_public(place) or principal is not None


@dataclass
class Uses:
    touches: int = 0
    open: int = 0

    def touched(self, vmid: int, use: Use) -> None:
        self.touches += 1

    def opened(self, vmid: int, use: Use) -> None:
        self.open += 1

    def closed(self, vmid: int, use: Use) -> None:
        self.open -= 1


@dataclass
class Trail:
    acts: list[str] = field(default_factory=list)

    def now(self) -> datetime:
        return AT

    def note(self, act: Any, ending: Any) -> None:
        self.acts.append(act.action)


@dataclass
class Program:
    """What listens in the container: it tells what it was asked, or does what `handler` says. `heads` are those of
    all requests, `connections` counts those that were made, `open` those that are."""

    address: str
    handler: Handler | None = None
    answer: Callable[[RequestHead, bytes], bytes] | None = None
    heads: list[RequestHead] = field(default_factory=list)
    connections: int = 0
    open: int = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        self.open += 1
        try:
            await (self.handler or self.converse)(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.open -= 1
            await stream.aclose()

    async def converse(self, stream: trio.SocketStream) -> None:
        buffer = b""
        while True:
            while b"\r\n\r\n" not in buffer:
                data = await stream.receive_some(65536)
                if not data:
                    return
                buffer += data
            raw, _, buffer = buffer.partition(b"\r\n\r\n")
            head = parse_request(raw)
            self.heads.append(head)
            if head.upgrade:
                await echo_messages(stream, head)
                return
            body, buffer = await _body(stream, head, buffer)
            await stream.send_all((self.answer or told)(head, body))


def told(head: RequestHead, body: bytes) -> bytes:
    said = {
        "method": head.method.decode(),
        "target": head.target.decode(),
        "fields": [[name.decode(), value.decode("latin1")] for name, value in head.fields],
        "body": len(body),
    }
    text = json.dumps(said).encode() if head.method != b"HEAD" else b""
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)


async def echo_messages(stream: trio.SocketStream, head: RequestHead, *lines: str) -> None:
    key = head.get(b"sec-websocket-key") or b""
    fields = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", *lines]
    fields.append(f"Sec-WebSocket-Accept: {accept_key(key).decode()}")
    await stream.send_all("\r\n".join(fields).encode() + b"\r\n\r\n")
    decoder = FrameDecoder(masked=True, max_message=1 << 26)
    while data := await stream.receive_some(65536):
        for event in decoder.feed(data):
            if isinstance(event, Text):
                await stream.send_all(server_frame(Opcode.TEXT, event.text.encode()))


async def _body(stream: trio.SocketStream, head: RequestHead, buffer: bytes) -> tuple[bytes, bytes]:
    if head.length is None:
        decoder = ChunkedDecoder()
        body = decoder.feed(buffer)
        while not decoder.done:
            body += decoder.feed(await stream.receive_some(65536))
        return body, decoder.rest
    while len(buffer) < head.length:
        data = await stream.receive_some(65536)
        if not data:
            raise trio.BrokenResourceError
        buffer += data
    return buffer[: head.length], buffer[head.length :]


@dataclass
class Scene:
    gateway: Gateway
    house: House
    workshops: FakeWorkshops
    keeper: FakeGatekeeper
    program: Program
    uses: Uses
    trail: Trail

    @property
    def port(self) -> int:
        return self.gateway.address.port

    @contextmanager
    def lying(self, address: str | None) -> Iterator[None]:
        before = self.workshops.found
        self.workshops.found = replace(before, row=row(address))
        yield
        self.workshops.found = before


class Guest(Peer):
    """A client at the place: `ask` brings the pass, and the place's Host."""

    host = HOST
    cookie = "zlh-pass=good"

    async def ask(self, method: str, target: str, *lines: str, body: bytes = b"") -> Answer:
        return await self.say(method, target, *([f"Cookie: {self.cookie}"] if self.cookie else []), *lines, body=body)

    async def say(self, method: str, target: str, *lines: str, body: bytes = b"") -> Answer:
        head = [f"{method} {target} HTTP/1.1", f"Host: {self.host}", *lines]
        if body:
            head.append(f"Content-Length: {len(body)}")
        await self.send("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        return await self.answer(method)


@asynccontextmanager
async def guest(scene: Scene, *, host: str = HOST, cookie: str = "zlh-pass=good") -> AsyncIterator[Guest]:
    async with connect(scene.port) as peer:
        made = Guest(peer.stream)
        made.host, made.cookie = host, cookie
        yield made


def opening(
    target: str, *lines: str, host: str = HOST, cookie: str = "zlh-pass=good", key: bytes | None = None
) -> bytes:
    raw = handshake(target, f"Cookie: {cookie}", *lines, key=key)
    return raw.replace(b"Host: test", f"Host: {host}".encode(), 1)


@asynccontextmanager
async def websocket(scene: Scene, target: str = "/ws", *lines: str) -> AsyncIterator[Socket]:
    async with connect(scene.port) as peer:
        await peer.send(opening(target, *lines))
        head = await peer.read_head()
        assert head.status == 101, (head, peer.buffer)
        yield Socket(peer)


@asynccontextmanager
async def open_scene(
    *,
    zone: str = ZONE,
    secure: bool = False,
    port: int = CODE_SERVER_PORT,
    limits: Limits | None = None,
    portal_url: str = "https://portal.example",
    listening: bool = True,
    **options: Any,
) -> AsyncIterator[Scene]:
    """`port` is where the program listens at the container's address."""
    address = fresh_address()
    program, workshops, keeper = (
        Program(address),
        FakeWorkshops(Whereabouts(row(address), Power.ON, None, met=True)),
        FakeGatekeeper(),
    )
    uses, trail = Uses(), Trail()
    house = House(
        names=Names(zone),
        gatekeeper=keeper,  # type: ignore[arg-type]
        reach=Reach((address, "127.0.0.1"), ("127.0.0.1",), AGENT_PORT),
        workshops=workshops,
        activity=uses,
        trail=trail,  # type: ignore[arg-type]
        access=SimpleNamespace(owner_of=lambda vmid: 1),  # type: ignore[arg-type]
        secure=secure,
        portal_url=portal_url,
    )
    async with trio.open_nursery() as nursery:
        if listening:
            serving = partial(trio.serve_tcp, program.serve, port, host=address, backlog=1024)
            await nursery.start(serving)
        gateway = await nursery.start(
            partial(
                serve,
                "127.0.0.1",
                0,
                upstream_socket="/nowhere",
                doorkeeper=FakeDoorkeeper(),
                consoles=FakeConsoles(),
                house=house,
                limits=limits,
                **options,
            )
        )
        yield Scene(gateway, house, workshops, keeper, program, uses, trail)
        nursery.cancel_scope.cancel()
