"""Which web pages may call: CORS for HTTP, the Origin check for websockets."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from zlh.wire.browsers import cors_fields

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]

METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
HEADERS = (
    b"Authorization, Content-Type, Idempotency-Key, X-Request-Id, Last-Event-ID, If-Match, If-None-Match, If-Range, "
    b"Range, Tus-Resumable, Upload-Length, Upload-Metadata, Upload-Offset, X-HTTP-Method-Override"
)
MAX_AGE = b"600"
DEFAULT_PORTS = {"http": 80, "https": 443}


class Origins:
    """Allowed origins; the word "loopback" among them allows every page served from this machine. They may be written
    as people write them: what is compared is the one way in which browsers write an origin."""

    def __init__(self, allowed: Iterable[str]) -> None:
        names = set(allowed)
        self._loopback = "loopback" in names
        self._names = {as_browsers_write(name) for name in names - {"loopback"}}

    def allow(self, origin: str) -> bool:
        """False for anything that is not a listed origin, `null` and nonsense included."""
        return origin.lower() in self._names or (self._loopback and _on_loopback(origin))


def as_browsers_write(origin: str) -> str:
    """In lower case, the host in ASCII (IDNA), without the scheme's own port: RFC 6454, section 6.2. Raises
    ValueError for what cannot be written so."""
    parts = urlsplit(origin)
    host = parts.hostname or ""
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    if ":" in host:
        host = f"[{host}]"
    port = "" if parts.port in (None, DEFAULT_PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def answer_fields(origins: Origins, origin: bytes | None) -> list[tuple[bytes, bytes]]:
    """What an answer to a page of that origin carries; nothing where the request named none or another one."""
    if origin is None or not origins.allow(origin.decode("latin-1")):
        return []
    return cors_fields(origin)


class Cors:
    """An ASGI application around another. A request without an Origin header passes untouched."""

    def __init__(self, inner: Application, origins: Origins) -> None:
        self._inner = inner
        self._origins = origins

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        origin = _header(scope, b"origin") if scope["type"] == "http" else None
        if origin is None:
            await self._inner(scope, receive, send)
            return
        if scope["method"] == "OPTIONS" and _header(scope, b"access-control-request-method") is not None:
            await _preflight(origin, self._origins.allow(origin.decode("latin-1")), send)
            return
        headers = answer_fields(self._origins, origin)

        async def send_with_headers(event: Any) -> None:
            if event["type"] == "http.response.start":
                event = {**event, "headers": [*event["headers"], *headers]}
            await send(event)

        await self._inner(scope, receive, send_with_headers)


async def _preflight(origin: bytes, allowed: bool, send: Send) -> None:
    """204 either way: the missing headers are what makes the browser refuse."""
    headers = [(b"content-length", b"0")]
    if allowed:
        headers += [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", HEADERS),
            (b"access-control-max-age", MAX_AGE),
        ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _header(scope: Any, name: bytes) -> bytes | None:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def _on_loopback(origin: str) -> bool:
    try:
        parts = urlsplit(origin)
        host = parts.hostname or ""
        if parts.scheme not in ("http", "https") or parts.path or parts.query or parts.fragment or parts.username:
            return False
        return host == "localhost" or host.endswith(".localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
