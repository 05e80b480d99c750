"""The bridge plugin of a Velocity proxy: the Minecraft servers that players can be sent to, by name.

    POST /zpack/register    {"server_name", "address", "port"}
    POST /zpack/unregister  {"server_name"}; 404: it is gone already
    GET  /zpack/list        [{"server_name", "address", "port"}], or the same list as "servers" of an object

Each with the header X-Zpack-Secret, the hex SHA-256 of the shared secret. The bridge keeps no marks and forgets with
the proxy: which servers are ours only our own ledger says. Velocity's names are the same in any case.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import trio

from zlh.drivers.errors import AlreadyExists, DriverError, Invalid, NotFound, Refused, Unreachable
from zlh.model.edge import Change, Entry, Found, Verb, endpoint

KIND = "server"
CONNECTIONS = 8
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0
MAX_ANSWER_BYTES = 8 << 20
MAX_SERVERS = 50_000

LOOK_SECONDS = 15.0
"""How often it is looked at at least: a proxy that was restarted has forgotten everything, and tells nobody."""


@dataclass(frozen=True, slots=True)
class Server:
    """`name` in lower case."""

    name: str
    address: str
    port: int

    @property
    def entry(self) -> Entry:
        return Entry(0, KIND, self.name, endpoint(self.address, self.port))


class VelocityBridge:
    """A `System`. `base_url` is the bridge's."""

    kind = "velocity"
    batch = 50
    per_second = 500.0

    def __init__(self, base_url: str, secret: str) -> None:
        self._client = httpx.AsyncClient(
            base_url=base_url.rstrip("/"),
            headers={
                "X-Zpack-Secret": hashlib.sha256(secret.encode()).hexdigest(),
                "Accept": "application/json",
                # Never compressed: a small answer must not unpack into a large one.
                "Accept-Encoding": "identity",
                "User-Agent": "zlh",
            },
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
            # No proxies and no .netrc from the environment: both would meet the secret.
            trust_env=False,
            follow_redirects=False,
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def look(self, names: Collection[str] | None) -> Sequence[Found]:
        found = [server.entry for server in await self._list()]
        return [Found(entry, None) for entry in found if names is None or entry.name in names]

    async def apply(self, changes: Sequence[Change]) -> Sequence[str | None]:
        """Looks once more, right before: what has come to a name meanwhile is left alone."""
        there = {server.name: server.entry.value for server in await self._list()}
        answers: list[str | None] = [None] * len(changes)
        failures: list[DriverError] = []
        turns = trio.CapacityLimiter(CONNECTIONS)

        async def make(index: int, change: Change) -> None:
            async with turns:
                if failures:
                    return
                try:
                    answers[index] = await self._make(change, there.get(change.entry.name))
                except DriverError as error:
                    failures.append(error)

        async with trio.open_nursery() as nursery:
            for index, change in enumerate(changes):
                nursery.start_soon(make, index, change)
        if failures:
            raise failures[0]
        return answers

    async def _make(self, change: Change, there: str | None) -> str | None:
        """One change, where `there` is what its name leads to now; why it could not be made."""
        entry = change.entry
        if change.verb is Verb.REMOVE:
            return await self._unregister(entry.name) if there == entry.value else None
        if there == entry.value:
            return None
        ours = change.before.value if change.before is not None else None
        if there not in (None, ours):
            return f"{entry.name} leads to {there} there, which is somebody else's"
        try:
            await self._register(entry)
        except AlreadyExists:
            if there is None:
                return f"{entry.name} was taken by somebody else there"
            await self._unregister(entry.name)
            await self._register(entry)
        except Refused as error:
            return _of_one(error)
        return None

    async def _register(self, entry: Entry) -> None:
        host, _, port = entry.value.rpartition(":")
        wish = {"server_name": entry.name, "address": host.strip("[]"), "port": int(port)}
        await self._call("POST", "/zpack/register", wish)

    async def _unregister(self, name: str) -> str | None:
        try:
            await self._call("POST", "/zpack/unregister", {"server_name": name})
        except NotFound:
            return None
        except Refused as error:
            return _of_one(error)
        return None

    async def _list(self) -> list[Server]:
        return parse_servers(await self._call("GET", "/zpack/list"))

    async def _call(self, method: str, path: str, document: object = None) -> bytes:
        """The body of a good answer. Raises DriverError."""
        mutation = method != "GET"
        try:
            with trio.fail_after(ANSWER_SECONDS):
                async with self._client.stream(method, path, json=document) as answer:
                    body = await _body(answer)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.InvalidURL) as error:
            raise Unreachable(f"{path}: {_words(error)}") from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise Unreachable(f"{path}: {_words(error)}", may_have_happened=mutation) from error
        except trio.TooSlowError:
            raise Unreachable(f"{path}: no answer within {ANSWER_SECONDS:g} s", may_have_happened=mutation) from None
        _check(path, answer.status_code, body, mutation)
        return body


def parse_servers(body: bytes) -> list[Server]:
    """Raises Invalid: half a list would look as if the other half had been removed."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Invalid("the list of servers is not JSON") from None
    servers = document.get("servers") if isinstance(document, dict) else document
    if not isinstance(servers, list) or len(servers) > MAX_SERVERS:
        raise Invalid(f"the list of servers is no list of at most {MAX_SERVERS}")
    return [_server(one, index) for index, one in enumerate(servers)]


def _server(one: Any, index: int) -> Server:
    if not isinstance(one, dict):
        raise Invalid(f"servers[{index}] is not an object")
    name, address, port = one.get("server_name"), one.get("address"), one.get("port")
    if not isinstance(name, str) or not name:
        raise Invalid(f"servers[{index}] has no `server_name`")
    if not isinstance(address, str) or not address:
        raise Invalid(f"servers[{index}] has no `address`")
    if type(port) is not int or not 0 < port < 65536:
        raise Invalid(f"servers[{index}] has no `port`")
    return Server(name.lower(), address, port)


def _check(path: str, status: int, body: bytes, mutation: bool) -> None:
    if 200 <= status < 300:
        return
    words = f"{path} answered with status {status}{_reason(body)}"
    if status == 404:
        raise NotFound(words)
    if status == 409:
        raise AlreadyExists(words)
    if status == 429 or not 400 <= status < 500:
        raise Unreachable(words, may_have_happened=mutation and status != 429)
    raise Refused(words, status=status)


def _of_one(error: Refused) -> str:
    """What the bridge has against this one change. Raises the error where it takes nothing from us at all."""
    if error.status in (401, 403):
        raise error
    return error.message


def _reason(body: bytes) -> str:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    words = document.get("error") if isinstance(document, dict) else None
    return f": {''.join(filter(str.isprintable, words))[:200]}" if isinstance(words, str) else ""


async def _body(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for piece in answer.aiter_raw():
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise Invalid(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
    return bytes(body)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
