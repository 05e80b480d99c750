"""A gateway before agents that are real (the simulator) or scripted byte by byte, for the tests of transfers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio

from tests.agents import GAME, TOKEN, client_of, start_agent
from tests.gateway.peer import Answer, Peer, connect
from tests.gateway.server import Running, running
from zlh.containers import ResumableUploads
from zlh.containers.calls import carry_out
from zlh.drivers.agent import AgentClient
from zlh.gateway import Limits
from zlh.model.accounts import Principal
from zlh.model.agent_calls import AgentAnswer, AgentCall, AgentPlace, Feature
from zlh.model.console import Visit
from zlh.model.containers import ContainerType
from zlh.model.errors import AbsentError, AgentUnsupportedError
from zlh.model.transfers import Depot, Upload, UploadState
from zlh.simulators.agent import SimulatedAgent
from zlh.store.uploads import BATCH

AUTH = "Authorization: Bearer good"
FILES = "/api/game/5001/files"
TUS = "Tus-Resumable: 1.0.0"
MIB = 1 << 20


@dataclass
class FakeAgents:
    """Implements zlh.model.agent_calls.Agents for the container 5001, whose agent is at that port."""

    port: int
    disk: int = 10 << 30
    used: int | None = 0
    lacking: set[Feature] = field(default_factory=set)

    def container(self, vmid: int) -> Any:
        if vmid != 5001:
            raise AbsentError("there is no such server")
        return SimpleNamespace(ctype=ContainerType.GAME)

    def reach(self, vmid: int, feature: Feature, *, changes: bool) -> AgentPlace:
        if feature in self.lacking:
            raise AgentUnsupportedError("too old")
        return AgentPlace("127.0.0.1", self.port, TOKEN, self.disk, self.used)

    def learn_lacking(self, vmid: int, feature: Feature) -> None:
        self.lacking.add(feature)


class FakeCell:
    """What calls to agents need of a container."""

    agent_version = "1.0.0"

    def __init__(self) -> None:
        self.lacking: set[Feature] = set()
        self.learn_lacking = self.lacking.add


class FakeDatabase:
    """Runs the functions of zlh.store.uploads on a dict."""

    def __init__(self) -> None:
        self.uploads: dict[str, Upload] = {}

    async def run(self, fn: Callable[..., Any], *arguments: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return getattr(self, fn.__name__)(*arguments)

    def begin(self, vmid: int, path: str, length: int, expires_at: datetime) -> Upload:
        upload_id = f"{len(self.uploads):032x}"
        upload = Upload(
            id=upload_id, vmid=vmid, path=path, length=length, state=UploadState.OPEN, expires_at=expires_at
        )
        self.uploads[upload_id] = upload
        return upload

    def find(self, vmid: int, upload_id: str) -> Upload | None:
        upload = self.uploads.get(upload_id)
        return upload if upload is not None and upload.vmid == vmid else None

    def keep(self, upload_id: str, expires_at: datetime) -> bool:
        return self._set(upload_id, expires_at=expires_at)

    def move(self, upload_id: str, state: UploadState) -> bool:
        return self._set(upload_id, state=state)

    def forget(self, upload_id: str) -> None:
        self.uploads.pop(upload_id, None)

    def forget_done(self, now: datetime) -> int:
        over = [upload.id for upload in self.expired(now) if upload.state is UploadState.DONE]
        for upload_id in over:
            del self.uploads[upload_id]
        return len(over)

    def expired(self, now: datetime) -> list[Upload]:
        return [upload for upload in self.uploads.values() if upload.expires_at <= now][:BATCH]

    def _set(self, upload_id: str, **values: Any) -> bool:
        if upload_id not in self.uploads:
            return False
        self.uploads[upload_id] = replace(self.uploads[upload_id], **values)
        return True


class Book:
    """Implements zlh.model.transfers.TransferBook."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, int, int | None]] = []

    def uploaded(self, principal: Principal, visit: Visit, path: str, size: int, status: int | None) -> None:
        self.entries.append(("up", path, size, status))

    def downloaded(self, principal: Principal, visit: Visit, backup: str, size: int, status: int | None) -> None:
        self.entries.append(("down", backup, size, status))


@dataclass
class Yard:
    """`root` is the container's server root, where the agent is the simulator."""

    server: Running
    agents: FakeAgents
    database: FakeDatabase
    uploads: ResumableUploads
    book: Book
    root: Path
    agent: SimulatedAgent | None
    now: list[datetime]

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def quiet(self) -> bool:
        """Nothing is left of any transfer."""
        stats = self.server.gateway.stats()
        return (
            stats.upstream_connections == stats.transfers == 0
            and all(grant.released for grant in self.server.doorkeeper.grants)
            and stats.crashes == 0
        )

    async def ask(self, method: str, target: str, *lines: str, body: bytes = b"") -> Answer:
        async with connect(self.port) as peer:
            return await peer.ask(method, target, AUTH, *lines, body=body)


Handler = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def yard_at(
    port: int, call: Callable[[int, AgentCall], Awaitable[AgentAnswer]], root: Path, **options: Any
) -> AsyncIterator[Yard]:
    limits = options.pop("limits", None) or Limits(answer_seconds=5.0)
    agents, database, book = FakeAgents(port, **options), FakeDatabase(), Book()
    now = [datetime(2026, 5, 1, tzinfo=UTC)]
    uploads = ResumableUploads(database, call, lambda: now[0])  # type: ignore[arg-type]
    async with running(limits, depot=Depot(agents, uploads, book)) as server:
        yield Yard(server, agents, database, uploads, book, root, None, now)


@asynccontextmanager
async def yard(folder: Path, **options: Any) -> AsyncIterator[Yard]:
    """Before a simulated agent."""
    async with trio.open_nursery() as nursery:
        agent = await start_agent(nursery, folder, config=GAME)
        with client_of(agent) as client:

            async def call(_: int, wanted: AgentCall) -> AgentAnswer:
                return await carry_out(wanted, client, FakeCell())  # type: ignore[arg-type]

            async with yard_at(agent.port, call, folder / "server", **options) as made:
                made.agent = agent
                yield made
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def scripted_yard(handler: Handler, **options: Any) -> AsyncIterator[Yard]:
    """Before an agent that says what `handler` wants; its connections are closed when that returns."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                await handler(Peer(stream))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        client = AgentClient("127.0.0.1", port, TOKEN)

        async def call(_: int, wanted: AgentCall) -> AgentAnswer:
            return await carry_out(wanted, client, FakeCell())  # type: ignore[arg-type]

        async with yard_at(port, call, Path("/nowhere"), **options) as made:
            yield made
        client.close()
        nursery.cancel_scope.cancel()


async def request_head(peer: Peer) -> bytes:
    """What an agent reads of a request, up to its empty line."""
    while b"\r\n\r\n" not in peer.buffer:
        if not await peer.more():
            raise trio.BrokenResourceError
    head, _, peer.buffer = peer.buffer.partition(b"\r\n\r\n")
    return head


def saying(*pieces: bytes) -> Handler:
    """An agent that answers every request in these words, and closes."""

    async def handler(peer: Peer) -> None:
        await request_head(peer)
        for piece in pieces:
            await peer.send(piece)

    return handler


def answer_bytes(status: int, document: object, *fields: str) -> bytes:
    body = json.dumps(document).encode()
    head = [f"HTTP/1.1 {status} X", "Connection: close", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body
