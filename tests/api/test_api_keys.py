"""API keys over HTTP: who makes them, what they are shown as, and when they end."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
import trio

from tests.api.test_servers import closing, socket
from tests.api.world import PAPER, Answer, World, open_world
from zlh.accounts.api_keys import MADE_PER_HOUR, MOST_KEYS
from zlh.api import Reads, answers
from zlh.api.api_keys import ApiKeys, CreatedApiKey
from zlh.model.access import Scope
from zlh.model.accounts import Role
from zlh.store import accounts as rows
from zlh.store import tables

PATH = "/api/auth/api-keys"
READ = Scope.SERVERS_READ.value
GOOD = {"name": "backup script", "scopes": [READ]}


async def make(world: World, token: str, **changes: Any) -> tuple[str, str]:
    """A key's id and the key."""
    answer = await world.call("POST", PATH, token, GOOD | changes)
    assert answer.status == 201, answer.raw
    CreatedApiKey.model_validate_json(answer.raw)
    return answer.json["apiKey"]["id"], answer.json["key"]


async def listed(world: World, token: str) -> list[dict[str, Any]]:
    answer = await world.call("GET", PATH, token)
    ApiKeys.model_validate_json(answer.raw)
    keys: list[dict[str, Any]] = answer.json["apiKeys"]
    return keys


def refusal(answer: Answer) -> tuple[int, str]:
    answers.Problem.model_validate_json(answer.raw)
    return answer.status, answer.json["code"]


async def test_a_key_is_shown_once_works_and_ends(world: World) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    key_id, key = await make(world, token, scopes=["console", READ], expiresAt=later.isoformat())
    assert re.fullmatch(r"zlh_[A-Za-z0-9_-]{43}", key)
    (shown,) = await listed(world, token)
    assert (shown["id"], shown["name"], shown["scopes"]) == (key_id, "backup script", [READ, "console"])
    assert shown["expiresAt"] == later.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert (shown["lastUsedAt"], shown["lastUsedAddress"]) == (None, None)
    servers = await world.call("GET", "/api/servers", key)
    assert [server["id"] for server in servers.json["servers"]] == [str(vmid)]
    assert (await world.call("DELETE", f"{PATH}/{key_id}", token)).json == {"ok": True}
    assert refusal(await world.call("GET", "/api/servers", key)) == (401, "invalid_key")
    assert refusal(await world.call("DELETE", f"{PATH}/{key_id}", token)) == (404, "not_found")
    assert await listed(world, token) == []


async def test_the_store_holds_no_key(world: World) -> None:
    _, token = await world.account("ada")
    _, key = await make(world, token)
    found = await world.services.database.run(
        lambda connection: [list(row) for row in connection.execute(sa.select(tables.api_keys))]
    )
    assert key not in str(found)
    assert key.removeprefix("zlh_") not in str(found)


BAD = [
    ({"name": ""}, {"name"}),
    ({"name": "  "}, {"name"}),
    ({"name": "x" * 65}, {"name"}),
    ({"name": "a\nb"}, {"name"}),
    ({"name": None, "scopes": None}, {"name", "scopes"}),
    ({"scopes": []}, {"scopes"}),
    ({"scopes": ["everything"]}, {"scopes.0"}),
    ({"scopes": [READ, 5]}, {"scopes.1"}),
    ({"scopes": [READ] * 100}, {"scopes"}),
    ({"scopes": ["operator"]}, {"scopes"}),
    ({"expiresAt": "2020-01-01T00:00:00Z"}, {"expiresAt"}),
    ({"expiresAt": "2100-01-01T00:00:00"}, {"expiresAt"}),
    ({"expiresAt": "tomorrow"}, {"expiresAt"}),
    ({"expiresAt": 4102444800}, {"expiresAt"}),
    ({"expiresAt": "99999-01-01T00:00:00Z"}, {"expiresAt"}),
    # No such moments in UTC, where the years end at 1 and 9999.
    ({"expiresAt": "9999-12-31T23:59:59-12:00"}, {"expiresAt"}),
    ({"expiresAt": "0001-01-01T00:00:00+12:00"}, {"expiresAt"}),
]


@pytest.mark.parametrize(("changes", "fields"), BAD)
async def test_what_is_wrong_is_named_and_makes_no_key(
    world: World, changes: dict[str, Any], fields: set[str]
) -> None:
    _, token = await world.account("ada")
    answer = await world.call("POST", PATH, token, GOOD | changes)
    assert refusal(answer) == (400, "invalid")
    assert {problem["field"] for problem in answer.json["details"]} == fields
    assert await listed(world, token) == []


async def test_an_expiry_in_any_zone_is_one_moment(world: World) -> None:
    _, token = await world.account("ada")
    year = datetime.now(UTC).year + 2
    await make(world, token, expiresAt=f"{year}-06-01T02:00:00+02:00")
    assert (await listed(world, token))[0]["expiresAt"] == f"{year}-06-01T00:00:00.000Z"


async def test_nobody_makes_them_without_end(world: World) -> None:
    _, token = await world.account("ada")
    for _ in range(MADE_PER_HOUR):
        made = await world.call("POST", PATH, token, GOOD)
        assert made.status == 201
        assert (await world.call("DELETE", f"{PATH}/{made.json['apiKey']['id']}", token)).status == 200
    refused = await world.call("POST", PATH, token, GOOD)
    assert refused.status == 429
    assert int(refused.headers["Retry-After"]) > 0
    assert await listed(world, token) == []


async def test_there_are_only_so_many(world: World) -> None:
    _, token = await world.account("ada")
    made = [await make(world, token, name=f"key {number}") for number in range(MOST_KEYS - 1)]
    answers_: list[Answer] = []

    async def one() -> None:
        answers_.append(await world.call("POST", PATH, token, GOOD))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(one)
    assert sorted(answer.status for answer in answers_) == [201, 409, 409]
    refused = next(answer for answer in answers_ if answer.status == 409)
    assert (refused.json["code"], refused.json["details"]) == ("too_many_keys", {"limit": MOST_KEYS})
    await world.call("DELETE", f"{PATH}/{made[0][0]}", token)
    await make(world, token)


async def test_keys_belong_to_one_account(world: World) -> None:
    _, ada = await world.account("ada")
    _, bob = await world.account("bob")
    key_id, key = await make(world, ada)
    assert await listed(world, bob) == []
    theirs = await world.call("DELETE", f"{PATH}/{key_id}", bob)
    nobodys = await world.call("DELETE", f"{PATH}/{'0' * 32}", bob)
    assert refusal(theirs) == refusal(nobodys) == (404, "not_found")
    assert theirs.json["error"] == nobodys.json["error"]
    assert (await world.call("GET", "/api/servers", key)).status == 200


async def test_a_key_makes_no_keys(world: World) -> None:
    _, token = await world.account("op", Role.ADMIN)
    key_id, key = await make(world, token, scopes=[scope.value for scope in Scope])
    for method, path in (("GET", PATH), ("POST", PATH), ("DELETE", f"{PATH}/{key_id}")):
        assert refusal(await world.call(method, path, key, GOOD)) == (403, "scope")
    assert len(await listed(world, token)) == 1


async def test_an_operators_key_without_the_scope_is_a_customers(world: World) -> None:
    ada, _ = await world.account("ada")
    _, token = await world.account("op", Role.OPERATOR)
    vmid = world.fleet.add(ada, PAPER).vmid
    _, plain = await make(world, token)
    _, strong = await make(world, token, scopes=[READ, "operator"])
    assert (await world.call("GET", "/api/servers", plain)).json["servers"] == []
    assert refusal(await world.call("GET", f"/api/servers/{vmid}", plain)) == (404, "not_found")
    assert refusal(await world.call("GET", "/api/operators/actors", plain)) == (403, "scope")
    assert (await world.call("GET", f"/api/servers/{vmid}", strong)).status == 200
    assert (await world.call("GET", "/api/operators/actors", strong)).status == 200


async def test_a_former_operators_key_is_a_customers(world: World) -> None:
    operator, token = await world.account("op", Role.OPERATOR)
    _, key = await make(world, token, scopes=[READ, "operator"])
    await world.services.database.run(rows.set_role, operator.id, Role.CUSTOMER)
    world.access.account_changed(replace(operator, role=Role.CUSTOMER))
    assert refusal(await world.call("GET", "/api/operators/actors", key)) == (403, "forbidden")


async def test_the_gateways_own_answers_honour_scopes(world: World) -> None:
    ada, token = await world.account("ada")
    world.fleet.add(ada, PAPER)
    reads = Reads(world.services)
    key_id, key = await make(world, token)
    _, other = await make(world, token, scopes=["console"])
    found = reads(b"/api/servers", b"Bearer " + key.encode(), None, "192.0.2.1")
    assert found is not None
    assert found[1] == (await world.call("GET", "/api/servers", token)).raw
    assert reads(b"/api/servers", b"Bearer " + other.encode(), None, "192.0.2.1") is None
    await world.call("DELETE", f"{PATH}/{key_id}", token)
    assert reads(b"/api/servers", b"Bearer " + key.encode(), None, "192.0.2.1") is None


async def test_an_open_websocket_ends_with_its_key_alone(world: World) -> None:
    _, token = await world.account("ada")
    key_id, key = await make(world, token)
    with trio.fail_after(10):
        async with socket(world, query=f"?access_token={key}") as ended, socket(world, token) as kept:
            for ws in (ended, kept):
                assert orjson.loads(await ws.receive())["event"] == "snapshot"
            await world.call("DELETE", f"{PATH}/{key_id}", token)
            assert await closing(ended) == 4401
            assert world.access.open_grants() == 1


async def test_uses_are_written_behind_and_seen(world: World) -> None:
    _, token = await world.account("ada")
    _, key = await make(world, token)
    await world.call("GET", "/api/servers", key, X_Forwarded_For="192.0.2.9")
    assert (await listed(world, token))[0]["lastUsedAt"] is None
    await world.services.people.api_keys.write_uses()
    (shown,) = await listed(world, token)
    assert shown["lastUsedAddress"] == "192.0.2.9"
    assert shown["lastUsedAt"] is not None


async def test_its_owner_is_told_by_letter(postgres_url: str) -> None:
    async with open_world(postgres_url, mail=True, portal_url="https://portal.example") as world:
        _, token = await world.account("ada")
        await make(world, token, name="name\u00e9")
        kinds = await world.services.database.run(
            lambda connection: list(connection.execute(sa.select(tables.outbox.c.kind)).scalars())
        )
        assert kinds.count("api_key_created") == 1
