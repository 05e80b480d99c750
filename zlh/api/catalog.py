"""/api/catalog: what can be had."""

from __future__ import annotations

from quart import Response

from zlh.api.call import Call, json_response


async def games(call: Call) -> Response:
    return json_response(call.services.catalog().games_as_dict())


async def runtimes(call: Call) -> Response:
    return json_response(call.services.catalog().runtimes_as_dict())
