"""Console websockets, served by the gateway itself: who may enter, what a viewer types, and how it ends."""

from __future__ import annotations

import logging
import re
import time
from functools import partial
from math import inf
from urllib.parse import parse_qs

import orjson
import trio

from zlh.gateway.client import Client, State
from zlh.gateway.connection import GoneError, Interrupted, Reason
from zlh.gateway.doors import Arrival, Tools
from zlh.gateway.refusals import Refusal
from zlh.gateway.splice import check_handshake
from zlh.gateway.stay import Stay
from zlh.gateway.viewer import ConsoleViewer, Format
from zlh.model.access import Permission, Scope
from zlh.model.console import Attachment, Consoles, Doorkeeper, Grant, Guestbook, Visit
from zlh.model.errors import (
    AbsentError,
    ForbiddenError,
    InvalidError,
    ProblemError,
    TooManyError,
    UnauthenticatedError,
    UnavailableError,
)
from zlh.wire.frames import Close, CloseCode, Event, FrameDecoder, Ping, Text, Violation, accept_key
from zlh.wire.http import RequestHead, build_response
from zlh.wire.walker import Allowance

logger = logging.getLogger("zlh.gateway")

_PATH = re.compile(rb"/api/servers/([1-9][0-9]{0,8})/console/stream")


def console_vmid(path: bytes) -> int | None:
    """The container whose console this path names, or None."""
    match = _PATH.fullmatch(path)
    return int(match[1]) if match else None


class ConsoleDoor:
    """Lets viewers in, and looks after each until it is gone."""

    def __init__(
        self, tools: Tools, doorkeeper: Doorkeeper, consoles: Consoles, guestbook: Guestbook | None = None
    ) -> None:
        self.doorkeeper = doorkeeper
        self.consoles = consoles
        self.watch = tools.watch
        self.counters = tools.counters
        self.limits = tools.limits
        self.guestbook = guestbook
        self._check_origin = tools.check_origin

    def wants(self, head: RequestHead) -> bool:
        return head.upgrade == b"websocket" and console_vmid(head.path) is not None

    async def enter(self, arrival: Arrival) -> bool:
        """From the handshake to the end of a viewer. Raises Refusal before the upgrade; GoneError and Interrupted."""
        client, head, address = arrival.client, arrival.head, arrival.address
        request_id = arrival.request_id
        self._check_origin(head)
        vmid = console_vmid(head.path)
        assert vmid is not None
        key = check_handshake(head)
        try:
            query = parse_qs(head.query.decode("ascii"), max_num_fields=20)
        except ValueError:
            raise Refusal(400, "a malformed query") from None
        form, after = _format(query), _after(query)
        token = _token(head, query)
        grant = self._admit(token, vmid, address) if token is not None else None
        visit = None
        try:
            await client.send(_switching(key, request_id))
            client.state = State.WEBSOCKET
            client.on_hangup = None
            async with trio.open_nursery() as nursery:
                agent = (head.get(b"user-agent") or b"").decode("latin1")
                stay = Stay(self.guestbook, Visit(vmid, address, agent, request_id.decode("latin1")))
                visit = _Visit(self, client, vmid, form, stay, address, nursery)
                await visit.run(grant, after)
                nursery.cancel_scope.cancel()
        finally:
            if visit is not None:
                visit.leave()
            elif grant is not None:
                grant.release()
        return False

    def admit(self, token: str, vmid: int, address: str) -> Grant:
        """Raises ProblemError."""
        return self.doorkeeper.enter(token, vmid, Permission.WATCH, Scope.CONSOLE, changes=False, address=address)

    def _admit(self, token: str, vmid: int, address: str) -> Grant:
        try:
            return self.admit(token, vmid, address)
        except ProblemError as problem:
            raise Refusal.of(problem) from None


class _Visit:
    """One viewer's time at a console."""

    def __init__(
        self,
        door: ConsoleDoor,
        client: Client,
        vmid: int,
        form: Format,
        stay: Stay,
        address: str,
        nursery: trio.Nursery,
    ) -> None:
        self._door = door
        self._stay = stay
        self._address = address
        self._client = client
        self._vmid = vmid
        self._form = form
        self._limits = door.limits.console
        self._grant: Grant | None = None
        self._attachment: Attachment | None = None
        self._expiry_told = False
        self._viewer = ConsoleViewer(
            client,
            form,
            self._limits,
            close_seconds=door.limits.close_seconds,
            nursery=nursery,
            counters=door.counters,
            on_end=self.leave,
        )
        frames = self._limits.frames
        self._decoder = FrameDecoder(masked=True, max_message=frames.max_message, max_fragments=frames.max_fragments)
        self._bytes = Allowance(frames.bytes_per_second, frames.bytes_burst)
        self._frames = Allowance(frames.frames_per_second, frames.frames_burst)

    async def run(self, grant: Grant | None, after: int | None) -> None:
        """Until the connection ends. Without a grant the first message must bring a token."""
        client = self._client
        client.on_drain = partial(self._viewer.end, CloseCode.RESTART, "restarting")
        self._door.watch.on_tick(self._tick)
        try:
            if grant is None:
                client.expires_in(self._limits.auth_seconds)
            else:
                self._join(grant, after)
            await self._read(after)
        except (GoneError, Interrupted):
            pass
        except Exception:
            logger.exception("the console of container %d failed for a viewer", self._vmid)
            self._door.counters.crashes += 1
            self._viewer.end(CloseCode.INTERNAL, "internal error")
            await client.linger(self._door.limits.close_seconds)
        finally:
            self._door.watch.off_tick(self._tick)

    def leave(self) -> None:
        """Gives up the place and the grant; nothing is delivered any more. May be called more than once."""
        attachment, self._attachment = self._attachment, None
        grant, self._grant = self._grant, None
        self._stay.leave()
        if attachment is not None:
            attachment.detach()
        if grant is not None:
            grant.release()

    def _join(self, grant: Grant, after: int | None) -> None:
        self._client.deadline = inf
        self._hold(grant)
        if self._viewer.ending:
            return
        try:
            self._attachment = self._door.consoles.attach(self._vmid, self._viewer, after=after)
        except ProblemError as problem:
            self._viewer.end(_close_code(problem), problem.message)

    def _hold(self, grant: Grant) -> None:
        previous, self._grant = self._grant, grant
        self._expiry_told = False
        if previous is not None:
            previous.release()
        self._stay.hold(grant.principal, grant.may_type)
        grant.on_end(self._viewer.end)

    async def _read(self, after: int | None) -> None:
        client, viewer = self._client, self._viewer
        while True:
            try:
                data = client.take() or await client.recv()
            except Interrupted as interruption:
                if interruption.reason is Reason.DEADLINE and not viewer.ending:
                    viewer.end(CloseCode.UNAUTHENTICATED, "no sign-in came in time")
                    await client.linger(self._door.limits.close_seconds)
                return
            if not data:
                return
            viewer.heard()
            if not viewer.ending and not self._bytes.spend(len(data), trio.current_time()):
                viewer.end(CloseCode.POLICY, "too much data in too short a time")
            for event in self._decoder.feed(data):
                if await self._event(event, after):
                    return

    async def _event(self, event: Event, after: int | None) -> bool:
        """Whether the client's last word was said."""
        viewer = self._viewer
        if isinstance(event, Close):
            viewer.end(CloseCode.NORMAL if event.code == CloseCode.NO_STATUS else event.code, "")
            return True
        if viewer.ending:
            return False
        if isinstance(event, Violation):
            viewer.end(event.code, event.reason)
        elif not self._frames.spend(1, trio.current_time()):
            viewer.end(CloseCode.POLICY, "too many messages in too short a time")
        elif isinstance(event, Ping):
            viewer.pong(event.data)
        elif isinstance(event, Text):
            await self._text(event.text, after)
        return False

    async def _text(self, text: str, after: int | None) -> None:
        token = _offered_token(text)
        if self._attachment is None:
            self._sign_in(token, after)
        elif token is not None:
            self._renew(token)
        else:
            await self._type_all([line for line in text.splitlines() if line.strip()])

    def _sign_in(self, token: str | None, after: int | None) -> None:
        if token is None:
            self._viewer.end(CloseCode.UNAUTHENTICATED, 'the first message must be {"auth": "<token>"}')
            return
        try:
            grant = self._door.admit(token, self._vmid, self._address)
        except ProblemError as problem:
            self._viewer.end(_close_code(problem), problem.message)
            return
        self._join(grant, after)

    def _renew(self, token: str) -> None:
        """A fresh token in place of one that runs out; the old one stays where the new one is no good."""
        try:
            grant = self._door.admit(token, self._vmid, self._address)
        except ProblemError as problem:
            self._viewer.notice(problem.code, problem.message)
            return
        self._hold(grant)

    async def _type_all(self, lines: list[str]) -> None:
        """In order: what comes after one that is too many is not carried out either."""
        for typed, line in enumerate(lines):
            try:
                await self._type(line)
            except TooManyError as problem:
                self._viewer.throttled(problem, len(lines) - typed)
                return
            except ProblemError as problem:
                self._viewer.notice(problem.code, problem.message)

    async def _type(self, line: str) -> None:
        """Raises ProblemError."""
        if self._attachment is None or self._grant is None:
            return
        if not self._grant.may_type:
            raise ForbiddenError("you may watch this console, but not type", code="not_permitted")
        if len(line.encode(errors="replace")) > self._limits.max_line:
            raise InvalidError(f"a command has at most {self._limits.max_line} bytes")
        # The right to type may have come after the viewer did.
        self._stay.hold(self._grant.principal, may_type=True)
        await self._attachment.send_line(line)
        self._stay.typed()

    def _tick(self, now: float) -> None:
        self._viewer.tick(now)
        if self._grant is None or self._expiry_told:
            return
        left = self._grant.expires_at - time.time()
        if left <= self._limits.expiry_notice_seconds:
            self._expiry_told = True
            self._viewer.event("token_expiring", {"seconds": max(0, round(left))})


def _switching(key: bytes, request_id: bytes) -> bytes:
    return build_response(
        101,
        [
            (b"upgrade", b"websocket"),
            (b"connection", b"Upgrade"),
            (b"sec-websocket-accept", accept_key(key)),
            (b"x-request-id", request_id),
        ],
    )


def _format(query: dict[str, list[str]]) -> Format:
    try:
        return Format(query.get("format", ["text"])[0])
    except ValueError:
        raise Refusal(400, "format is text or json", code="invalid") from None


def _after(query: dict[str, list[str]]) -> int | None:
    given = query.get("after")
    if given is None:
        return None
    if re.fullmatch("[0-9]{1,16}", given[0]) is None:
        raise Refusal(400, "after is the sequence number of a line", code="invalid")
    return int(given[0])


def _token(head: RequestHead, query: dict[str, list[str]]) -> str | None:
    """From Authorization, else from the access_token query value: browsers cannot set fields on a websocket."""
    authorization = head.get(b"authorization")
    if authorization is not None:
        scheme, _, token = authorization.decode("latin1").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Refusal(401, "Authorization must be Bearer and a token", code="unauthenticated")
        return token.strip()
    return query.get("access_token", [None])[0]


def _offered_token(text: str) -> str | None:
    """The token of an {"auth": "<token>"} message; anything else is a command."""
    if not text.startswith("{"):
        return None
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if isinstance(message, dict) and list(message) == ["auth"] and isinstance(message["auth"], str):
        return message["auth"]
    return None


def _close_code(problem: ProblemError) -> CloseCode:
    if isinstance(problem, UnauthenticatedError):
        return CloseCode.UNAUTHENTICATED
    if isinstance(problem, ForbiddenError):
        return CloseCode.FORBIDDEN
    if isinstance(problem, AbsentError):
        return CloseCode.GONE
    if isinstance(problem, TooManyError | UnavailableError):
        return CloseCode.TRY_AGAIN
    return CloseCode.INTERNAL
