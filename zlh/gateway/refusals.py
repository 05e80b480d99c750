"""Answers that the gateway gives itself: always the one JSON envelope, always with the connection's end announced."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from math import ceil
from typing import Any

import orjson

from zlh.model.errors import ProblemError
from zlh.wire.http import Fields, RequestHead, build_response

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._\-]{1,64}")

_CODES = {
    400: "bad_request",
    404: "not_found",
    408: "request_timeout",
    413: "too_large",
    414: "too_large",
    417: "expectation_failed",
    426: "upgrade_required",
    431: "head_too_large",
    501: "not_implemented",
    502: "bad_gateway",
    503: "unavailable",
    504: "deadline_exceeded",
    505: "version_not_supported",
}


class Refusal(Exception):
    """Ends a request, and its connection, with an error envelope. `retry_after` in seconds; `fields` go with
    the answer."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str = "",
        details: Any = None,
        retry_after: float | None = None,
        fields: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code or _CODES.get(status, "internal")
        self.details = details
        self.retry_after = retry_after
        self.fields: Fields = list(fields)

    @classmethod
    def of(cls, problem: ProblemError) -> Refusal:
        return cls(
            problem.status,
            problem.message,
            code=problem.code,
            details=problem.details,
            retry_after=problem.retry_after,
        )

    def answer(self, request_id: bytes, extra: Iterable[tuple[bytes, bytes]] = (), *, prebuilt: bytes = b"") -> bytes:
        """The whole response; `prebuilt` is what `build_fields` made of what every answer carries."""
        body = orjson.dumps(
            {
                "error": self.message,
                "code": self.code,
                "details": self.details,
                "requestId": request_id.decode(),
            }
        )
        fields: Fields = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            (b"x-request-id", request_id),
            (b"connection", b"close"),
            *self.fields,
            *extra,
        ]
        if self.retry_after is not None:
            fields.append((b"retry-after", b"%d" % max(1, ceil(self.retry_after))))
        if self.status == 401:
            fields.append((b"www-authenticate", b"Bearer"))
        return build_response(self.status, fields, prebuilt=prebuilt) + body


def request_id_of(head: RequestHead | None) -> bytes:
    """The client's X-Request-Id where it is a plain word of up to 64 characters, else a new one."""
    given = head.get(b"x-request-id") if head is not None else None
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return new_request_id()


def new_request_id() -> bytes:
    return os.urandom(8).hex().encode()
