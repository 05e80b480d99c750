from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import bcrypt

from tests.api.world import PASSWORD, World, open_world
from tests.store.samples import owe
from zlh.model.servers import rfc3339_of
from zlh.store import accounts

ADA = {"email": "ada@example.com", "username": "ada", "password": PASSWORD, "firstName": "Ada"}


async def test_the_whole_journey(world: World) -> None:
    registered = await world.call("POST", "/api/auth/register", json=ADA)
    assert registered.status == 201
    assert registered.json["ok"] is True
    assert registered.json["user"]["firstName"] == "Ada"
    login = await world.call("POST", "/api/auth/login", json={"identifier": "ADA", "password": PASSWORD})
    assert (login.status, login.json["tokenType"]) == (200, "Bearer")
    token = login.json["token"]
    me = await world.call("GET", "/api/auth/me", token)
    assert me.json == {"ok": True, "user": registered.json["user"]}
    changed = await world.call("PATCH", "/api/auth/me", token, {"displayName": " Ada L. ", "role": "admin"})
    assert changed.json["user"]["displayName"] == "Ada L."
    assert (changed.json["user"]["firstName"], changed.json["user"]["role"]) == ("Ada", "customer")
    refreshed = await world.call("POST", "/api/auth/refresh", json={"refreshToken": login.json["refreshToken"]})
    assert refreshed.status == 200
    assert (await world.call("POST", "/api/auth/logout", refreshed.json["token"])).json == {"ok": True}
    for old in (token, refreshed.json["token"]):
        assert (await world.call("GET", "/api/auth/me", old)).status == 401
    again = await world.call("POST", "/api/auth/refresh", json={"refreshToken": refreshed.json["refreshToken"]})
    assert (again.status, again.json["code"]) == (401, "signed_out")


async def test_a_grace_is_a_suspension_in_the_future(world: World) -> None:
    ada, token = await world.account("ada")
    run = world.services.database.run

    async def told() -> tuple[int, str | None]:
        answer = await world.call("GET", "/api/auth/me", token)
        return answer.status, answer.json["user"]["suspended_at"]

    assert await told() == (200, None)
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=7)
    await run(partial(owe, account_id=ada.id, suspends_at=ends))
    assert await told() == (200, rfc3339_of(ends))
    assert (await world.call("GET", "/api/servers", token)).status == 200
    await run(partial(accounts.suspend, account_id=ada.id, now=ends - timedelta(days=6)))
    assert await told() == (200, rfc3339_of(ends - timedelta(days=6)))


async def test_taken_and_wrong(world: World) -> None:
    await world.call("POST", "/api/auth/register", json=ADA)
    taken = await world.call("POST", "/api/auth/register", json=ADA | {"email": "ADA@EXAMPLE.com"})
    assert (taken.status, taken.json["code"]) == (409, "taken")
    assert taken.json["details"] == {"fields": ["email", "username"]}
    wrong = await world.call("POST", "/api/auth/login", json={"identifier": "ada", "password": "nope nope"})
    unknown = await world.call("POST", "/api/auth/login", json={"identifier": "eve", "password": "nope nope"})
    assert (wrong.status, wrong.json["error"]) == (unknown.status, unknown.json["error"])
    assert wrong.status == 401


BAD_REGISTRATIONS: list[tuple[dict[str, Any], set[str]]] = [
    ({"email": "nobody"}, {"email"}),
    ({"email": "a@b"}, {"email"}),
    ({"username": "ad"}, {"username"}),
    ({"username": "a@example.com"}, {"username"}),
    ({"username": "\u0430da"}, {"username"}),
    ({"password": "short"}, {"password"}),
    ({"password": "x" * 129}, {"password"}),
    ({"password": 12345678, "email": None, "username": []}, {"password", "email", "username"}),
    ({"firstName": "a\u0000b"}, {"firstName"}),
    ({"lastName": "x" * 65}, {"lastName"}),
    ({"displayName": "a\r\nSet-Cookie: x"}, {"displayName"}),
    ({"displayName": "gnp.\u202ecod"}, {"displayName"}),
    ({"email": "<script>@example.com"}, {"email"}),
    ({"email": "a,b@example.com"}, {"email"}),
    ({"email": "a\u200bb@example.com"}, {"email"}),
    ({"email": "a@example.com>"}, {"email"}),
]


async def test_every_problem_of_a_registration_is_listed(world: World) -> None:
    for changes, fields in BAD_REGISTRATIONS:
        answer = await world.call("POST", "/api/auth/register", json=ADA | changes)
        assert (answer.status, answer.json["code"]) == (400, "invalid")
        assert {problem["field"] for problem in answer.json["details"]} == fields
        assert PASSWORD not in answer.raw.decode()
    assert await world.services.database.run(accounts.all_accounts) == []


async def test_quotes_are_text(world: World) -> None:
    name = "Robert'); DROP TABLE accounts;--"
    answer = await world.call("POST", "/api/auth/register", json=ADA | {"displayName": name})
    assert answer.json["user"]["displayName"] == name
    for identifier in ("' OR 1=1 --", "ada' --", "%", "_da"):
        wrong = await world.call("POST", "/api/auth/login", json={"identifier": identifier, "password": PASSWORD})
        assert wrong.status == 401


async def test_attempts_are_limited_and_say_for_how_long(world: World) -> None:
    statuses = []
    for _ in range(15):
        answer = await world.call("POST", "/api/auth/login", json={"identifier": "ada", "password": "wrong one"})
        statuses.append(answer.status)
    assert statuses[0] == 401
    assert statuses[-1] == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json["code"] == "too_many_requests"


async def test_limits_are_per_client_address(world: World) -> None:
    async def attempt(identifier: str, address: str) -> int:
        body = {"identifier": identifier, "password": "wrong one"}
        return (await world.call("POST", "/api/auth/login", json=body, X_Forwarded_For=address)).status

    # Some come back while the others are hashed.
    assert 429 in [await attempt(f"user{number}", "192.0.2.1") for number in range(60)]
    assert await attempt("user1000", "192.0.2.2") == 401


async def test_closed_registration(postgres_url: str) -> None:
    async with open_world(postgres_url, registration=False) as world:
        answer = await world.call("POST", "/api/auth/register", json=ADA)
        assert (answer.status, answer.json["code"]) == (403, "registration_closed")


async def test_profile(world: World) -> None:
    _, token = await world.account("ada")
    _, planless = await world.account("bob", plan=None)
    assert (await world.call("GET", "/api/users/profile", token)).json == {
        "billing_status": "active",
        "plan_name": "Starter",
        "plan_price": 9.0,
    }
    assert (await world.call("GET", "/api/users/profile", planless)).json["plan_name"] is None


async def test_bad_authorization(world: World) -> None:
    for header in ("", "Bearer", "Bearer ", "Basic YTpi", "Bearer x.y.z", "Bearer " + "x" * 9000):
        answer = await world.call("GET", "/api/servers", Authorization=header)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


COMMON = ["password123", "PASSWORD123", "ada@example.com", "Ada@Example.COM", "ilovemyself", "12345678"]


async def test_passwords_that_everybody_has_are_refused(world: World) -> None:
    for password in COMMON:
        answer = await world.call("POST", "/api/auth/register", json=ADA | {"password": password})
        assert (answer.status, answer.json["code"]) == (400, "invalid")
        assert [problem["field"] for problem in answer.json["details"]] == ["password"]
        assert password not in answer.raw.decode()
    assert await world.services.database.run(accounts.all_accounts) == []


async def test_a_disabled_account_hears_what_a_wrong_password_hears(world: World) -> None:
    ada, _ = await world.account("ada")
    body = {"identifier": "ada", "password": PASSWORD}
    tokens = (await world.call("POST", "/api/auth/login", json=body)).json
    await world.services.database.run(accounts.disable, ada.id, ada.created_at)
    disabled = await world.call("POST", "/api/auth/login", json=body)
    wrong = await world.call("POST", "/api/auth/login", json=body | {"password": "wrong password"})
    assert disabled.status == wrong.status == 401
    assert disabled.json | {"requestId": ""} == wrong.json | {"requestId": ""}
    refused = await world.call("POST", "/api/auth/refresh", json={"refreshToken": tokens["refreshToken"]})
    assert (refused.status, refused.json["code"]) == (401, "signed_out")


async def test_an_old_hash_signs_in_over_http(world: World) -> None:
    ada, _ = await world.account("ada")
    stored = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    await world.services.database.run(accounts.set_password_hash, ada.id, stored)
    body = {"identifier": "ada@example.com", "password": PASSWORD}
    assert (await world.call("POST", "/api/auth/login", json=body)).status == 200
    account = await world.services.database.run(accounts.by_id, ada.id)
    assert account is not None
    assert account.password_hash.startswith("$argon2id$")


async def test_a_right_password_helps_nobody_who_is_over_the_limit(world: World) -> None:
    await world.account("ada")
    wrong = {"identifier": "ada", "password": "wrong password"}
    for _ in range(40):
        if (await world.call("POST", "/api/auth/login", json=wrong, X_Forwarded_For="192.0.2.1")).status == 429:
            break
    right = {"identifier": "ADA@example.com", "password": PASSWORD}
    answer = await world.call("POST", "/api/auth/login", json=right, X_Forwarded_For="192.0.2.2")
    assert answer.status == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
