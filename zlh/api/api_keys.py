"""/api/auth/api-keys: one's API keys. Only somebody who signed in manages them, never a key."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AwareDatetime, Field, StringConstraints
from quart import Response

from zlh.api.answers import Answer
from zlh.api.bodies import Body, Name
from zlh.api.call import Call, json_response
from zlh.model.access import Scope
from zlh.model.servers import rfc3339_of
from zlh.store.api_keys import ApiKey


class CreateApiKey(Body):
    """`expiresAt` is in the future, at most ten years; without it the key is good until it is deleted."""

    name: Annotated[Name, StringConstraints(min_length=1)]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))]
    expires_at: AwareDatetime | None = None


class OneApiKey(Answer):
    id: str
    name: str
    scopes: list[Scope]
    created_at: str
    expires_at: str | None
    last_used_at: str | None
    last_used_address: str | None


class ApiKeys(Answer):
    api_keys: list[OneApiKey]


class CreatedApiKey(Answer):
    """`key` is the key itself; nobody can see it again."""

    api_key: OneApiKey
    key: str


async def list_keys(call: Call) -> Response:
    keys = await call.services.people.api_keys.list(call.principal)
    return json_response({"apiKeys": [key_json(key) for key in keys]})


async def create_key(call: Call) -> Response:
    """Knows no Idempotency-Key: the answer, which is a secret, would have to be kept."""
    body: CreateApiKey = call.body
    key, token = await call.services.people.api_keys.create(
        call.principal, name=body.name, scopes=body.scopes, expires_at=body.expires_at, address=call.address
    )
    call.audit.details["key"] = key.id
    call.audit.details["scopes"] = [scope.value for scope in Scope if scope in key.scopes]
    return json_response({"apiKey": key_json(key), "key": token}, 201)


async def delete_key(call: Call, key_id: str) -> Response:
    await call.services.people.api_keys.revoke(call.principal, key_id)
    call.audit.details["key"] = key_id
    return json_response({"ok": True})


def key_json(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": [scope.value for scope in Scope if scope in key.scopes],
        "createdAt": rfc3339_of(key.created_at),
        "expiresAt": rfc3339_of(key.expires_at),
        "lastUsedAt": rfc3339_of(key.last_used_at),
        "lastUsedAddress": key.last_used_address or None,
    }
