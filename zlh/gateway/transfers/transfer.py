"""One transfer: who asked for what, and how it is answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import trio

from zlh.gateway.connection import Reason
from zlh.gateway.doors import Arrival, Tools
from zlh.gateway.refusals import Refusal
from zlh.gateway.relay import CutError
from zlh.gateway.transfers.addresses import Address
from zlh.model.console import Grant, Visit
from zlh.model.errors import InvalidError
from zlh.model.paths import clean_path
from zlh.wire.browsers import cors_fields
from zlh.wire.http import Fields, RequestHead, build_response

_REFUSALS = {
    4401: (401, "unauthenticated"),
    4403: (403, "forbidden"),
    4404: (404, "not_found"),
}


@dataclass(slots=True)
class Transfer:
    """`status` is that of the answer, once the client has got at least its head: from then on it can only be told by
    closing. For the record: `subject` is the file or backup that is on its way, `moved` its bytes that got through,
    and `written` are the files that are in their places, with their sizes."""

    arrival: Arrival
    tools: Tools
    address: Address
    grant: Grant
    status: int | None = None
    subject: str = ""
    moved: int = 0
    written: list[tuple[str, int]] = field(default_factory=list)
    _ended: tuple[int, str] | None = None
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def head(self) -> RequestHead:
        return self.arrival.head

    @property
    def vmid(self) -> int:
        return self.address.vmid

    @property
    def visit(self) -> Visit:
        agent = (self.head.get(b"user-agent") or b"").decode("latin1")
        return Visit(self.vmid, self.arrival.address, agent, self.arrival.request_id.decode("latin1"))

    def path(self, name: str = "path") -> str:
        """A path of the query. Raises InvalidError."""
        try:
            query = parse_qs(
                self.head.query.decode("ascii"), keep_blank_values=True, max_num_fields=20, errors="strict"
            )
        except ValueError:
            raise InvalidError.of((name, "is not UTF-8 in percent escapes")) from None
        given = query.get(name, [])
        if len(given) > 1:
            raise InvalidError.of((name, "is there more than once"))
        return clean_path(given[0] if given else "", field=name)

    async def run(self, serve: Callable[[Transfer], Awaitable[bool]]) -> bool:
        """`await serve(self)`, for as long as the grant lasts. Raises what it does; Refusal or CutError once the
        right to it has ended."""
        with self._scope:
            self.grant.on_end(self._end)
            return await serve(self)
        if self._ended is None:
            raise CutError("cancelled")
        code, reason = self._ended
        if self.status is not None:
            # A client that does not read would not see the end of its connection either.
            self.arrival.client.interrupt(Reason.ENDING)
            raise CutError(reason)
        status, word = _REFUSALS.get(code, (403, "forbidden"))
        raise Refusal(status, reason, code=word)

    def _end(self, code: int, reason: str) -> None:
        self._ended = (code, reason)
        self._scope.cancel()

    def head_of(self, status: int, fields: Fields, *, length: int | None, keep: bool) -> tuple[bytes, bool]:
        """An answer's head, and whether the connection can be used after it. `length` is the body's; None for one
        that is chunked, or for HTTP/1.0 ended by the connection's end."""
        client, head = self.arrival.client, self.head
        framing: Fields = [(b"x-request-id", self.arrival.request_id)]
        chunked = length is None and head.minor == 1
        if length is not None and status not in (204, 304):
            framing.append((b"content-length", b"%d" % length))
        elif chunked:
            framing.append((b"transfer-encoding", b"chunked"))
        keep = keep and not client.last and head.keeps_alive and (length is not None or chunked)
        if not keep:
            framing.append((b"connection", b"close"))
        elif not head.minor:
            framing.append((b"connection", b"keep-alive"))
        return build_response(status, [*fields, *framing, *self.cors()], prebuilt=self.tools.safety), keep

    def cors(self) -> Fields:
        """Without these a page of another origin is not shown the answer."""
        origin = self.head.get(b"origin")
        if origin is None or not self.tools.origin_allowed(origin.decode("latin1")):
            return []
        return cors_fields(origin)

    async def answer(self, status: int, fields: Fields, body: bytes = b"", *, keep: bool = True) -> bool:
        """A whole small answer; whether the connection can be used again."""
        message, keep = self.head_of(status, fields, length=len(body), keep=keep)
        self.status = status
        await self.arrival.client.send(message if self.head.method == b"HEAD" else message + body)
        return keep
