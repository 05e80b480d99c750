"""/api/operators: the supervision tree, for those who must see at 03:12 why something is as it is."""

from __future__ import annotations

from typing import Any

from quart import Response

from zlh.api.call import Call, json_response
from zlh.model.errors import AbsentError
from zlh.model.servers import rfc3339

TIMES = frozenset({"answeredAt", "at", "lastPoll", "nextPoll", "nextTry", "startedAt", "writtenAt"})


async def actors(call: Call) -> Response:
    return json_response({"actors": _told(call.services.tree.snapshot().as_dict())})


async def one_actor(call: Call, path: str) -> Response:
    try:
        snapshot = call.services.tree.snapshot_of(path)
    except LookupError:
        raise _absent(path) from None
    return json_response({"actor": _told(snapshot.as_dict())})


async def restart(call: Call, path: str) -> Response:
    call.audit.details["path"] = path
    try:
        call.services.tree.restart(path)
    except LookupError:
        raise _absent(path) from None
    return json_response({"ok": True})


async def release(call: Call, path: str) -> Response:
    """Ends a quarantine now."""
    call.audit.details["path"] = path
    try:
        call.services.tree.release(path)
    except LookupError:
        raise _absent(path) from None
    return json_response({"ok": True})


def _told(value: Any, name: str = "") -> Any:
    """The runtime counts in Unix seconds; the contract writes times as RFC 3339."""
    if isinstance(value, dict):
        return {key: _told(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_told(item) for item in value]
    return rfc3339(value) if name in TIMES and isinstance(value, float) else value


def _absent(path: str) -> AbsentError:
    return AbsentError(f"there is no actor {path!r}")
