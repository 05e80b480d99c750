"""/api/servers/<vmid>/retrieval: a suspended server is on for a while, so that its data can be fetched."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from quart import Response

from zlh.api.answers import Answer, Operation
from zlh.api.bodies import Body
from zlh.api.call import Call, json_response
from zlh.api.operations import operation_json


class Retrieve(Body):
    """For how many minutes from now on; what lasts longer already stays."""

    minutes: Annotated[int, Field(ge=5, le=240)] = 60


class Retrieving(Answer):
    """`operation` is what starts the server; null where it is on already, with status 200. `retrievalUntil` may be
    sooner than asked for: the last retrieval of a day ends eight hours after its first one began. The game stays
    stopped."""

    ok: Literal[True]
    retrieval_until: str
    operation: Operation | None


async def retrieve(call: Call, vmid: int) -> Response:
    body: Retrieve = call.body
    call.audit.details["minutes"] = body.minutes
    fleet = call.services.fleet
    operation = await fleet.retrieve(vmid, seconds=body.minutes * 60.0, actor_id=call.principal.actor_id)
    if operation is not None:
        call.audit.details["operation"] = operation.id
    answer = {
        "ok": True,
        "retrievalUntil": fleet.server(vmid).as_dict()["retrievalUntil"],
        "operation": None if operation is None else operation_json(operation),
    }
    return json_response(answer, 200 if operation is None else 202)
