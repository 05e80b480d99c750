"""/api/auth/password and /api/auth/email: what is changed by password, or by a link in a letter."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints
from quart import Response

from zlh.accounts import LONGEST_PASSWORD, SHORTEST_PASSWORD
from zlh.api.bodies import Body, Email
from zlh.api.call import Call, json_response

LinkToken = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,200}$")]
NewPassword = Annotated[str, StringConstraints(min_length=SHORTEST_PASSWORD, max_length=LONGEST_PASSWORD)]
KnownPassword = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class ForgotPassword(Body):
    email: Email


class ResetPassword(Body):
    """`token` is the link's."""

    token: LinkToken
    password: NewPassword


class ChangePassword(Body):
    current_password: KnownPassword
    new_password: NewPassword


class VerifyEmail(Body):
    """`token` is the link's."""

    token: LinkToken


class ChangeEmail(Body):
    email: Email
    password: KnownPassword


async def forgot_password(call: Call) -> Response:
    """The same answer, whether an account has that address or not."""
    body: ForgotPassword = call.body
    account = await call.services.people.credentials.forgot(body.email, call.address)
    if account is not None:
        call.audit.subject_id = account.id
    return json_response({"ok": True}, 202)


async def reset_password(call: Call) -> Response:
    body: ResetPassword = call.body
    account = await call.services.people.credentials.reset(body.token, body.password, call.address)
    call.audit.by(account.id)
    return json_response({"ok": True})


async def change_password(call: Call) -> Response:
    body: ChangePassword = call.body
    await call.services.people.credentials.change_password(
        call.principal, body.current_password, body.new_password, call.address
    )
    return json_response({"ok": True})


async def verify_email(call: Call) -> Response:
    body: VerifyEmail = call.body
    account = await call.services.people.credentials.verify(body.token, call.address)
    call.audit.by(account.id)
    return json_response({"ok": True})


async def resend_verification(call: Call) -> Response:
    await call.services.people.credentials.resend(call.principal)
    return json_response({"ok": True}, 202)


async def change_email(call: Call) -> Response:
    """Accepted: nothing has changed before the link in the letter is used."""
    body: ChangeEmail = call.body
    call.audit.details["email"] = body.email
    await call.services.people.credentials.change_email(call.principal, body.email, body.password, call.address)
    return json_response({"ok": True}, 202)
