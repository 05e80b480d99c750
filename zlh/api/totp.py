"""/api/auth/totp: the second factor of one's own account."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints
from quart import Response

from zlh.api.answers import Answer
from zlh.api.bodies import Body, Password, TotpCode
from zlh.api.call import Call, json_response
from zlh.model.servers import rfc3339_of

Code = Annotated[TotpCode, StringConstraints(min_length=1)]


class BeginTotp(Body):
    password: Password


class ConfirmTotp(Body):
    """`totp` is a code of the app that was given the secret."""

    totp: Code


class PasswordAndCode(Body):
    """`totp` is a code of the app, or a recovery code."""

    password: Password
    totp: Code


class TotpState(Answer):
    """`required`: operators must have a second factor here, and this is one's account."""

    enabled: bool
    since: str | None
    recovery_codes_left: int
    required: bool


class BegunTotp(Answer):
    """`secret` is base32; `uri` (otpauth://) is what a QR code shows. Nothing is switched on yet."""

    secret: str
    uri: str


class RecoveryCodes(Answer):
    """They are shown this once."""

    recovery_codes: list[str]


async def totp_state(call: Call) -> Response:
    state = await call.services.people.second_factor.state(call.principal)
    return json_response(
        {
            "enabled": state.since is not None,
            "since": rfc3339_of(state.since),
            "recoveryCodesLeft": state.recovery_codes_left,
            "required": state.required,
        }
    )


async def begin_totp(call: Call) -> Response:
    body: BeginTotp = call.body
    begun = await call.services.people.second_factor.begin(call.principal, body.password, call.address)
    return json_response({"secret": begun.secret, "uri": begun.uri})


async def confirm_totp(call: Call) -> Response:
    body: ConfirmTotp = call.body
    codes = await call.services.people.second_factor.confirm(call.principal, body.totp, call.address)
    return json_response({"recoveryCodes": codes})


async def renew_recovery_codes(call: Call) -> Response:
    body: PasswordAndCode = call.body
    codes = await call.services.people.second_factor.renew_codes(
        call.principal, body.password, body.totp, call.address
    )
    return json_response({"recoveryCodes": codes})


async def disable_totp(call: Call) -> Response:
    body: PasswordAndCode = call.body
    await call.services.people.second_factor.switch_off(call.principal, body.password, body.totp, call.address)
    return json_response({"ok": True})
