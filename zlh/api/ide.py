"""The way from the Portal into a dev container's IDE."""

from __future__ import annotations

from quart import Response

from zlh.accounts import IDE_TOKEN_SECONDS
from zlh.api.answers import Answer
from zlh.api.call import Call, json_response
from zlh.model.containers import ContainerType
from zlh.model.errors import ConflictError


class IdeToken(Answer):
    """`url` opens the IDE, once, within `expiresIn` seconds; `token` is the one in it."""

    token: str
    url: str
    expires_in: int


async def ide_token(call: Call, vmid: int) -> Response:
    if call.services.fleet.container(vmid).ctype is not ContainerType.DEV:
        raise ConflictError("a game server has no IDE", code="not_a_dev_container")
    token = call.services.people.ide_tokens.issue(call.principal, vmid)
    url = f"{call.services.names.url(call.services.url(), vmid)}?token={token}"
    return json_response({"token": token, "url": url, "expiresIn": IDE_TOKEN_SECONDS})
