"""Every refusal in one shape: `{"error", "code", "details", "requestId"}`. A traceback goes to the log, never out."""

from __future__ import annotations

import logging
import math
from typing import Any

import orjson
from quart import Response, has_websocket_context, request, websocket
from quart_trio import QuartTrio
from quart_trio.wrappers import TrioResponse
from werkzeug.exceptions import HTTPException
from werkzeug.routing.exceptions import WebsocketMismatch

from zlh.api.requestid import HEADER, request_id
from zlh.model.errors import ProblemError

log = logging.getLogger(__name__)

# What Quart itself refuses, in words for a person.
SENTENCES = {
    400: ("bad_request", "the request cannot be read"),
    404: ("not_found", "there is nothing at this address"),
    405: ("method_not_allowed", "this address does not know that method"),
    408: ("request_timeout", "the request took too long to arrive"),
    413: ("too_large", "the request is too large"),
}


def envelope(problem: ProblemError, identity: str) -> Response:
    """`identity` is the request's id."""
    headers = {}
    if problem.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(problem.retry_after)))
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _response(problem.status, problem.code, problem.message, problem.details, headers, identity)


def install(app: QuartTrio) -> None:
    """What no handler turned into an answer becomes one here: unknown addresses, wrong methods, and bugs."""
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _bug)


def _response(status: int, code: str, message: str, details: Any, headers: dict[str, str], identity: str) -> Response:
    body = {"error": message, "code": code, "details": details, "requestId": identity}
    headers |= {HEADER: identity, "Cache-Control": "no-store"}
    rendered = orjson.dumps(body, default=str)
    return TrioResponse(rendered, status, headers, content_type="application/json")


def _current_id() -> str:
    return request_id(websocket.headers if has_websocket_context() else request.headers)


async def _http(error: HTTPException) -> Response:
    if isinstance(error, WebsocketMismatch):
        return _wrong_protocol()
    status = error.code or 500
    code, message = SENTENCES.get(status, ("refused", error.name.lower()))
    allowed = getattr(error, "valid_methods", None)
    headers = {"Allow": ", ".join(sorted(allowed))} if allowed else {}
    return _response(status, code, message, None, headers, _current_id())


def _wrong_protocol() -> Response:
    if has_websocket_context():
        return _response(400, "bad_request", "this address is not a websocket", None, {}, _current_id())
    return _response(426, "upgrade_required", "this address is a websocket", None, {}, _current_id())


async def _bug(error: Exception) -> Response:
    identity = _current_id()
    if isinstance(error, ProblemError):
        return envelope(error, identity)
    log.error("request %s met a bug", identity, exc_info=error)
    return _response(500, "internal", "something went wrong here; it was recorded", None, {}, identity)
