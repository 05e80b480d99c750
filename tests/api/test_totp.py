from __future__ import annotations

import time
from typing import Any

import pyotp
import pytest

from tests.api.world import PASSWORD, Answer, World, open_world
from zlh.api.totp import BegunTotp, RecoveryCodes, TotpState
from zlh.model.accounts import Role

TOTP = "/api/auth/totp"


async def sign_in(world: World, totp: Any = None) -> Answer:
    body = {"identifier": "ada", "password": PASSWORD} | ({} if totp is None else {"totp": totp})
    return await world.call("POST", "/api/auth/login", json=body)


async def switch_on(world: World, token: str) -> tuple[pyotp.TOTP, list[str]]:
    begun = await world.call("POST", TOTP, token, {"password": PASSWORD})
    assert begun.status == 200
    BegunTotp.model_validate_json(begun.raw)
    app = pyotp.TOTP(begun.json["secret"])
    confirmed = await world.call("POST", f"{TOTP}/confirm", token, {"totp": app.at(time.time(), counter_offset=-1)})
    assert confirmed.status == 200
    RecoveryCodes.model_validate_json(confirmed.raw)
    return app, confirmed.json["recoveryCodes"]


async def test_the_whole_journey(world: World) -> None:
    _, token = await world.account("ada")
    state = await world.call("GET", TOTP, token)
    assert state.json == {"enabled": False, "since": None, "recoveryCodesLeft": 0, "required": False}
    app, codes = await switch_on(world, token)
    state = await world.call("GET", TOTP, token)
    TotpState.model_validate_json(state.raw)
    assert (state.json["enabled"], state.json["recoveryCodesLeft"]) == (True, 10)
    assert state.json["since"].endswith("Z")
    for missing in (None, ""):
        answer = await sign_in(world, missing)
        assert (answer.status, answer.json["code"]) == (401, "totp_required")
    wrong = await sign_in(world, "000000")
    assert (wrong.status, wrong.json["code"]) == (401, "wrong_totp")
    code = app.at(time.time(), counter_offset=1)
    assert (await sign_in(world, f"{code[:3]} {code[3:]}")).json["tokenType"] == "Bearer"
    replayed = await sign_in(world, code)
    assert (replayed.status, replayed.json["code"]) == (401, "wrong_totp")
    assert (await sign_in(world, codes[0].upper())).status == 200
    assert (await sign_in(world, codes[0])).json["code"] == "wrong_totp"
    both = {"password": PASSWORD, "totp": codes[1]}
    renewed = await world.call("POST", f"{TOTP}/recovery-codes", token, both)
    assert len(renewed.json["recoveryCodes"]) == 10
    assert (await sign_in(world, codes[2])).json["code"] == "wrong_totp"
    both["totp"] = renewed.json["recoveryCodes"][0]
    assert (await world.call("DELETE", TOTP, token, both)).json == {"ok": True}
    assert (await sign_in(world)).status == 200


async def test_it_is_told_in_which_order_things_are_done(world: World) -> None:
    _, token = await world.account("ada")
    early = await world.call("POST", f"{TOTP}/confirm", token, {"totp": "123456"})
    assert (early.status, early.json["code"]) == (409, "totp_not_begun")
    off = await world.call("DELETE", TOTP, token, {"password": PASSWORD, "totp": "123456"})
    assert (off.status, off.json["code"]) == (409, "totp_off")
    wrong = await world.call("POST", TOTP, token, {"password": "wrong password"})
    assert (wrong.status, wrong.json["code"]) == (403, "wrong_password")
    # The sign-in itself is as good as it was.
    assert (await world.call("GET", "/api/auth/me", token)).status == 200
    await switch_on(world, token)
    again = await world.call("POST", TOTP, token, {"password": PASSWORD})
    assert (again.status, again.json["code"]) == (409, "totp_on")


@pytest.mark.parametrize("totp", [123456, True, ["123456"], {"$ne": ""}, "1" * 65, "12\x00345", "1234\r\n56"])
async def test_what_is_no_text_is_no_code(world: World, totp: Any) -> None:
    _, token = await world.account("ada")
    await switch_on(world, token)
    answer = await sign_in(world, totp)
    assert (answer.status, answer.json["details"][0]["field"]) == (400, "totp")
    answer = await world.call("DELETE", TOTP, token, {"password": PASSWORD, "totp": totp})
    assert (answer.status, answer.json["details"][0]["field"]) == (400, "totp")
    assert (await world.call("GET", TOTP, token)).json["enabled"] is True


@pytest.mark.parametrize(
    "code",
    ["\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9", "\u0661\u0662\u0663\u0664\u0665\u0666", "12345\u00b2", "\u4e00", " - "],
)
async def test_no_code_is_one_in_other_scripts(world: World, code: str) -> None:
    _, token = await world.account("ada")
    assert (await world.call("POST", TOTP, token, {"password": PASSWORD})).status == 200
    answer = await world.call("POST", f"{TOTP}/confirm", token, {"totp": code})
    assert (answer.status, answer.json["code"]) == (403, "wrong_totp")


async def test_a_stolen_access_token_guesses_neither_password_nor_code(world: World) -> None:
    _, token = await world.account("ada")
    await switch_on(world, token)
    body = {"password": "wrong password", "totp": "000000"}
    for method, path in (("POST", f"{TOTP}/confirm"), ("DELETE", TOTP)):
        statuses = {(await world.call(method, path, token, body)).status for _ in range(20)}
        assert 429 in statuses
        assert statuses <= {403, 409, 429}
    assert (await world.call("GET", TOTP, token)).json["enabled"] is True


async def test_operators_who_must_have_one_get_their_role_with_it(postgres_url: str) -> None:
    async with open_world(postgres_url, operators_need_second_factor=True) as world:
        _, token = await world.account("ada", Role.OPERATOR)
        assert (await world.call("GET", TOTP, token)).json["required"] is True
        owed = await world.call("GET", "/api/operators/actors", token)
        assert (owed.status, owed.json["code"]) == (403, "second_factor_needed")
        await switch_on(world, token)
        assert (await world.call("GET", "/api/operators/actors", token)).status == 200


async def test_no_secret_of_it_is_in_the_document_or_in_other_answers(world: World) -> None:
    _, token = await world.account("ada")
    app, codes = await switch_on(world, token)
    for path in ("/api/auth/me", TOTP, "/api/auth/sessions", "/api/audit"):
        shown = (await world.call("GET", path, token)).raw.decode()
        assert not any(secret in shown for secret in (app.secret, *codes))
