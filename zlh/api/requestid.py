"""The id that joins a request's log lines, its answer and what a customer quotes to support."""

from __future__ import annotations

import re
import secrets

from werkzeug.datastructures import Headers

HEADER = "X-Request-Id"
WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,64}")


def request_id(headers: Headers) -> str:
    """The gateway's (or the client's) id; a new one where there is none or an odd one."""
    given = headers.get(HEADER, "")
    return given if WELL_FORMED.fullmatch(given) else secrets.token_hex(8)
