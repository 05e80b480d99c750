"""/api/servers/<vmid>/name: the name that a server is found under."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, StringConstraints
from quart import Response

from zlh.api.answers import Answer
from zlh.api.bodies import Body
from zlh.api.call import Call, json_response
from zlh.model.containers import Container
from zlh.model.names import CHOSEN_LENGTHS, chosen_name


class ChooseName(Body):
    """`name`: 3 to 40 letters, digits and single hyphens between them."""

    name: Annotated[
        str,
        StringConstraints(min_length=CHOSEN_LENGTHS[0], max_length=CHOSEN_LENGTHS[1]),
        AfterValidator(chosen_name),
    ]


class Renamed(Answer):
    """`name`: the one that was chosen (null: none); `hostname`: the full name that players use from now on."""

    ok: Literal[True]
    name: str | None
    hostname: str


async def choose(call: Call, vmid: int) -> Response:
    body: ChooseName = call.body
    call.audit.details["name"] = body.name
    return _answer(await call.services.fleet.rename(vmid, body.name))


async def give_up(call: Call, vmid: int) -> Response:
    return _answer(await call.services.fleet.rename(vmid, None))


def _answer(row: Container) -> Response:
    return json_response({"ok": True, "name": row.label, "hostname": row.dns_name})
