"""Idempotency-Key: the same key and request give the stored answer again, so that a retry creates nothing twice."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import trio
from quart import Response

from zlh.api.call import Call, raw_json
from zlh.model.errors import InvalidError, ProblemError
from zlh.store import StoreUnavailable, idempotency
from zlh.store.idempotency import Stored

log = logging.getLogger(__name__)

WELL_FORMED = re.compile(r"[\x21-\x7e]{1,200}")


async def once(call: Call, key: str, route: str, work: Callable[[], Awaitable[Response]]) -> Response:
    """Does `work`, or repeats its answer. A refusal is not kept: nothing was done, so the key may be used again.

    Raises MismatchError for another request with that key, ConflictError while the first one is still at it.
    """
    if not WELL_FORMED.fullmatch(key):
        raise InvalidError("an Idempotency-Key is 1 to 200 printable ASCII characters without spaces")
    database = call.services.database
    address = f"{route} {call.request.path}?".encode() + call.request.query_string
    digest = hashlib.sha256(address + b"\n" + call.raw).hexdigest()
    now = datetime.now(UTC)
    claim = await database.run(idempotency.claim, call.principal.account_id, key, digest, now)
    if isinstance(claim, Stored):
        response = raw_json(claim.body, claim.status)
        response.headers["Idempotency-Replayed"] = "true"
        return response
    call.claim = claim
    # A client that goes away must not leave work done and its answer unrecorded.
    with trio.CancelScope(shield=True):
        try:
            response = await work()
        except ProblemError as problem:
            # Where it may have happened all the same, the claim stays, and the key is refused for a while.
            if not (isinstance(problem, StoreUnavailable) and problem.may_have_committed):
                await _quietly(database.run(idempotency.release, claim))
            raise
        body = await response.get_data(as_text=False)
        await _quietly(database.run(idempotency.complete, claim, response.status_code, body))
    return response


async def _quietly(write: Awaitable[bool]) -> None:
    """The answer is what counts; that it could not be recorded is ours to know."""
    try:
        await write
    except StoreUnavailable as error:
        log.warning("an idempotency key could not be recorded: %s", error)
