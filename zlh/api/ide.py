"""The way from the Portal into a dev container's IDE."""

from __future__ import annotations

from quart import Response

from zlh.accounts import IDE_TOKEN_SECONDS
from zlh.api.answers import Answer
from zlh.api.call import Call, json_response
from zlh.api.forwarding import DEV, require_type


class IdeToken(Answer):
    """`url` opens the IDE, once, within `expiresIn` seconds; `token` is the one in it."""

    token: str
    url: str
    expires_in: int


async def ide_token(call: Call, vmid: int) -> Response:
    require_type(call, vmid, DEV)
    token = call.services.people.ide_tokens.issue(call.principal, vmid)
    url = f"{call.services.names.url(call.services.url(), vmid)}?token={token}"
    return json_response({"token": token, "url": url, "expiresIn": IDE_TOKEN_SECONDS})
