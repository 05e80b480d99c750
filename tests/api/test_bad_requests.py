"""Every route of the table, by construction: bad requests are refused in one shape, and change nothing."""

from __future__ import annotations

import itertools

import orjson

from tests.api.doors import address
from tests.api.world import PAPER, World
from zlh.api.answers import Problem
from zlh.api.routes import ROUTES
from zlh.api.routing import Route, Who
from zlh.model.accounts import Role
from zlh.store import accounts

HTTP = [route for route in ROUTES if not route.websocket]
CLOSED = [route for route in HTTP if route.who is not Who.PUBLIC]
OWNED = [route for route in CLOSED if "vmid" in route.parameters]
WITH_BODY = [route for route in HTTP if route.body is not None]
NONSENSE = [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"{}{}", b"[" * 5000, b"5", b'{"a":' * 900]
# Routes that are content with nothing: everything in their bodies may be left out.
CONTENT = {
    route.name
    for route in WITH_BODY
    if route.body is not None and not any(field.is_required() for field in route.body.model_fields.values())
}


def check_envelope(raw: bytes) -> None:
    Problem.model_validate_json(raw)


async def test_bodies_that_are_no_object_are_refused_and_change_nothing(world: World) -> None:
    operator, token = await world.account("op", Role.ADMIN)
    world.fleet.add(operator, PAPER)
    before = await world.services.database.run(accounts.all_accounts)
    for route, raw in itertools.product(WITH_BODY, NONSENSE):
        if raw == b"" and route.name in CONTENT:
            continue
        answer = await world.call(route.method, address(route), token, raw=raw)
        assert answer.status == 400, (route.name, raw[:20])
        assert answer.json["code"] == "invalid", (route.name, raw[:20])
        check_envelope(answer.raw)
        assert answer.json["details"]
    assert world.fleet.calls == []
    assert await world.services.database.run(accounts.all_accounts) == before


def fields(route: Route, wrong: object) -> set[str]:
    """Those for which `wrong` is wrong."""
    assert route.body is not None
    return {
        str(info.validation_alias.choices[0] if hasattr(info.validation_alias, "choices") else info.alias)
        for name, info in route.body.model_fields.items()
        if name != "customer_id" and not (wrong is True and info.annotation in (bool, bool | None))
    }


async def test_fields_of_wrong_types_are_each_named(world: World) -> None:
    operator, token = await world.account("op", Role.ADMIN)
    world.fleet.add(operator, PAPER)
    for route, wrong in itertools.product(WITH_BODY, ({"a": 1}, [[1]], -1.5, "\u0000" * 3, True)):
        sent = dict.fromkeys(fields(route, wrong), wrong)
        if not sent:
            continue
        answer = await world.call(route.method, address(route), token, raw=orjson.dumps(sent))
        if wrong == "\u0000" * 3:
            # A password may hold anything; a token is looked up by its hash.
            sent = {name: wrong for name in sent if not name.lower().endswith(("password", "token"))}
            if not sent:
                assert answer.status in (400, 401, 403), (route.name, answer.raw)
                continue
        assert answer.status == 400, (route.name, wrong, answer.raw)
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
