"""Every route of the table, by construction: who is let in, and that bad input changes nothing."""

from __future__ import annotations

import itertools
from dataclasses import replace

import orjson

from tests.api.world import NODE, PAPER, World
from zlh.api.answers import Problem
from zlh.api.routes import ROUTES
from zlh.api.routing import ADDRESS_PART, Route, Who
from zlh.model.accounts import Role
from zlh.store import accounts, containers

HTTP = [route for route in ROUTES if not route.websocket]
CLOSED = [route for route in HTTP if route.who is not Who.PUBLIC]
OWNED = [route for route in CLOSED if "vmid" in route.parameters]
WITH_BODY = [route for route in HTTP if route.body is not None]
NONSENSE = [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"{}{}", b"[" * 5000, b"5", b'{"a":' * 900]
# Bodies that a route is content with: everything in them may be left out.
CONTENT = {"PATCH /api/auth/me", "POST /api/containers/orphans/sweep"}

# A password may hold anything; a token is looked up by its hash.
OPAQUE = {"password", "currentPassword", "refreshToken"}


def address(route: Route, vmid: int = 5001) -> str:
    values = {"vmid": str(vmid), "operation_id": "op0001", "path": "root/idle"}
    return ADDRESS_PART.sub(lambda match: values.get(match[1], "1"), route.path)


def check_envelope(raw: bytes) -> None:
    Problem.model_validate_json(raw)


async def test_a_stranger_is_refused_everywhere(world: World) -> None:
    ada, _ = await world.account("ada")
    world.fleet.add(ada, PAPER)
    for route in CLOSED:
        for headers in ({}, {"Authorization": "Bearer nonsense"}):
            answer = await world.call(route.method, address(route), raw=b"{}", **headers)
            assert answer.status == 401, route.name
            check_envelope(answer.raw)
    assert world.fleet.calls == []


async def test_a_suspended_account_is_refused_but_may_look_at_itself(world: World) -> None:
    ada, token = await world.account("ada", Role.OPERATOR)
    world.fleet.add(ada, PAPER)
    world.access.account_changed(replace(ada, suspended_at=ada.created_at))
    for route in sorted(CLOSED, key=lambda route: "logout" in route.path):
        answer = await world.call(route.method, address(route), token, raw=b"{}")
        assert (answer.status == 403) is not route.suspended, route.name
        if answer.status == 403:
            assert answer.json["code"] == "suspended"
    assert world.fleet.calls == []


async def test_a_customer_is_refused_where_operators_belong(world: World) -> None:
    _, token = await world.account("ada")
    operators = [route for route in CLOSED if route.who is Who.OPERATOR]
    assert len(operators) >= 6
    for route in operators:
        answer = await world.call(route.method, address(route), token, raw=b"{}")
        assert (answer.status, answer.json["code"]) == (403, "forbidden"), route.name


async def test_anothers_container_does_not_exist(world: World) -> None:
    ada, _ = await world.account("ada")
    _, bob = await world.account("bob")
    vmid = world.fleet.add(ada, PAPER).vmid
    assert len(OWNED) >= 11
    for route in OWNED:
        theirs = await world.call(route.method, address(route, vmid), bob, {"memory": 4096})
        nobodys = await world.call(route.method, address(route, 5900), bob, {"memory": 4096})
        assert theirs.status == nobodys.status == 404, route.name
        assert theirs.json | {"requestId": ""} == nobodys.json | {"requestId": ""}
        check_envelope(theirs.raw)
    assert world.fleet.calls == []


async def test_anothers_operation_does_not_exist(world: World) -> None:
    ada, token = await world.account("ada")
    _, bob = await world.account("bob")
    vmid = world.fleet.add(ada, PAPER).vmid
    operation = (await world.call("POST", f"/api/servers/{vmid}/host/stop", token)).json["operation"]
    for suffix in ("", "/events"):
        theirs = await world.call("GET", operation["href"] + suffix, bob)
        nobodys = await world.call("GET", "/api/operations/op9999" + suffix, bob)
        odd = await world.call("GET", "/api/operations/a%00b" + suffix, bob)
        assert theirs.status == nobodys.status == odd.status == 404
        assert theirs.json["error"] == nobodys.json["error"] == odd.json["error"]
    assert (await world.call("GET", "/api/operations", bob)).json == {"operations": [], "next": None}


async def test_operators_see_all(world: World) -> None:
    ada, _ = await world.account("ada")
    _, operator = await world.account("op", Role.OPERATOR)
    game, dev = world.fleet.add(ada, PAPER), world.fleet.add(ada, NODE)
    await world.services.database.run(containers.insert, [game, dev])
    share = {"email": "bob@example.com", "permissions": ["power"]}
    # Those with the id of something at the container need that too: see the tests of shares.
    for route in (route for route in OWNED if route.parameters == ["vmid"]):
        vmid = dev.vmid if route.path.startswith("/api/dev/") else game.vmid
        answer = await world.call(route.method, address(route, vmid), operator, {"memory": 4096, **share})
        assert answer.status == route.status, route.name


async def test_bodies_that_are_no_object_are_refused_and_change_nothing(world: World) -> None:
    operator, token = await world.account("op", Role.ADMIN)
    world.fleet.add(operator, PAPER)
    before = await world.services.database.run(accounts.all_accounts)
    for route, raw in itertools.product(WITH_BODY, NONSENSE):
        if raw == b"" and route.name in CONTENT:
            continue
        answer = await world.call(route.method, address(route), token, raw=raw)
        assert (answer.status, answer.json["code"]) == (400, "invalid"), raw[:20]
        check_envelope(answer.raw)
        assert answer.json["details"]
    assert world.fleet.calls == []
    assert await world.services.database.run(accounts.all_accounts) == before


def fields(route: Route) -> set[str]:
    assert route.body is not None
    return {
        str(info.validation_alias.choices[0] if hasattr(info.validation_alias, "choices") else info.alias)
        for name, info in route.body.model_fields.items()
        if name != "customer_id"
    }


async def test_fields_of_wrong_types_are_each_named(world: World) -> None:
    operator, token = await world.account("op", Role.ADMIN)
    world.fleet.add(operator, PAPER)
    for route, wrong in itertools.product(WITH_BODY, ({"a": 1}, [[1]], -1.5, "\u0000" * 3, True)):
        sent = dict.fromkeys(fields(route), wrong)
        if wrong is True:
            sent = {name: wrong for name in sent if name not in ("dryRun", "readOnly")}
            if not sent:
                continue
        answer = await world.call(route.method, address(route), token, raw=orjson.dumps(sent))
        if set(sent) <= OPAQUE and wrong == "\u0000" * 3:
            assert answer.status in (401, 403)
            continue
        assert answer.status == 400, (route.name, wrong, answer.raw)
        if wrong == "\u0000" * 3:
            sent = {name: wrong for name in sent if name not in OPAQUE}
        found = {str(problem["field"]).split(".")[0] for problem in answer.json["details"]}
        assert found >= set(sent)
    assert world.fleet.calls == []


async def test_odd_numbers_in_addresses(world: World) -> None:
    _, token = await world.account("op", Role.ADMIN)
    odd = ["0x10", "-1", "abc", "99999999999999999999", "5001%00", "..", "1e3", "%F0%9F%92%A9"]
    for route, vmid in itertools.product(OWNED, odd):
        path = route.path.replace(route.path[route.path.index("<") : route.path.index(">") + 1], vmid)
        answer = await world.call(route.method, path, token, raw=b"{}")
        assert answer.status in (404, 405), (route.name, answer.raw)
        check_envelope(answer.raw)
    assert world.fleet.calls == []


async def test_every_path_refuses_every_other_method(world: World) -> None:
    known: dict[str, set[str]] = {}
    for route in ROUTES:
        known.setdefault(address(route), set()).add(route.method)
    for path, methods in known.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - methods:
            answer = await world.call(method, path, raw=b"{}")
            assert answer.status in (401, 404, 405), (method, path)
            check_envelope(answer.raw)


async def test_there_is_nothing_else(world: World) -> None:
    nowhere = ["/", "/api", "/api/agent/5001/start", "/api/agent/5001", "/api/servers/", "/api//servers", "/api/x/y"]
    for method, path in itertools.product(("GET", "POST"), nowhere):
        answer = await world.call(method, path)
        assert (answer.status, answer.json["code"]) in ((404, "not_found"), (405, "method_not_allowed"))
        check_envelope(answer.raw)
