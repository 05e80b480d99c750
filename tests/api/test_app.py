from __future__ import annotations

import logging

import pytest

from tests.api.world import PAPER, World, open_world
from zlh.api import answers
from zlh.api.document import describe
from zlh.api.origins import Origins
from zlh.api.routes import ROUTES
from zlh.api.routing import Who
from zlh.api.transfers import transfers
from zlh.model.access import SHAREABLE, Scope
from zlh.model.accounts import Role
from zlh.store import StoreUnavailable


async def test_health_ready_catalog(world: World) -> None:
    health = answers.Health.model_validate_json((await world.call("GET", "/api/health")).raw)
    assert (health.status, health.version) == ("ok", "1.2.3")
    assert (await world.call("GET", "/api/ready")).status == 200
    world.checks["database"] = "PostgreSQL does not answer"
    ready = await world.call("GET", "/api/ready")
    assert ready.status == 503
    assert answers.Ready.model_validate_json(ready.raw).checks["database"].problem == "PostgreSQL does not answer"
    games = answers.GameCatalog.model_validate_json((await world.call("GET", "/api/catalog/game")).raw)
    assert games.games[0].variants[0].versions == ["1.21.1"]
    runtimes = answers.DevCatalog.model_validate_json((await world.call("GET", "/api/catalog/dev")).raw)
    assert runtimes.runtimes[0].id == "node"


async def test_metrics(world: World) -> None:
    ada, _ = await world.account("ada")
    world.fleet.add(ada, PAPER)
    await world.call("GET", "/api/health")
    answer = await world.call("GET", "/metrics")
    text = answer.raw.decode()
    assert answer.headers["Content-Type"].startswith("text/plain")
    for line in (
        'zlh_servers{ctype="game",status="unknown"} 1.0',
        "zlh_gateway_connections 3.0",
        'zlh_gateway_refusals{kind="too_large"} 2.0',
        "zlh_fleet_containers 1.0",
        'zlh_http_answers_total{route="GET /api/health",status="200"} 1.0',
        "zlh_mailbox_depth 0.0",
        "zlh_audit_waiting 0.0",
        'zlh_actors{state="running"} 5.0',
    ):
        assert line in text
    assert "ada" not in text


async def test_operators_see_and_move_the_tree(world: World) -> None:
    _, token = await world.account("op", Role.OPERATOR)
    tree = await world.call("GET", "/api/operators/actors", token)
    child = tree.json["actors"]["children"][0]
    path = child["path"]
    one = await world.call("GET", f"/api/operators/actors/{path}", token)
    assert one.json["actor"]["path"] == path
    for verb in ("restart", "release"):
        assert (await world.call("POST", f"/api/operators/actors/{path}/{verb}", token)).json == {"ok": True}
    for method, odd in (("GET", "x/y"), ("POST", "x/y/restart"), ("POST", "x/release"), ("GET", "%00/..")):
        answer = await world.call(method, f"/api/operators/actors/{odd}", token)
        assert (answer.status, answer.json["code"]) == (404, "not_found")


async def test_a_bug_is_logged_with_its_id_and_never_shown(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid

    def bug(vmid: int) -> None:
        raise RuntimeError("the database password is hunter2")

    monkeypatch.setattr(world.fleet, "server", bug)
    with caplog.at_level(logging.ERROR):
        answer = await world.call("GET", f"/api/servers/{vmid}", token, X_Request_Id="abc-1")
    assert (answer.status, answer.json["code"], answer.json["requestId"]) == (500, "internal", "abc-1")
    assert b"hunter2" not in answer.raw
    assert "abc-1" in caplog.text
    assert "hunter2" in caplog.text


async def test_the_store_away_is_503(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _, token = await world.account("ada")

    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("PostgreSQL is away")

    monkeypatch.setattr(world.services.database, "run", away)
    answer = await world.call("GET", "/api/auth/me", token)
    assert (answer.status, answer.json["code"], answer.headers["Retry-After"]) == (503, "store_unavailable", "2")
    assert (await world.call("GET", "/api/servers", token)).status == 200


async def test_request_ids_are_kept_and_odd_ones_replaced(world: World) -> None:
    for given in ("abc-1", "x" * 64):
        for path, token in (("/api/health", None), ("/api/servers", "nonsense"), ("/nowhere", None)):
            answer = await world.call("GET", path, token, X_Request_Id=given)
            assert answer.headers["X-Request-Id"] == given
    for given in ("", "x" * 65, "a b", "<script>", "\u00e9"):
        answer = await world.call("GET", "/nowhere", X_Request_Id=given)
        assert answer.json["requestId"] == answer.headers["X-Request-Id"] != given


async def test_wrong_methods_name_the_right_ones(world: World) -> None:
    answer = await world.call("DELETE", "/api/instances")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, POST")


async def test_a_websocket_is_not_a_page(world: World) -> None:
    answer = await world.call("GET", "/api/servers/events")
    assert (answer.status, answer.json["code"]) == (426, "upgrade_required")


async def test_too_large_a_body(world: World) -> None:
    answer = await world.call("POST", "/api/auth/login", raw=b"x" * (1024 * 1024 + 1))
    assert (answer.status, answer.json["code"]) == (413, "too_large")


async def test_preflight(world: World) -> None:
    async def preflight(origin: str) -> dict[str, str]:
        answer = await world.call("OPTIONS", "/api/instances", Origin=origin, Access_Control_Request_Method="POST")
        assert answer.status == 204
        return {name.lower(): value for name, value in answer.headers.items()}

    allowed = await preflight("https://portal.example")
    assert allowed["access-control-allow-origin"] == "https://portal.example"
    assert "Idempotency-Key" in allowed["access-control-allow-headers"]
    assert "DELETE" in allowed["access-control-allow-methods"]
    assert "access-control-allow-origin" not in await preflight("https://evil.example")


async def test_answers_to_a_page(world: World) -> None:
    for path in ("/api/health", "/api/servers", "/nowhere"):
        answer = await world.call("GET", path, Origin="https://portal.example")
        assert answer.headers["Access-Control-Allow-Origin"] == "https://portal.example"
        assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]
        evil = await world.call("GET", path, Origin="https://evil.example")
        assert "Access-Control-Allow-Origin" not in evil.headers
        assert evil.headers["Vary"] == "Origin"
    assert (await world.call("GET", "/api/health")).headers["Vary"] == "Origin"


async def test_any_loopback_page_in_a_demo(postgres_url: str) -> None:
    async with open_world(postgres_url, origins=("loopback",)) as world:
        answer = await world.call("GET", "/api/health", Origin="http://localhost:3000")
        assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:3000", True),
        ("http://127.0.0.1", True),
        ("http://127.9.9.9:1", True),
        ("https://[::1]:8443", True),
        ("http://portal.localhost", True),
        ("https://portal.example", True),
        ("HTTPS://PORTAL.example", True),
        ("https://portal.example.evil.com", False),
        ("https://portal.example:444", False),
        ("http://localhost.evil.com", False),
        ("http://localhost@evil.com", False),
        ("http://localhost/", False),
        ("file://localhost", False),
        ("http://128.0.0.1", False),
        ("null", False),
        ("", False),
        ("http://[::1", False),
        ("loopback", False),
    ],
)
def test_origins(origin: str, allowed: bool) -> None:
    assert Origins(["loopback", "https://portal.example/"]).allow(origin) is allowed


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://Portal.Example", "https://portal.example"),
        ("https://portal.example:443", "https://portal.example"),
        ("http://portal.example:80", "http://portal.example"),
        ("https://portal.example:8443", "https://portal.example:8443"),
        ("https://b\u00fccher.example", "https://xn--bcher-kva.example"),
        ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
    ],
)
def test_an_origin_may_be_written_as_people_do(written: str, sent: str) -> None:
    assert Origins([written]).allow(sent)
    assert not Origins([written]).allow(sent + "1")


async def test_the_document_names_every_route_and_nothing_else(world: World) -> None:
    answer = await world.call("GET", "/api/openapi.json")
    document = answer.json
    assert document == describe(ROUTES)
    assert document["openapi"] == "3.1.0"
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    served = set()
    for rule in world.app.url_map.iter_rules():
        template = "".join(f"{{{part}}}" if is_variable else part for is_variable, part in rule._trace[1:])
        methods = {"GET"} if rule.websocket else rule.methods - {"HEAD", "OPTIONS"}
        served |= {(method, template.removeprefix("|")) for method in methods}
    moved = {(method.upper(), path) for path, item in transfers().items() for method in item}
    assert described - served == {("GET", "/api/servers/{vmid}/console/stream")} | moved
    assert served - described == set()


def test_the_document_says_what_each_operation_needs() -> None:
    document = describe(ROUTES)
    for route in ROUTES:
        described = document["paths"][route.template][route.method.lower()]
        ways = [] if route.who is Who.PUBLIC else [{"bearer": []}]
        if route.scope is not None:
            ways.append({"apiKey": [route.scope.value]})
            assert f"`{route.scope.value}`" in described["description"]
        assert described["security"] == ways, route.name
        if route.who is not Who.PUBLIC:
            assert Role(described["x-role"]).sees_all is (route.who is not Who.SIGNED_IN)
            owned = route.permission is not None and "vmid" in route.parameters
            assert described.get("x-permission") == (route.permission if owned else None)
    said = document["components"]["securitySchemes"]["apiKey"]["description"]
    assert [f"`{scope.value}`" in said for scope in Scope] == [True] * len(Scope)
    console = document["paths"]["/api/servers/{vmid}/console/stream"]["get"]
    assert console["security"] == [{"bearer": []}, {"apiKey": ["console"]}]


def test_the_document_says_what_addresses_and_shares_take() -> None:
    document = describe(ROUTES)
    for path, item in document["paths"].items():
        for operation in item.values():
            kinds = {p["name"]: p["schema"]["type"] for p in operation["parameters"] if p["in"] == "path"}
            assert [name for name in ("vmid", "account_id") if kinds.get(name, "integer") != "integer"] == [], path
    given = document["components"]["schemas"]["GiveShare"]["properties"]["permissions"]["items"]
    assert given["enum"] == list(SHAREABLE)


def test_the_document_says_what_may_be_left_out_and_what_has_no_body() -> None:
    paths = describe(ROUTES)["paths"]
    search = paths["/api/game/{vmid}/files/search"]["get"]
    assert {p["name"]: p["required"] for p in search["parameters"] if p["in"] == "query"} == {
        "path": False,
        "q": True,
        "limit": False,
    }
    needs_body = {
        path: paths[path]["post"]["requestBody"]["required"]
        for path in ("/api/game/{vmid}/backups", "/api/game/{vmid}/mods")
    }
    assert list(needs_body.values()) == [False, True]
    for path, item in paths.items():
        for operation in item.values():
            bodiless = [operation["responses"].get(status, {}) for status in ("101", "204", "304")]
            assert not any("content" in answer for answer in bodiless), path
    content = paths["/api/dev/{vmid}/files/content"]
    assert set(content["get"]["responses"]) == {"200", "206", "304", "default"}
    assert set(content["put"]["responses"]) == {"201", "204", "default"}
    assert "ETag" in content["put"]["responses"]["204"]["headers"]


def test_every_reference_of_the_document_leads_somewhere() -> None:
    document = describe(ROUTES)

    def references(value: object) -> set[str]:
        if isinstance(value, dict):
            found = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return found.union(*(references(item) for item in value.values()))
        if isinstance(value, list):
            return set().union(*(references(item) for item in value))
        return set()

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) <= known
    assert references(document)
