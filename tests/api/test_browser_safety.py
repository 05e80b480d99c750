"""What browsers are told, on every answer whoever gives it: the application, the gateway from memory, a refusal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from tests.api.gateway import gateway_before
from tests.api.test_wire import UPGRADE, served
from tests.api.world import PAPER, World, open_world
from tests.gateway.peer import Answer, connect, handshake
from zlh.api.origins import HEADERS, METHODS
from zlh.api.routes import ROUTES
from zlh.api.routing import ADDRESS_PART
from zlh.model.accounts import Role
from zlh.wire.browsers import SAFETY, safety_fields

PORTAL = "https://portal.example"
CACHEABLE = {"/.well-known/jwks.json"}
NO_PAGE = [
    ("GET", "/"),
    ("GET", "/index.html"),
    ("POST", "/api/health"),
    ("OPTIONS", "/api/servers"),
    ("GET", "/%00"),
]


def check(fields: Iterable[tuple[str, str]], said: Iterable[tuple[bytes, bytes]], *, cacheable: bool = False) -> None:
    """Each field once and right; nothing that a browser would keep, and no key to anything."""
    found: dict[str, list[str]] = {}
    for name, value in fields:
        found.setdefault(name.lower(), []).append(value)
    for name, value in said:
        assert found.get(name.decode()) == [value.decode()], name
    if not cacheable:
        assert found["cache-control"] == ["no-store"]
    assert "set-cookie" not in found
    assert "access-control-allow-credentials" not in found
    assert "server" not in found
    assert found.get("access-control-allow-origin", [""])[0] != "*"


def told(answer: Answer) -> Mapping[str, str]:
    return {name.decode(): value.decode() for name, value in answer.head.fields}


async def test_every_route_whoever_asks_and_whatever_comes_of_it(world: World) -> None:
    ada, _ = await world.account("ada")
    world.fleet.add(ada, PAPER)
    _, operator = await world.account("op", Role.ADMIN)
    said = safety_fields(world.services.url())
    assert len(said) == len(SAFETY) + 1
    statuses = set()
    for route in ROUTES:
        path = ADDRESS_PART.sub(lambda match: "5001" if match[1] == "vmid" else "1", route.path)
        # Signing out comes last by itself: a token for each.
        for token in (None, "nonsense", operator):
            if route.path.endswith("/logout") and token == operator:
                continue
            answer = await world.call(route.method, path, token, raw=b"{", Origin=PORTAL)
            check(answer.headers.items(), said, cacheable=route.path in CACHEABLE)
            statuses.add(answer.status)
    assert {200, 400, 401, 404} <= statuses
    for method, path in NO_PAGE:
        answer = await world.call(method, path)
        check(answer.headers.items(), said)
        assert answer.status in (404, 405)


async def test_nothing_of_a_sign_in_is_kept_by_the_browser(world: World) -> None:
    body = {"email": "ada@example.com", "username": "ada", "password": "correct horse"}
    registered = await world.call("POST", "/api/auth/register", json=body)
    signed_in = await world.call("POST", "/api/auth/login", json={"identifier": "ada", "password": "correct horse"})
    refreshed = await world.call("POST", "/api/auth/refresh", json={"refreshToken": signed_in.json["refreshToken"]})
    for answer in (registered, signed_in, refreshed):
        assert answer.status in (200, 201)
        check(answer.headers.items(), safety_fields(world.services.url()))


async def test_a_bug_is_as_careful(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def bug(*_: object) -> None:
        raise RuntimeError("a bug")

    _, token = await world.account("ada")
    monkeypatch.setattr(world.accounts, "account", bug)
    answer = await world.call("GET", "/api/auth/me", token, Origin=PORTAL)
    assert answer.status == 500
    assert answer.headers["Access-Control-Allow-Origin"] == PORTAL
    check(answer.headers.items(), safety_fields(world.services.url()))


async def test_through_the_gateway_and_from_it(world: World) -> None:
    _, token = await world.account("ada")
    bearer = f"Authorization: Bearer {token}"
    async with gateway_before(world) as port:
        for target, line, status in (
            ("/api/health", "X: y", 200),
            ("/api/servers", bearer, 200),
            ("/api/servers", "X: y", 401),
            ("/nowhere", "X: y", 404),
            ("/api/servers/events", "X: y", 426),
        ):
            async with connect(port) as peer:
                answer = await peer.ask("GET", target, line, f"Origin: {PORTAL}")
            assert answer.status == status
            check(told(answer).items(), SAFETY)
            assert answer.field("access-control-allow-origin") == PORTAL


# Each with whether its head could be read: one that could not names no origin that can be trusted.
REFUSED: list[tuple[bytes, int, bool]] = [
    (b"GET /api/health HTTP/1.1\r\nHost: x\r\n%bContent-Length: 1, 2\r\n\r\n", 400, False),
    (b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\n%bContent-Length: 99999999999\r\n\r\n", 413, True),
    (b"GET /api/health HTTP/1.1\r\nHost: x\r\n%bExpect: a-miracle\r\n\r\n", 417, False),
]


@pytest.mark.parametrize(("raw", "status", "legible"), REFUSED)
async def test_what_the_gateway_refuses_is_for_the_portal_alone(
    world: World, raw: bytes, status: int, legible: bool
) -> None:
    async with gateway_before(world) as port:
        for origin, may_read in ((PORTAL, True), ("https://evil.example", False), ("null", False)):
            async with connect(port) as peer:
                await peer.send(raw % f"Origin: {origin}\r\n".encode())
                answer = await peer.answer()
            assert answer.status == status
            check(told(answer).items(), SAFETY)
            assert answer.json["code"]
            readable = may_read and legible
            assert (answer.field("access-control-allow-origin") == origin) is readable
            assert (answer.field("access-control-expose-headers") is not None) is readable


async def test_a_preflight_says_exactly_what_is_allowed(world: World) -> None:
    ask = {"Access_Control_Request_Method": "DELETE", "Access_Control_Request_Headers": "authorization"}
    allowed = await world.call("OPTIONS", "/api/servers", Origin=PORTAL, **ask)
    assert (allowed.status, allowed.raw) == (204, b"")
    cors = {name.lower(): value for name, value in allowed.headers.items() if name.lower().startswith("access-")}
    assert cors == {
        "access-control-allow-origin": PORTAL,
        "access-control-allow-methods": METHODS.decode(),
        "access-control-allow-headers": HEADERS.decode(),
        "access-control-max-age": "600",
    }
    assert {route.method for route in ROUTES} <= set(METHODS.decode().split(", "))
    for other in ("https://evil.example", "null", "https://portal.example:8443", "http://portal.example"):
        refused = await world.call("OPTIONS", "/api/servers", Origin=other, **ask)
        assert refused.status == 204
        assert not [name for name, _ in refused.headers.items() if name.lower().startswith("access-")]
        check(refused.headers.items(), safety_fields(world.services.url()))


# Each with whether a websocket opens; None sends no Origin at all, and so is no browser.
ORIGINS: list[tuple[str | None, bool]] = [
    (None, True),
    (PORTAL, True),
    ("HTTPS://PORTAL.EXAMPLE", True),
    ("https://xn--bcher-kva.example", True),
    ("http://localhost:3000", True),
    ("http://127.0.0.1", True),
    ("http://[::1]:8080", True),
    ("null", False),
    ("", False),
    ("https://portal.example:8443", False),
    ("http://portal.example", False),
    ("https://portal.example.evil.example", False),
    ("https://evil.example", False),
    ("https://b\u00fccher.example", False),
    ("https://portal.\u0435xample", False),
    ("http://localhost.evil.example", False),
    ("loopback", False),
    ("https://portal.example, https://evil.example", False),
]


@pytest.mark.parametrize("target", ["/api/servers/events", "/api/servers/5001/console/stream"])
async def test_which_pages_open_websockets(postgres_url: str, target: str) -> None:
    allowed = (PORTAL, "https://b\u00fccher.example", "loopback")
    async with open_world(postgres_url, origins=allowed) as world:
        ada, token = await world.account("ada")
        assert world.fleet.add(ada, PAPER).vmid == 5001
        async with gateway_before(world) as port:
            for origin, opens in ORIGINS:
                lines = [] if origin is None else [f"Origin: {origin}"]
                async with connect(port) as peer:
                    await peer.send(handshake(target, f"Authorization: Bearer {token}", *lines))
                    head = await peer.read_head()
                assert head.status == (101 if opens else 403), origin


async def test_the_application_checks_origins_itself_too(world: World, tmp_path: Path) -> None:
    """Whoever reaches it past the gateway."""
    _, token = await world.account("ada")
    for number, origin in enumerate(("https://evil.example", "null")):
        # A connection is of no more use after an upgrade that was refused.
        async with served(world, tmp_path / str(number)) as client:
            sent = UPGRADE | {"Authorization": f"Bearer {token}", "Origin": origin}
            refused = await client.get("/api/servers/events", headers=sent)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden_origin")
        check(refused.headers.items(), safety_fields(world.services.url()))
