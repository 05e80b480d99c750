"""One request on its way through a handler, and the answers that handlers give."""

from __future__ import annotations

from typing import Any

import orjson
import sqlalchemy as sa
from quart import Request, Response, Websocket
from quart_trio.wrappers import TrioResponse

from zlh.api.requestid import request_id
from zlh.api.services import Services
from zlh.model.access import Sight
from zlh.model.accounts import Principal
from zlh.model.audit import Facts
from zlh.model.errors import ConflictError
from zlh.store import idempotency
from zlh.store.idempotency import Fresh


class Notes:
    """What a handler notes for the audit record: whose account it was about, which container, and `details`, by the
    names of `zlh.model.audit.FACTS`. `actor_id` only where nobody was signed in when the call came."""

    __slots__ = ("actor_id", "details", "subject_id", "vmid")

    def __init__(self) -> None:
        self.actor_id: int | None = None
        self.subject_id: int | None = None
        self.vmid: int | None = None
        self.details = Facts()

    def by(self, account_id: int) -> None:
        """Who has just proved to be the owner of that account."""
        self.actor_id = self.subject_id = account_id


class Call:
    """One request on its way through a handler. `body` and `query` are instances of what the route declares, `raw`
    is the body as it came. `claim` is the Idempotency-Key's, where the request has one. `audit` takes what the audit
    record is to say beside the call itself, `id` is the request's."""

    __slots__ = ("audit", "body", "claim", "id", "principal_or_none", "query", "raw", "request", "services")

    def __init__(self, services: Services, request: Request, principal: Principal | None) -> None:
        self.services = services
        self.request = request
        self.principal_or_none = principal
        self.raw = b""
        self.body: Any = None
        self.query: Any = None
        self.claim: Fresh | None = None
        self.audit = Notes()
        self.id = request_id(request.headers)

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
    def sight(self) -> Sight:
        """Which containers the caller sees."""
        return self.services.access.sight(self.principal)

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
