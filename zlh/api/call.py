"""One request on its way through a handler, and the answers that handlers give."""

from __future__ import annotations

from typing import Any

import orjson
import sqlalchemy as sa
from quart import Request, Response, Websocket
from quart_trio.wrappers import TrioResponse

from zlh.api.services import Services
from zlh.model.accounts import Principal
from zlh.model.errors import ConflictError
from zlh.store import idempotency
from zlh.store.idempotency import Fresh


class Call:
    """One request on its way through a handler. `body` and `query` are instances of what the route declares, `raw`
    is the body as it came. `claim` is the Idempotency-Key's, where the request has one."""

    __slots__ = ("body", "claim", "principal_or_none", "query", "raw", "request", "services")

    def __init__(self, services: Services, request: Request, principal: Principal | None) -> None:
        self.services = services
        self.request = request
        self.principal_or_none = principal
        self.raw = b""
        self.body: Any = None
        self.query: Any = None
        self.claim: Fresh | None = None

    @property
    def principal(self) -> Principal:
        assert self.principal_or_none is not None, "a public route asked who is calling"
        return self.principal_or_none

    def keep(self, connection: sa.Connection, status: int, body: bytes) -> None:
        """Stores the answer for the Idempotency-Key in the transaction that does the work: a kill right after it
        cannot make the same request create something twice. Raises ConflictError where another has taken it over."""
        if self.claim is not None and not idempotency.complete(connection, self.claim, status, body):
            raise ConflictError(
                "another request with this key was quicker; ask again", code="in_progress", retry_after=1
            )

    @property
    def owner_filter(self) -> int | None:
        """Whose containers the caller sees: None means everybody's."""
        return None if self.principal.role.sees_all else self.principal.account_id

    @property
    def agent(self) -> str:
        """What the client calls itself."""
        return self.request.headers.get("User-Agent") or ""

    @property
    def address(self) -> str:
        return client_address(self.request)


def client_address(request: Request | Websocket) -> str:
    """The client's address: the gateway writes it, and drops what the client wrote."""
    forwarded = request.headers.get("X-Forwarded-For")
    return forwarded.partition(",")[0].strip() if forwarded else request.remote_addr or ""


def json_response(value: Any, status: int = 200) -> Response:
    return raw_json(orjson.dumps(value), status)


def raw_json(rendered: bytes, status: int = 200) -> Response:
    return TrioResponse(rendered, status, {"Cache-Control": "no-store"}, content_type="application/json")
