"""The client of one container's agent."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import orjson
import trio

from zlh.drivers.agent import answers
from zlh.drivers.agent.backups import parse_backups
from zlh.drivers.agent.console import CONSOLE_PATH, ConsoleStream, NoWebsocket, open_console
from zlh.drivers.agent.wire import Answer, Connection, StaleConnection, connect
from zlh.drivers.errors import Conflict, DriverError, Invalid, Refused, Unreachable, Unsupported
from zlh.model.backups import Backups
from zlh.model.console import Stretch
from zlh.model.observed import Players, Readiness, Status, Update, Version

T = TypeVar("T")

MAX_HISTORY = 4 << 20
MAX_BACKUPS = 4 << 20
KEPT = 2
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
IDLE_SECONDS = 10.0


class AgentClient:
    """Speaks the agent contract (contracts/agent.md) with one agent. Safe to use from several tasks at once.

    `address` is an IP literal from the container's row and the only place this ever connects to: nothing is resolved
    and no redirect is followed. Time-outs are the caller's cancel scopes; a cancelled request closes its connection.
    One connection is kept open for the polls; a second is opened while that one is busy, and closed when long idle.

    Every method raises Unreachable (no whole answer came), Invalid (an answer came that is none), Refused (any status
    that is no success, with the agent's words), Conflict (409: not in this state) and Unsupported (an agent too old
    to know the call). After a failed mutation `may_have_happened` tells whether it may have been carried out.
    """

    def __init__(self, address: str, port: int, token: str, *, max_body: int = 65536) -> None:
        """`max_body` limits an answer, in bytes. Raises Invalid where `address` or `token` cannot be used."""
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            raise Invalid(f"{address!r} is not an IP address") from None
        if not token.isascii() or not token.isprintable() or " " in token:
            raise Invalid("the token has characters that cannot be sent")
        self._family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
        self._address = (str(ip), port)
        self._max_body = max_body
        host = str(ip) if ip.version == 4 else f"[{ip}]"
        self._common = f" HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token}\r\n".encode()
        self._gets: dict[str, bytes] = {}
        self._idle: list[Connection] = []
        self._closed = False

    def __repr__(self) -> str:
        return f"<AgentClient {self._address[0]}:{self._address[1]}>"

    def close(self) -> None:
        """Closes what is idle now and what is in use when it becomes idle."""
        self._closed = True
        self._close_idle()

    async def health(self) -> None:
        """GET /health: the agent lives."""
        await self._get("/health", answers.parse_health)

    async def ready(self) -> Readiness:
        """GET /ready, which also answers 503."""
        answer = await self._exchange("GET", "/ready", self._get_message("/ready"), self._max_body)
        if answer.status != 503:
            _check("/ready", answer, optional=True)
        try:
            readiness = answers.parse_readiness(answer.body)
        except Invalid as error:
            raise _placed("/ready", error) from None
        if answer.status == 503 and readiness.ready:
            raise Invalid("/ready: `ready` is true in an answer of status 503")
        return readiness

    async def status(self) -> Status:
        """GET /status."""
        return await self._get("/status", answers.parse_status)

    async def version(self) -> Version:
        """GET /version."""
        return await self._get("/version", answers.parse_version, optional=True)

    async def update_status(self) -> Update:
        """GET /update."""
        return await self._get("/update", answers.parse_update, optional=True)

    async def players(self) -> Players:
        """GET /players; Unsupported in dev containers too."""
        return await self._get("/players", answers.parse_players, optional=True)

    async def history(self, lines: int) -> tuple[str, ...]:
        """GET /console/history: up to that many of the last console lines, oldest first."""
        path = f"/console/history?lines={lines}"
        return await self._get(path, answers.parse_history, optional=True, max_body=MAX_HISTORY)

    async def backups(self) -> Backups:
        """GET /backups."""
        return await self._get("/backups", parse_backups, optional=True, max_body=MAX_BACKUPS)

    async def restore(self, backup_id: str, key: str) -> None:
        """POST /backups/<id>/restore: the agent replaces the files. Conflict while its game runs. An agent that tells
        of restores tells of this one by `key`."""
        path = _target(f"/backups/{backup_id}/restore", {})
        await self._post(path, {"key": key})

    async def numbered_history(self, lines: int, *, after: int | None = None) -> Stretch:
        """GET /console/history of an agent that numbers its lines: up to that many of the last, or of the first ones
        after the number `after`. Unsupported where it does not number them."""
        path = f"/console/history?lines={lines}" + ("" if after is None else f"&after={after}")
        stretch = await self._get(path, answers.parse_stretch, optional=True, max_body=MAX_HISTORY)
        if stretch is None:
            raise Unsupported(f"{path}: this agent does not number its lines")
        return stretch

    async def configure(self, payload: Mapping[str, Any]) -> None:
        """POST /config: the installation begins. From then on only the payload's `agent_token` is accepted."""
        await self._post("/config", payload)

    async def start(self) -> None:
        """POST /start: starts the game; Conflict where its state does not allow it, as with stop and restart."""
        await self._post("/start")

    async def stop(self) -> None:
        """POST /stop."""
        await self._post("/stop")

    async def restart(self) -> None:
        """POST /restart."""
        await self._post("/restart")

    async def kill(self) -> None:
        """POST /kill: ends the game process at once; no error where none runs."""
        await self._post("/kill", optional=True)

    async def request(
        self, method: str, path: str, body: Any = None, *, query: Mapping[str, str] | None = None, max_body: int = 0
    ) -> Answer:
        """Any call with a small JSON body, for what is only forwarded: the answer as it came, whatever its status.

        `path` is sent escaped; `max_body` in bytes, the client's own limit unless given. Raises Unreachable, Invalid.
        """
        if method not in METHODS or not path.startswith("/"):
            raise Invalid(f"{method} {path!r} is not a request")
        message = self._message(method, _target(path, query or {}), None if body is None else _encode(body))
        return await self._exchange(method, path, message, max_body or self._max_body)

    async def open_console(self, *, numbered: bool = False) -> ConsoleStream:
        """GET /console/stream as a websocket, on a connection of its own, which the caller closes. `numbered` where
        the agent's history was found to be."""
        try:
            return await open_console(self._family, self._address, self._common, self._max_body, numbered=numbered)
        except NoWebsocket as refusal:
            _check(CONSOLE_PATH, refusal.answer, optional=True)
            raise Invalid(f"{CONSOLE_PATH}: answered {refusal.answer.status} instead of a websocket") from None
        except DriverError as error:
            raise _placed(CONSOLE_PATH, error) from None

    async def _get(self, path: str, parse: Callable[[bytes], T], *, optional: bool = False, max_body: int = 0) -> T:
        answer = await self._exchange("GET", path, self._get_message(path), max_body or self._max_body)
        _check(path, answer, optional=optional)
        try:
            return parse(answer.body)
        except Invalid as error:
            raise _placed(path, error) from None

    async def _post(self, path: str, body: Mapping[str, Any] | None = None, *, optional: bool = False) -> None:
        message = self._message("POST", path, b"" if body is None else _encode(body))
        _check(path, await self._exchange("POST", path, message, self._max_body), optional=optional)

    def _get_message(self, path: str) -> bytes:
        message = self._gets.get(path)
        if message is None:
            message = self._message("GET", path, None)
            if "?" not in path:
                self._gets[path] = message
        return message

    def _message(self, method: str, target: str, body: bytes | None) -> bytes:
        line = f"{method} {target}".encode("ascii")
        if body is None:
            return line + self._common + b"\r\n"
        kind = b"Content-Type: application/json\r\n" if body else b""
        return b"%b%b%bContent-Length: %d\r\n\r\n%b" % (line, self._common, kind, len(body), body)

    async def _exchange(self, method: str, path: str, message: bytes, max_body: int) -> Answer:
        """The answer, whatever its status. A GET that meets a broken kept-open connection is sent once more."""
        try:
            return await self._send(method, message, max_body)
        except DriverError as error:
            error.may_have_happened = error.may_have_happened and method != "GET"
            raise _placed(path, error) from None

    async def _send(self, method: str, message: bytes, max_body: int) -> Answer:
        kept = self._take()
        connection = kept or await self._open()
        try:
            return await self._use(connection, message, max_body)
        except StaleConnection as gone:
            if kept is None or method != "GET":
                raise Unreachable(str(gone), may_have_happened=True) from None
        self._close_idle()
        try:
            return await self._use(await self._open(), message, max_body)
        except StaleConnection as gone:
            raise Unreachable(str(gone)) from None

    async def _use(self, connection: Connection, message: bytes, max_body: int) -> Answer:
        try:
            answer, reusable = await connection.exchange(message, max_body)
        except DriverError as error:
            error.may_have_happened = True
            raise
        if reusable:
            self._give_back(connection)
        return answer

    async def _open(self) -> Connection:
        return Connection(await connect(self._family, self._address))

    def _take(self) -> Connection | None:
        # The one used last: the polls keep theirs warm, and a command's grows old and is closed.
        while self._idle:
            connection = self._idle.pop()
            if connection.idle:
                return connection
            connection.close()
        return None

    def _give_back(self, connection: Connection) -> None:
        if self._closed or len(self._idle) >= KEPT:
            connection.close()
            return
        connection.used_at = trio.current_time()
        self._idle.append(connection)
        if len(self._idle) > 1 and self._idle[0].used_at < connection.used_at - IDLE_SECONDS:
            self._idle.pop(0).close()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()


def _placed(path: str, error: DriverError) -> DriverError:
    """The same error, saying of which call it speaks."""
    error.message = f"{path}: {error.message}"
    error.args = (error.message,)
    return error


def _encode(body: Any) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:
        raise Invalid("the request cannot be written as JSON") from None


def _target(path: str, query: Mapping[str, str]) -> str:
    """The request target, with everything escaped that could end it."""
    try:
        pairs = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query.items())
        target = quote(path, safe="/-._~")
    except UnicodeEncodeError:
        raise Invalid("the path cannot be written as UTF-8") from None
    return f"{target}?{pairs}" if pairs else target


def _check(path: str, answer: Answer, *, optional: bool = False) -> None:
    """Raises for an answer that is no success. `optional`: a call that older agents do not know."""
    status = answer.status
    if 200 <= status < 300:
        return
    if optional and status in (404, 405, 501):
        raise Unsupported(f"{path}: this agent does not know the call")
    message, details = answers.parse_refusal(answer.body)
    words = f"{path}: {message or f'answered with status {status}'}"
    if status == 409:
        raise Conflict(words)
    raise Refused(words, status=status, details=details)
