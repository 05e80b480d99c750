"""Every route, and for each who may call it: no other place says so."""

from __future__ import annotations

import functools

import orjson
from quart import Response

from zlh.api.call import Call, raw_json
from zlh.api.document import describe
from zlh.api.routes.accounts import API_KEYS, AUDIT, AUTH, CREDENTIALS, SESSIONS, TOTP
from zlh.api.routes.agents import AGENTS
from zlh.api.routes.backups import BACKUPS
from zlh.api.routes.billing import BILLING
from zlh.api.routes.containers import CATALOG, CONTAINERS, DEV, OPERATIONS, SERVERS, SHARES
from zlh.api.routes.edge import EDGE
from zlh.api.routes.idle import IDLE
from zlh.api.routes.names import NAMES
from zlh.api.routes.operators import MACHINES, PEOPLE
from zlh.api.routes.ports import PORTS
from zlh.api.routes.retrieval import RETRIEVAL
from zlh.api.routes.rollouts import ROLLOUTS
from zlh.api.routes.schedules import SCHEDULES
from zlh.api.routing import Route, Who

__all__ = ["ROUTES", "SERVERS"]


@functools.cache
def rendered_document() -> bytes:
    return orjson.dumps(describe(ROUTES))


async def openapi(call: Call) -> Response:
    return raw_json(rendered_document())


DOCUMENT = Route("GET", "/api/openapi.json", Who.PUBLIC, openapi, "This document", None)

ROUTES: tuple[Route, ...] = (
    *AUTH,
    *CREDENTIALS,
    *SESSIONS,
    *TOTP,
    *API_KEYS,
    *CONTAINERS,
    *OPERATIONS,
    *SERVERS,
    *NAMES,
    *BILLING,
    *RETRIEVAL,
    *SHARES,
    *BACKUPS,
    *DEV,
    *PORTS,
    *IDLE,
    *AGENTS,
    *AUDIT,
    *CATALOG,
    *MACHINES,
    DOCUMENT,
    *PEOPLE,
    *EDGE,
    *ROLLOUTS,
    *SCHEDULES,
)
