"""GET /api/operations/<id>/events: an operation's progress as server-sent events, resumable by revision.

id: <revision>
event: operation
data: <the operation>
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from types import TracebackType

import orjson
import trio
from quart import Response
from quart.wrappers.response import ResponseBody
from quart_trio.wrappers import TrioResponse

from zlh.api.call import Call
from zlh.api.operations import operation_json, visible
from zlh.api.services import Services
from zlh.model.accounts import Principal
from zlh.model.operations import Operation

HEARTBEAT_SECONDS = 15.0


async def follow_operation(call: Call, operation_id: str) -> Response:
    """204 when the client has seen the end already: that is what stops a browser's EventSource."""
    operation = await visible(call, operation_id)
    after = _last_seen(call.request.headers.get("Last-Event-ID", ""))
    if operation.state.final and operation.revision <= after:
        return TrioResponse(b"", 204)
    body = OperationEvents(call.services, call.principal, operation, after)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    response = TrioResponse(body, 200, headers, content_type="text/event-stream")
    response.timeout = None
    return response


def _last_seen(header: str) -> int:
    return int(header) if header.isascii() and header.isdigit() and len(header) < 10 else -1


class OperationEvents(ResponseBody):
    """The stream; it ends with the operation, or with the right to see it."""

    def __init__(self, services: Services, principal: Principal, operation: Operation, after: int) -> None:
        self._services = services
        self._principal = principal
        self._operation = operation
        self._after = after
        self._stack = AsyncExitStack()
        self._waiting = trio.CancelScope()
        self._over = False

    async def __aenter__(self) -> OperationEvents:
        # The owner's right does not end with the container: the last that is told of a teardown is its success.
        own = self._principal.sees(self._operation.owner_id)
        vmid = None if own else self._operation.vmid
        grant = self._services.access.stay(self._principal, vmid, suspended=True)
        self._stack.callback(grant.release)
        grant.on_end(self._end)
        self._states = await self._stack.enter_async_context(self._services.fleet.follow(self._operation.id))
        return self

    async def __aexit__(
        self, exc_type: type | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._over:
            operation = await self._next()
            if operation is None:
                # Says that we are here, and finds out whether the client is.
                return b": still here\n\n"
            if operation.revision > self._after:
                self._after = operation.revision
                return _event(operation)
        raise StopAsyncIteration

    async def _next(self) -> Operation | None:
        """None when nothing happened for a while. Raises StopAsyncIteration at the end."""
        with trio.move_on_after(HEARTBEAT_SECONDS) as self._waiting:
            return await anext(self._states)
        return None

    def _end(self, code: int, reason: str) -> None:
        self._over = True
        self._waiting.cancel()


def _event(operation: Operation) -> bytes:
    return b"id: %d\nevent: operation\ndata: %b\n\n" % (operation.revision, orjson.dumps(operation_json(operation)))
