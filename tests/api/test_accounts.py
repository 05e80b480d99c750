"""Operators' routes of accounts: what they see and change, and what only administrators may."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
import trio

from tests.api.world import PAPER, PASSWORD, Answer, World, open_world
from tests.store.samples import owe
from zlh.accounts import Overseer
from zlh.model.access import Scope
from zlh.model.accounts import Account, Role
from zlh.model.errors import ConflictError
from zlh.store import accounts as rows
from zlh.store.tables import audit

ACCOUNTS = "/api/operators/accounts"
WHY = {"reason": "broke the rules"}


def path(account: Account, verb: str = "") -> str:
    return f"{ACCOUNTS}/{account.id}{verb and '/' + verb}"


async def test_the_list_is_searched_filtered_and_paged(world: World) -> None:
    people = [(await world.account(name))[0] for name in ("ada", "ada_b", "adax", "bob")]
    operator, token = await world.account("op", Role.OPERATOR)

    async def found(**query: Any) -> list[int]:
        words = "&".join(f"{name}={value}" for name, value in query.items())
        answer = await world.call("GET", f"{ACCOUNTS}?{words}", token)
        assert answer.status == 200, answer.raw
        return [account["id"] for account in answer.json["accounts"]]

    ada, ada_b, adax, bob = (account.id for account in people)
    assert await found() == [operator.id, bob, adax, ada_b, ada]
    assert await found(query="ADA%40EXAMPLE") == [ada]
    assert await found(query="ada_") == [ada_b]
    assert await found(query="%25") == []
    assert await found(query="a%00b") == []
    assert await found(query=bob) == [bob]
    assert await found(role="operator") == [operator.id]
    first = (await world.call("GET", f"{ACCOUNTS}?query=ada&limit=2", token)).json
    assert ([account["id"] for account in first["accounts"]], first["next"]) == ([adax, ada_b], str(ada_b))
    last = (await world.call("GET", f"{ACCOUNTS}?query=ada&limit=2&before={first['next']}", token)).json
    assert ([account["id"] for account in last["accounts"]], last["next"]) == ([ada], None)
    for odd in ("limit=0", "limit=201", "before=x", "before=0", "role=king", "query=" + "x" * 255):
        assert (await world.call("GET", f"{ACCOUNTS}?{odd}", token)).status == 400


async def test_one_account_with_what_it_has(world: World) -> None:
    ada, _ = await world.account("ada")
    world.fleet.add(ada, PAPER)
    _, token = await world.account("op", Role.OPERATOR)
    told = (await world.call("GET", path(ada), token)).json
    assert (told["containers"], told["sessions"]) == (1, 1)
    assert told["account"]["email"] == "ada@example.com"
    assert "passwordHash" not in told["account"]
    for nobody in ("999999", "0", "01", "9" * 19, "x"):
        assert (await world.call("GET", f"{ACCOUNTS}/{nobody}", token)).status == 404
    assert (await world.call("POST", f"{ACCOUNTS}/999999/suspend", token, WHY)).status == 404


async def test_a_suspension_and_its_end(world: World) -> None:
    ada, hers = await world.account("ada")
    _, token = await world.account("op", Role.OPERATOR)
    suspended = await world.call("POST", path(ada, "suspend"), token, WHY)
    assert suspended.json["account"]["suspendedAt"] is not None
    assert suspended.json["account"]["suspendedBy"] == ["operator"]
    renamed = {"displayName": "Ada L."}
    assert (await world.call("PATCH", "/api/auth/me", hers, renamed)).json["code"] == "suspended"
    for address in ("/api/auth/me", "/api/servers"):
        assert (await world.call("GET", address, hers)).status == 200
    ended = await world.call("POST", path(ada, "unsuspend"), token)
    assert ended.json["account"]["suspendedAt"] is None
    assert (await world.call("PATCH", "/api/auth/me", hers, renamed)).status == 200


async def test_an_operator_lifts_nothing_that_billing_imposed(world: World) -> None:
    ada, hers = await world.account("ada")
    _, token = await world.account("op", Role.OPERATOR)
    at = datetime(2026, 3, 1, tzinfo=UTC)
    impose = partial(owe, account_id=ada.id, suspended_at=at)
    world.access.account_changed(await world.services.database.run(impose))
    told = (await world.call("POST", path(ada, "suspend"), token, WHY)).json["account"]
    assert (told["suspendedBy"], told["suspendedAt"]) == (["operator", "billing"], "2026-03-01T00:00:00.000Z")
    told = (await world.call("POST", path(ada, "unsuspend"), token)).json["account"]
    assert (told["suspendedBy"], told["suspendedAt"]) == (["billing"], "2026-03-01T00:00:00.000Z")
    assert (await world.call("PATCH", "/api/auth/me", hers, {"displayName": "A"})).json["code"] == "suspended"


async def test_a_disabled_account_is_out_and_stays_out(world: World) -> None:
    ada, hers = await world.account("ada")
    _, token = await world.account("op", Role.OPERATOR)
    assert (await world.call("POST", path(ada, "disable"), token, WHY)).status == 200
    assert (await world.call("GET", "/api/auth/me", hers)).status == 401
    sign_in = {"identifier": "ada", "password": PASSWORD}
    assert (await world.call("POST", "/api/auth/login", json=sign_in)).status == 401
    assert (await world.call("POST", path(ada, "enable"), token)).status == 200
    # The sessions of before are not alive again.
    assert (await world.call("GET", "/api/auth/me", hers)).status == 401
    assert (await world.call("POST", "/api/auth/login", json=sign_in)).status == 200


async def test_signing_somebody_out(world: World) -> None:
    ada, hers = await world.account("ada")
    await world.services.people.sign_in.login(identifier="ada", password=PASSWORD)
    _, token = await world.account("op", Role.OPERATOR)
    assert (await world.call("POST", path(ada, "sign-out"), token)).json == {"sessions": 2}
    assert (await world.call("GET", "/api/auth/me", hers)).status == 401
    assert (await world.call("POST", path(ada, "sign-out"), token)).json == {"sessions": 0}


async def test_operators_change_no_operators(world: World) -> None:
    _, token = await world.account("op", Role.OPERATOR)
    _, admins = await world.account("root", Role.ADMIN)
    await world.account("root2", Role.ADMIN)
    colleague, theirs = await world.account("op2", Role.OPERATOR)
    chief, _ = await world.account("root3", Role.ADMIN)
    for other in (colleague, chief):
        for verb in ("suspend", "unsuspend", "disable", "enable", "sign-out"):
            assert (await world.call("POST", path(other, verb), token, WHY)).json["code"] == "forbidden"
    assert (await world.call("GET", "/api/operators/actors", theirs)).status == 200
    for other in (colleague, chief):
        for verb in ("suspend", "unsuspend", "disable", "enable", "sign-out"):
            assert (await world.call("POST", path(other, verb), admins, WHY)).status == 200, verb


async def test_a_role_counts_at_once_and_only_administrators_give_it(world: World) -> None:
    ada, hers = await world.account("ada")
    _, operators = await world.account("op", Role.OPERATOR)
    _, token = await world.account("root", Role.ADMIN)
    role = {"role": "operator"}
    assert (await world.call("PUT", path(ada, "role"), operators, role)).json["code"] == "forbidden"
    assert (await world.call("GET", "/api/operators/actors", hers)).status == 403
    assert (await world.call("PUT", path(ada, "role"), token, role)).json["account"]["role"] == "operator"
    assert (await world.call("GET", "/api/operators/actors", hers)).status == 200
    await world.call("PUT", path(ada, "role"), token, {"role": "customer"})
    assert (await world.call("GET", "/api/operators/actors", hers)).status == 403
    assert (await world.call("PUT", path(ada, "role"), token, {"role": "king"})).status == 400


async def test_a_role_is_given_by_a_person_never_by_an_api_key(world: World) -> None:
    ada, _ = await world.account("ada")
    _, token = await world.account("root", Role.ADMIN)
    made = await world.call("POST", "/api/auth/api-keys", token, {"name": "ci", "scopes": [*Scope]})
    key = made.json["key"]
    refused = await world.call("PUT", path(ada, "role"), key, {"role": "admin"})
    assert (refused.status, refused.json["code"]) == (403, "scope")
    seen = await world.call("GET", path(ada), key)
    assert seen.json["account"]["role"] == "customer"


async def test_nobody_does_that_to_oneself(world: World) -> None:
    root, token = await world.account("root", Role.ADMIN)
    await world.account("root2", Role.ADMIN)
    attempts = [("POST", "suspend", WHY), ("POST", "disable", WHY), ("PUT", "role", {"role": "customer"})]
    for method, verb, body in attempts:
        answer = await world.call(method, path(root, verb), token, body)
        assert (answer.status, answer.json["code"]) == (409, "own_account")
    assert (await world.call("GET", "/api/operators/actors", token)).status == 200


async def test_of_two_administrators_who_remove_each_other_one_stays(world: World) -> None:
    pairs = [await world.account(name, Role.ADMIN) for name in ("root", "toor")]
    (first, _), (second, _) = pairs
    answers: list[Answer] = []

    async def demote(other: Account, token: str) -> None:
        answers.append(await world.call("PUT", path(other, "role"), token, {"role": "customer"}))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(demote, second, pairs[0][1])
        nursery.start_soon(demote, first, pairs[1][1])
    # The slower one is refused as the last administrator, or is none any more.
    assert sorted(answer.status for answer in answers)[0] == 200
    assert sorted(answer.status for answer in answers)[1] in (403, 409)
    assert await world.services.database.run(rows.count, Role.ADMIN) == 1


async def test_the_last_administrator_is_only_removed_by_force(world: World) -> None:
    root, _ = await world.account("root", Role.ADMIN)
    other, _ = await world.account("other", Role.ADMIN)
    oversight = world.services.people.oversight
    await oversight.suspend(Overseer(Role.ADMIN), other.id)
    with pytest.raises(ConflictError) as refused:
        await oversight.disable(Overseer(Role.ADMIN), root.id)
    assert refused.value.code == "last_admin"
    with pytest.raises(ConflictError):
        await oversight.set_role(Overseer(Role.ADMIN), root.id, Role.OPERATOR)
    changed = await oversight.set_role(Overseer(Role.ADMIN, force=True), root.id, Role.OPERATOR)
    assert changed.role is Role.OPERATOR


async def test_what_is_done_is_in_the_record_with_its_reason(world: World) -> None:
    ada, _ = await world.account("ada")
    root, token = await world.account("root", Role.ADMIN)
    for method, verb, body in (
        ("POST", "suspend", WHY),
        ("POST", "unsuspend", None),
        ("PUT", "role", {"role": "operator"}),
        ("POST", "sign-out", None),
    ):
        assert (await world.call(method, path(ada, verb), token, body)).status == 200
    query = sa.select(audit).where(audit.c.actor_id == root.id, audit.c.action.startswith("account."))
    found = await world.services.database.run(lambda connection: connection.execute(query.order_by(audit.c.id)).all())
    assert [(row.action, row.details) for row in found] == [
        ("account.suspend", WHY),
        ("account.unsuspend", {}),
        ("account.role", {"role": "operator"}),
        ("account.sign_out", {"sessions": 1}),
    ]
    assert {(row.subject_id, row.outcome) for row in found} == {(ada.id, "done")}


@pytest.mark.parametrize("reason", ["", "short", "x" * 501, "  spaces  ", "two\nlines of it", None, 12345678])
async def test_a_reason_is_a_sentence(world: World, reason: object) -> None:
    ada, hers = await world.account("ada")
    _, token = await world.account("op", Role.OPERATOR)
    for verb in ("suspend", "disable", "act"):
        answer = await world.call("POST", path(ada, verb), token, {"reason": reason})
        assert (answer.status, answer.json["details"][0]["field"]) == (400, "reason")
    assert (await world.call("GET", "/api/servers", hers)).status == 200


async def test_an_operator_without_the_second_factor_is_a_customer_until_it_is_on(postgres_url: str) -> None:
    async with open_world(postgres_url, operators_need_second_factor=True) as world:
        ada, _ = await world.account("ada")
        operator, token = await world.account("op", Role.OPERATOR)
        world.fleet.add(ada, PAPER)
        for method, address in (("GET", ACCOUNTS), ("POST", path(ada, "suspend")), ("POST", path(ada, "act"))):
            answer = await world.call(method, address, token, WHY)
            assert (answer.status, answer.json["code"]) == (403, "second_factor_needed")
        assert (await world.call("GET", "/api/servers", token)).json == {"servers": []}
        at = operator.created_at
        world.access.account_changed(await world.services.database.run(rows.set_second_factor, operator.id, at))
        # The same token: nobody has to sign in again.
        assert (await world.call("GET", ACCOUNTS, token)).status == 200
        assert len((await world.call("GET", "/api/servers", token)).json["servers"]) == 1
        world.access.account_changed(await world.services.database.run(rows.set_second_factor, operator.id, None))
        assert (await world.call("GET", ACCOUNTS, token)).json["code"] == "second_factor_needed"
