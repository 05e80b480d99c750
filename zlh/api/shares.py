"""/api/servers/<vmid>/shares: with whom one shares a container; /api/shares: what others share with oneself."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema
from quart import Response

from zlh.api.answers import Answer
from zlh.api.bodies import Body, Email
from zlh.api.call import Call, json_response
from zlh.model.access import SHAREABLE, Permission
from zlh.model.errors import AbsentError
from zlh.model.servers import rfc3339_of
from zlh.store.shares import Received, Share

SHARE_ID = re.compile(r"[0-9a-f]{1,64}")


def _shareable(given: object) -> Permission:
    if not isinstance(given, str) or given not in SHAREABLE:
        raise ValueError(f"only these can be given: {', '.join(SHAREABLE)}")
    return Permission(given)


Shareable = Annotated[
    Permission, BeforeValidator(_shareable), WithJsonSchema({"type": "string", "enum": [*SHAREABLE]})
]
Permissions = Annotated[list[Shareable], Field(min_length=1, max_length=2 * len(Permission))]


class GiveShare(Body):
    email: Email
    permissions: Permissions


class ChangeShare(Body):
    """Replaces what was given."""

    permissions: Permissions


class OneShare(Answer):
    """`createdBy` is the user name of who gave it. Whether `email` has an account is not told."""

    id: str
    email: str
    permissions: list[Permission]
    created_at: str
    created_by: str


class Shares(Answer):
    shares: list[OneShare]


class Shared(Answer):
    share: OneShare


class OneReceived(Answer):
    """`name` is the container's, `owner` its owner's user name."""

    id: str
    vmid: int
    name: str
    owner: str
    permissions: list[Permission]
    created_at: str


class ReceivedShares(Answer):
    shares: list[OneReceived]


async def list_shares(call: Call, vmid: int) -> Response:
    found = await call.services.people.shares.of_container(vmid)
    return json_response({"shares": [share_json(share) for share in found]})


async def give(call: Call, vmid: int) -> Response:
    body: GiveShare = call.body
    share = await call.services.people.shares.give(call.principal, vmid, body.email, body.permissions)
    _note(call, share)
    return json_response({"share": share_json(share)}, 201)


async def change(call: Call, vmid: int, share_id: str) -> Response:
    body: ChangeShare = call.body
    share = await call.services.people.shares.change(vmid, _checked(share_id), body.permissions)
    _note(call, share)
    return json_response({"share": share_json(share)})


async def withdraw(call: Call, vmid: int, share_id: str) -> Response:
    share = await call.services.people.shares.withdraw(vmid, _checked(share_id))
    _note(call, share)
    return json_response({"ok": True})


async def list_received(call: Call) -> Response:
    found = await call.services.people.shares.received(call.principal.account_id)
    return json_response({"shares": [received_json(share) for share in found]})


async def leave(call: Call, share_id: str) -> Response:
    call.audit.vmid = await call.services.people.shares.leave(call.principal.account_id, _checked(share_id))
    call.audit.details["share"] = share_id
    return json_response({"ok": True})


def share_json(share: Share) -> dict[str, Any]:
    return {
        "id": share.id,
        "email": share.email,
        "permissions": _listed(share.permissions),
        "createdAt": rfc3339_of(share.created_at),
        "createdBy": share.given_by,
    }


def received_json(share: Received) -> dict[str, Any]:
    return {
        "id": share.id,
        "vmid": share.vmid,
        "name": share.name,
        "owner": share.owner,
        "permissions": _listed(share.permissions),
        "createdAt": rfc3339_of(share.created_at),
    }


def _checked(share_id: str) -> str:
    """Raises AbsentError for what is no share's id: PostgreSQL's text has no room for some characters."""
    if not SHARE_ID.fullmatch(share_id):
        raise AbsentError("there is no such share")
    return share_id


def _note(call: Call, share: Share) -> None:
    call.audit.details["share"] = share.id
    call.audit.details["email"] = share.email
    call.audit.details["permissions"] = _listed(share.permissions)


def _listed(permissions: Collection[Permission]) -> list[str]:
    return [permission.value for permission in SHAREABLE if permission in permissions]
