"""/api/dev/<vmid>/code-server/settings: what the owner wishes of the IDE."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from quart import Response

from zlh.api.answers import Answer
from zlh.api.bodies import Body
from zlh.api.call import Call, json_response
from zlh.api.forwarding import DEV, require_type
from zlh.store import idle_stops

Minutes = Annotated[int, Field(ge=10, le=10080)]


class ChangeIdeSettings(Body):
    """`idleStopMinutes`: stop the IDE once nobody has used the container for so long; null: never."""

    idle_stop_minutes: Minutes | None


class IdeSettings(Answer):
    idle_stop_minutes: int | None


async def settings(call: Call, vmid: int) -> Response:
    require_type(call, vmid, DEV)
    return _answer(await call.services.database.run(idle_stops.get, vmid))


async def change_settings(call: Call, vmid: int) -> Response:
    require_type(call, vmid, DEV)
    body: ChangeIdeSettings = call.body
    call.audit.details["minutes"] = body.idle_stop_minutes or 0
    await call.services.database.run(idle_stops.put, vmid, body.idle_stop_minutes)
    return _answer(body.idle_stop_minutes)


def _answer(minutes: int | None) -> Response:
    return json_response({"idleStopMinutes": minutes})
