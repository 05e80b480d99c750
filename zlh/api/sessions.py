"""/api/auth/sessions: where one is signed in. Who ends a session ends its access tokens and open connections too."""

from __future__ import annotations

from typing import Any

from quart import Response

from zlh.api.answers import Answer
from zlh.api.bodies import Query
from zlh.api.call import Call, json_response
from zlh.model.servers import rfc3339_of
from zlh.store.sessions import Session


class EndAllQuery(Query):
    """`current`: also the session that asks."""

    current: bool = False


class OneSession(Answer):
    """`operator`: support acts in the account's place, for `reason`; from where is not the account's to know."""

    id: str
    current: bool
    created_at: str
    last_used_at: str
    expires_at: str
    address: str | None
    agent: str | None
    operator: bool
    reason: str | None


class Sessions(Answer):
    sessions: list[OneSession]


async def list_sessions(call: Call) -> Response:
    principal = call.principal
    found = await call.services.people.sessions.of(principal)
    return json_response({"sessions": [session_json(session, principal.session_id) for session in found]})


async def end_session(call: Call, session_id: str) -> Response:
    await call.services.people.sessions.end(call.principal, session_id)
    call.audit.details["session"] = session_id
    return json_response({"ok": True})


async def end_all(call: Call) -> Response:
    query: EndAllQuery = call.query
    ended = await call.services.people.sessions.end_all(call.principal, keep_current=not query.current)
    call.audit.details["sessions"] = ended
    return json_response({"ok": True})


def session_json(session: Session, current_id: str) -> dict[str, Any]:
    operator = session.operator_id is not None
    return {
        "id": session.id,
        "current": session.id == current_id,
        "createdAt": rfc3339_of(session.created_at),
        "lastUsedAt": rfc3339_of(session.last_used_at),
        "expiresAt": rfc3339_of(session.expires_at),
        "address": None if operator else session.address or None,
        "agent": None if operator else session.agent or None,
        "operator": operator,
        "reason": session.reason,
    }
