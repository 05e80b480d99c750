"""/api/operators/accounts: the accounts of others, for operators; and acting in a customer's place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints
from quart import Response

from zlh.accounts import Overseer
from zlh.api import answers, auth
from zlh.api.answers import Answer
from zlh.api.bodies import Body, Query, Reason
from zlh.api.call import Call, json_response
from zlh.model.access import Sight
from zlh.model.accounts import Account, Role, Suspension
from zlh.model.servers import rfc3339_of


class AccountsQuery(Query):
    """`query` is part of an e-mail address, a user name or a display name, or an id; `before` is the id of the last
    account of the page before."""

    query: Annotated[str, StringConstraints(max_length=254)] = ""
    role: Literal["customer", "operator", "admin"] | None = None
    before: Annotated[int | None, Field(ge=1, lt=1 << 62)] = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class Because(Body):
    """Why, for the audit record."""

    reason: Reason


class NewRole(Body):
    role: Role


class Act(Body):
    """The customer is told the reason. Nothing can be changed unless `readOnly` is false."""

    reason: Reason
    read_only: bool = True


class OverseenAccount(Answer):
    """`suspendedAt` is since when the account is suspended, by whomever; `suspendsAt` when an unpaid one will be."""

    id: int
    email: str
    username: str
    display_name: str
    first_name: str
    last_name: str
    role: Role
    plan: str | None
    billing_status: str | None
    created_at: str
    email_verified_at: str | None
    second_factor_at: str | None
    suspended_at: str | None
    suspended_by: list[Suspension]
    suspends_at: str | None
    disabled_at: str | None


class AccountPage(Answer):
    accounts: list[OverseenAccount]
    next: str | None


class ChangedAccount(Answer):
    account: OverseenAccount


class AccountDetails(ChangedAccount):
    """`containers` are its own, `sessions` those that are alive."""

    containers: int
    sessions: int


class SignedOut(Answer):
    """How many sessions ended."""

    sessions: int


class ActingToken(Answer):
    token: str
    expires_in: int
    token_type: str
    read_only: bool
    user: answers.User


async def list_accounts(call: Call) -> Response:
    query: AccountsQuery = call.query
    found = await call.services.people.oversight.search(
        words=query.query, role=Role(query.role) if query.role else None, before=query.before, limit=query.limit + 1
    )
    page = found[: query.limit]
    following = str(page[-1].id) if len(found) > query.limit else None
    return json_response({"accounts": [overseen(account) for account in page], "next": following})


async def one_account(call: Call, account_id: int) -> Response:
    account, sessions = await call.services.people.oversight.look(account_id)
    containers = len(call.services.fleet.containers(Sight(account_id)))
    return json_response({"account": overseen(account), "containers": containers, "sessions": sessions})


async def suspend(call: Call, account_id: int) -> Response:
    return await _changed(call, account_id, call.services.people.oversight.suspend)


async def unsuspend(call: Call, account_id: int) -> Response:
    return await _changed(call, account_id, call.services.people.oversight.unsuspend)


async def disable(call: Call, account_id: int) -> Response:
    return await _changed(call, account_id, call.services.people.oversight.disable)


async def enable(call: Call, account_id: int) -> Response:
    return await _changed(call, account_id, call.services.people.oversight.enable)


async def set_role(call: Call, account_id: int) -> Response:
    body: NewRole = call.body
    call.audit.details["role"] = body.role.value
    account = await call.services.people.oversight.set_role(_overseer(call), account_id, body.role)
    return json_response({"account": overseen(account)})


async def sign_out(call: Call, account_id: int) -> Response:
    ended = await call.services.people.oversight.sign_out(_overseer(call), account_id)
    call.audit.details["sessions"] = ended
    return json_response({"sessions": ended})


async def act(call: Call, account_id: int) -> Response:
    body: Act = call.body
    call.audit.details["reason"] = body.reason
    call.audit.details["read_only"] = body.read_only
    opened = await call.services.people.acting.begin(
        call.principal, account_id, reason=body.reason, read_only=body.read_only
    )
    call.audit.details["session"] = opened.session_id
    return json_response(
        {
            "token": opened.token,
            "expiresIn": opened.expires_in,
            "tokenType": "Bearer",
            "readOnly": body.read_only,
            "user": auth.user(opened.account),
        },
        201,
    )


async def _changed(call: Call, account_id: int, change: Callable[[Overseer, int], Awaitable[Account]]) -> Response:
    if isinstance(call.body, Because):
        call.audit.details["reason"] = call.body.reason
    return json_response({"account": overseen(await change(_overseer(call), account_id))})


def _overseer(call: Call) -> Overseer:
    return Overseer(call.principal.role, call.principal.account_id)


def overseen(account: Account) -> dict[str, Any]:
    return {
        "id": account.id,
        "email": account.email,
        "username": account.username,
        "displayName": account.display_name,
        "firstName": account.first_name,
        "lastName": account.last_name,
        "role": account.role.value,
        "plan": account.plan,
        "billingStatus": account.billing_status,
        "createdAt": rfc3339_of(account.created_at),
        "emailVerifiedAt": rfc3339_of(account.email_verified_at),
        "secondFactorAt": rfc3339_of(account.second_factor_at),
        "suspendedAt": rfc3339_of(account.suspended_at),
        "suspendedBy": [who.value for who in account.suspended_by],
        "suspendsAt": rfc3339_of(account.suspends_at),
        "disabledAt": rfc3339_of(account.disabled_at),
    }
