"""Hypercorn behind the gateway: on a private unix socket, where nobody but the gateway speaks to it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart import Quart, websocket
from quart.signals import got_websocket_exception

from zlh.wire.frames import CloseCode
from zlh.wire.http import MAX_HEAD

_FAILED = "zlh.websocket_failed"
_Scope = dict[str, Any]
_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]


def config(socket_path: str) -> Config:
    """Settings for a peer that is always the gateway: it has bounded heads, bodies and frames already, and its idle
    connections must outlive those in the gateway's pool, or a request would meet a closing one."""
    chosen = Config()
    chosen.bind = [f"unix:{socket_path}"]
    chosen.umask = 0o177
    chosen.backlog = 1024
    # Heads grow on the way by what the gateway adds.
    chosen.h11_max_incomplete_size = MAX_HEAD + 8 * 1024
    chosen.keep_alive_timeout = 3600
    chosen.keep_alive_max_requests = 1_000_000
    chosen.websocket_max_message_size = 64 * 1024
    # Answers and event streams end by the gateway's drain; what is left then is not worth waiting for.
    chosen.graceful_timeout = 1
    chosen.include_server_header = False
    chosen.alpn_protocols = ["http/1.1"]
    chosen.accesslog = None
    chosen.errorlog = logging.getLogger("hypercorn.error")
    return chosen


async def serve_app(
    app: Quart,
    socket_path: str,
    shutdown_trigger: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves the application until `shutdown_trigger` returns, then lets it shut down (`after_serving` runs)."""
    with got_websocket_exception.connected_to(_note_failure, sender=app):
        await serve(
            partial(_with_websocket_endings, app),
            config(socket_path),
            shutdown_trigger=shutdown_trigger,
            task_status=task_status,
            mode="asgi",
        )


async def _note_failure(_sender: Quart, **_details: object) -> None:
    cast(_Scope, websocket.scope)[_FAILED] = True


async def _with_websocket_endings(app: Quart, scope: _Scope, receive: _Receive, send: _Send) -> None:
    """Makes websockets end in one way under every version of Quart-Trio.

    Quart closes with 1000, "all is well", when a handler failed after it accepted: 1011 is sent instead. A client
    that leaves cancels the handler; Quart-Trio 0.12 does that too, but 0.13 raises an exception in it, which is then
    logged as if it were an error.
    """
    if scope["type"] != "websocket":
        await app(scope, receive, send)  # type: ignore[arg-type]
        return

    async def send_truthfully(message: dict[str, Any]) -> None:
        if message["type"] == "websocket.close" and scope.get(_FAILED):
            message = {**message, "code": int(CloseCode.INTERNAL), "reason": "internal error"}
        await send(message)

    async def receive_or_leave() -> dict[str, Any]:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            visit.cancel()
            await trio.lowlevel.checkpoint()
        return message

    with trio.CancelScope() as visit:
        await app(scope, receive_or_leave, send_truthfully)  # type: ignore[arg-type]
