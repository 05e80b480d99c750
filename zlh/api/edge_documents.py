"""What targets of the edge ask for: Traefik its routes, Prometheus its targets. Each has its own token."""

from __future__ import annotations

import hmac

import orjson
import trio
from quart import Response
from quart_trio.wrappers import TrioResponse

from zlh.api.call import Call, raw_json
from zlh.edge.prometheus import groups
from zlh.model.errors import AbsentError, UnauthenticatedError, UnavailableError
from zlh.store import accounts

RETRY_SECONDS = 1.0
SLICE = 200
"""So many containers are written down before others have their turn."""


async def traefik(call: Call) -> Response:
    """304 where the target has it already."""
    documents = call.services.documents
    _admit(call, documents.traefik_token)
    assert documents.traefik is not None
    document = documents.traefik.document()
    if document is None:
        raise _not_yet()
    documents.traefik.fetched()
    headers = {"ETag": document.tag, "Cache-Control": "no-cache"}
    if document.tag in call.request.headers.get("If-None-Match", ""):
        return TrioResponse(b"", 304, headers)
    return TrioResponse(document.body, 200, headers, content_type="application/json")


async def prometheus(call: Call) -> Response:
    documents = call.services.documents
    _admit(call, documents.prometheus_token)
    assert documents.exporters is not None
    if not documents.book.loaded.is_set():
        raise _not_yet()
    plans = await call.services.database.run(accounts.plans)
    publications = list(documents.book)
    parts = []
    for start in range(0, len(publications), SLICE):
        parts.append(orjson.dumps(groups(publications[start : start + SLICE], documents.exporters, plans))[1:-1])
        await trio.lowlevel.checkpoint()
    return raw_json(b"[" + b",".join(filter(None, parts)) + b"]")


def _admit(call: Call, token: str) -> None:
    if not token:
        raise AbsentError("there is no such address")
    offered = call.request.headers.get("Authorization", "")
    if not hmac.compare_digest(offered.encode(), f"Bearer {token}".encode()):
        raise UnauthenticatedError("this address has a token of its own")


def _not_yet() -> UnavailableError:
    """Whoever asks keeps what it was told last."""
    return UnavailableError("not all containers are known yet", retry_after=RETRY_SECONDS)
