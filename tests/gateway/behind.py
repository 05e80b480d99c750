"""What stands behind the gateway in these tests: a small Quart-Trio application, and consoles that obey the test."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import trio
import trio.lowlevel
from quart import Response, request, websocket
from quart_trio import QuartTrio

from zlh.model.access import Permission, Scope
from zlh.model.accounts import Principal, Role
from zlh.model.console import Batch, EndCallback, Line, Viewer
from zlh.model.errors import AbsentError, ForbiddenError, TooManyError, UnauthenticatedError


@dataclass
class Seen:
    """What the handlers noticed."""

    started: trio.Event = field(default_factory=trio.Event)
    cancelled: trio.Event = field(default_factory=trio.Event)
    left: trio.Event = field(default_factory=trio.Event)
    release: trio.Event = field(default_factory=trio.Event)
    requests: int = 0


def make_app(seen: Seen) -> QuartTrio:
    app = QuartTrio("behind")

    @app.before_request
    async def count() -> None:
        seen.requests += 1

    @app.route("/echo", methods=["GET", "POST", "PUT", "DELETE", "OPTIONS"])
    async def echo() -> Response:
        body = await request.get_data()
        fields = {name.lower(): value for name, value in request.headers.items()}
        answer = {
            "method": request.method,
            "query": request.query_string.decode(),
            "fields": fields,
            "body": len(body),
        }
        return Response(json.dumps(answer), content_type="application/json")

    @app.get("/nothing")
    async def nothing() -> tuple[str, int]:
        return "", 204

    @app.get("/bytes/<int:size>")
    async def some(size: int) -> Response:
        return Response(b"x" * size, content_type="application/octet-stream")

    @app.get("/stream")
    async def stream() -> Response:
        async def lines() -> AsyncIterator[bytes]:
            for number in range(3):
                yield f"data: {number}\n\n".encode()
            seen.started.set()
            try:
                await seen.release.wait()
            except BaseException:
                seen.cancelled.set()
                raise
            yield b"data: end\n\n"

        response = Response(lines(), content_type="text/event-stream")
        response.timeout = None
        return response

    @app.get("/endless")
    async def endless() -> Response:
        async def blocks() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 65536
                await trio.lowlevel.checkpoint()

        response = Response(blocks(), content_type="application/octet-stream")
        response.timeout = None
        return response

    @app.route("/slow", methods=["GET", "POST"])
    async def slow() -> str:
        seen.started.set()
        try:
            await seen.release.wait()
        except trio.Cancelled:
            seen.cancelled.set()
            raise
        return "done"

    @app.websocket("/ws/echo")
    async def ws_echo() -> None:
        await websocket.accept()
        seen.started.set()
        try:
            while True:
                await websocket.send(await websocket.receive())
        finally:
            seen.left.set()

    @app.websocket("/ws/deaf")
    async def ws_deaf() -> None:
        await websocket.accept()
        await trio.sleep_forever()

    @app.websocket("/ws/error")
    async def ws_error() -> None:
        await websocket.accept()
        raise RuntimeError("a bug after accept")

    @app.websocket("/ws/bye")
    async def ws_bye() -> None:
        await websocket.accept()
        await websocket.close(4404, "gone")

    @app.websocket("/ws/no")
    async def ws_no() -> tuple[str, int]:
        return "not for you", 403

    return app


class FakeGrant:
    """Implements zlh.model.console.Grant; `end` ends it."""

    def __init__(self, may_type: bool, expires_at: float, account_id: int = 1) -> None:
        self.principal = Principal(account_id, Role.CUSTOMER, "session", expires_at)
        self.may_type = may_type
        self.expires_at = expires_at
        self.callback: EndCallback | None = None
        self.released = False

    def on_end(self, callback: EndCallback) -> None:
        self.callback = callback

    def release(self) -> None:
        self.released = True
        self.callback = None

    def end(self, code: int, reason: str) -> None:
        assert self.callback is not None
        self.callback(code, reason)


class FakeDoorkeeper:
    """Tokens: "good", "other" (somebody else's), "watcher" (may not type), "short" (expires at once), "alien" (403),
    "suspended" (403, unless a suspended account may, too); anything else is 401."""

    def __init__(self) -> None:
        self.grants: list[FakeGrant] = []

    def enter(
        self,
        token: str,
        vmid: int,
        permission: Permission,
        scope: Scope,
        *,
        changes: bool,
        address: str = "",
        lasting: float = 0.0,
        suspended: bool = False,
    ) -> FakeGrant:
        if token == "alien":
            raise ForbiddenError("not allowed here")
        if token == "suspended" and not suspended:
            raise ForbiddenError("the account is suspended", code="suspended")
        if token not in ("good", "other", "watcher", "short", "suspended"):
            raise UnauthenticatedError("not a valid token")
        if vmid == 404:
            raise AbsentError("no such container")
        account_id = 2 if token == "other" else 1
        self.grants.append(FakeGrant(token != "watcher", 0.0 if token == "short" else 9e12, account_id))
        return self.grants[-1]


@dataclass
class FakeAttachment:
    consoles: FakeConsoles
    viewer: Viewer

    async def send_line(self, line: str) -> None:
        if line == "refuse":
            raise TooManyError("slower, please", retry_after=1.5)
        if line == "bug":
            raise RuntimeError("a bug in the console")
        self.consoles.typed.append(line)

    def detach(self) -> None:
        if self.viewer in self.consoles.viewers:
            self.consoles.viewers.remove(self.viewer)


@dataclass
class FakeConsoles:
    """One console for every container; `publish` delivers lines to all viewers."""

    viewers: list[Viewer] = field(default_factory=list)
    typed: list[str] = field(default_factory=list)
    history: tuple[Line, ...] = ()
    afters: list[int | None] = field(default_factory=list)
    seq: int = 0

    def attach(self, vmid: int, viewer: Viewer, *, after: int | None = None) -> FakeAttachment:
        if vmid == 410:
            raise AbsentError("the container is gone")
        if vmid == 429:
            raise TooManyError("too many watch this console", retry_after=30.0)
        self.afters.append(after)
        if self.history:
            viewer.deliver(Batch(self.history))
        self.viewers.append(viewer)
        return FakeAttachment(self, viewer)

    def publish(self, *texts: str) -> Batch:
        lines = []
        for text in texts:
            self.seq += 1
            lines.append(Line(self.seq, 1000.0 + self.seq, text))
        batch = Batch(tuple(lines))
        for viewer in tuple(self.viewers):
            viewer.deliver(batch)
        return batch
