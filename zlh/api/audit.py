"""GET /api/audit: who did what. Customers see their own acts and what was done to them, operators see all."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, StringConstraints
from quart import Response

from zlh.api.answers import Answer
from zlh.api.bodies import Query
from zlh.api.call import Call, json_response
from zlh.model.accounts import Principal, Role
from zlh.model.audit import Outcome
from zlh.model.servers import rfc3339_of
from zlh.store.audit import Entry, Person, Wanted

MOST_ID = (1 << 63) - 1

Id = Annotated[int, Field(ge=1, le=MOST_ID)]
Told = Literal["done", "refused", "failed", "unknown"]


class AuditQuery(Query):
    """`account` acted or was acted on; `action` is one action ("totp.enable") or a family ("totp"); `since` is
    included, `until` is not; `before` is the `next` of the page before."""

    account: Id | None = None
    vmid: Annotated[int | None, Field(ge=1, le=999_999_999)] = None
    action: Annotated[str | None, StringConstraints(pattern=r"^[a-z_]+(\.[a-z_]+)*$", max_length=64)] = None
    outcome: Told | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    before: Id | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class AuditPerson(Answer):
    """Of an operator a customer sees the role only."""

    id: int | None
    username: str | None
    role: Role


class AuditEntry(Answer):
    """`actor` is null where nobody was signed in. `outcome` is "unknown" while it is under way, and of what was cut
    off. What would tell where somebody else is, a customer does not see: those fields are null then."""

    id: str
    at: str
    action: str
    actor: AuditPerson | None
    subject: AuditPerson | None
    vmid: int | None
    outcome: Told
    status: int | None
    credential: str | None
    address: str | None
    agent: str | None
    request_id: str | None
    details: dict[str, Any]


class AuditPage(Answer):
    audit: list[AuditEntry]
    next: str | None


async def list_audit(call: Call) -> Response:
    """The newest first."""
    query: AuditQuery = call.query
    found = await call.services.people.audit.page(
        Wanted(
            seen_by=call.owner_filter,
            account_id=query.account,
            vmid=query.vmid,
            action=query.action,
            outcome=None if query.outcome in (None, "unknown") else Outcome(query.outcome),
            unknown=query.outcome == "unknown",
            since=query.since,
            until=query.until,
            before=query.before,
            limit=query.limit,
        )
    )
    following = str(found[-1].id) if len(found) == query.limit else None
    return json_response({"audit": [entry_json(entry, call.principal) for entry in found], "next": following})


def entry_json(entry: Entry, reader: Principal) -> dict[str, Any]:
    """One row as `reader` may see it."""
    everything = reader.role.sees_all
    # Where a stranger tried an account is for its owner to know; where a friend or an operator sits is not.
    traced = everything or entry.actor is None or entry.actor.id == reader.actor_id
    by_operator = not traced and (_overseer(entry.actor) or entry.credential.startswith("acting:"))
    details = {name: fact for name, fact in entry.details.items() if not (by_operator and name == "reason")}
    return {
        "id": str(entry.id),
        "at": rfc3339_of(entry.at),
        "action": entry.action,
        "actor": _person(entry.actor, hidden=by_operator),
        "subject": _person(entry.subject),
        "vmid": entry.vmid,
        "outcome": "unknown" if entry.outcome is None else entry.outcome.value,
        "status": entry.status,
        "credential": entry.credential if traced else None,
        "address": entry.address if traced else None,
        "agent": entry.agent if traced else None,
        "requestId": entry.request_id if traced else None,
        "details": details,
    }


def _overseer(person: Person | None) -> bool:
    return person is not None and person.role.sees_all


def _person(person: Person | None, *, hidden: bool = False) -> dict[str, Any] | None:
    if person is None:
        return None
    if hidden:
        return {"id": None, "username": None, "role": Role.OPERATOR.value}
    return {"id": person.id, "username": person.username, "role": person.role.value}
