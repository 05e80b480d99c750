"""/api/auth and /api/users: registering, signing in and out, one's own account."""

from __future__ import annotations

from typing import Any

from quart import Response

from zlh.accounts import ReusedError, SignedIn
from zlh.api.bodies import Login, Profile, Refresh, Register
from zlh.api.call import Call, json_response
from zlh.model.accounts import Account
from zlh.model.plans import plan_of
from zlh.model.servers import rfc3339_of


async def register(call: Call) -> Response:
    body: Register = call.body
    signed_in = await call.services.people.sign_in.register(
        email=body.email,
        username=body.username,
        password=body.password,
        first_name=body.first_name,
        last_name=body.last_name,
        display_name=body.display_name,
        address=call.address,
        agent=call.agent,
    )
    _note(call, signed_in)
    return json_response({"ok": True} | _tokens(signed_in), 201)


async def login(call: Call) -> Response:
    body: Login = call.body
    signed_in = await call.services.people.sign_in.login(
        identifier=body.identifier,
        password=body.password,
        totp=body.totp,
        address=call.address,
        agent=call.agent,
    )
    _note(call, signed_in)
    return json_response(_tokens(signed_in))


async def refresh(call: Call) -> Response:
    body: Refresh = call.body
    try:
        signed_in = await call.services.people.sign_in.refresh(body.refresh_token, address=call.address)
    except ReusedError:
        call.audit.details["reused"] = True
        raise
    _note(call, signed_in)
    return json_response(_tokens(signed_in))


async def logout(call: Call) -> Response:
    await call.services.people.sessions.sign_out(call.principal)
    return json_response({"ok": True})


async def me(call: Call) -> Response:
    account = await call.services.accounts.account(call.principal.account_id)
    return json_response({"ok": True, "user": user(account)})


async def change_me(call: Call) -> Response:
    body: Profile = call.body
    account = await call.services.accounts.rename(
        call.principal.account_id,
        display_name=body.display_name,
        first_name=body.first_name,
        last_name=body.last_name,
    )
    return json_response({"ok": True, "user": user(account)})


async def profile(call: Call) -> Response:
    account = await call.services.accounts.account(call.principal.account_id)
    plan = plan_of(account, call.services.plans)
    return json_response(
        {
            "billing_status": account.billing_status,
            "plan_name": plan.title or plan.name if plan else None,
            "plan_price": plan.price_cents / 100 if plan else None,
        }
    )


def user(account: Account) -> dict[str, Any]:
    """The contract's `user`; two of its names are in snake case."""
    return {
        "id": account.id,
        "email": account.email,
        "username": account.username,
        "displayName": account.display_name,
        "firstName": account.first_name,
        "lastName": account.last_name,
        "role": account.role.value,
        "billing_status": account.billing_status,
        "suspended_at": rfc3339_of(account.suspended_at or account.suspends_at),
        "emailVerified": account.email_verified_at is not None,
        "secondFactor": account.second_factor_at is not None,
    }


def _note(call: Call, signed_in: SignedIn) -> None:
    call.audit.by(signed_in.account.id)
    call.audit.details["session"] = signed_in.session_id


def _tokens(signed_in: SignedIn) -> dict[str, Any]:
    return {
        "token": signed_in.token,
        "refreshToken": signed_in.refresh_token,
        "expiresIn": signed_in.expires_in,
        "tokenType": "Bearer",
        "user": user(signed_in.account),
    }
