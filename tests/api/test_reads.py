"""The gateway's own answers are the routes' answers."""

from __future__ import annotations

import time

import pytest

from tests.api.world import PAPER, World
from zlh.api import Reads
from zlh.model.accounts import Role
from zlh.wire.browsers import safety_fields

ORIGINS = [None, "https://portal.example", "https://evil.example"]


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("role", [Role.CUSTOMER, Role.OPERATOR])
async def test_the_same_answer_as_by_the_route(world: World, role: Role, origin: str | None) -> None:
    owner, _ = await world.account("owner")
    await world.fleet.create(owner, PAPER, actor_id=owner.id)
    _, token = await world.account("asker", role)
    by_route = await world.call("GET", "/api/servers", token, **({"Origin": origin} if origin else {}))
    found = Reads(world.services)(b"/api/servers", b"Bearer " + token.encode(), origin.encode() if origin else None)
    assert found is not None
    fields, body = found
    assert body == by_route.raw
    # The gateway says those itself, on all that it answers.
    safety = {(name.decode(), value.decode()) for name, value in safety_fields(world.services.url())}
    told = {(name.lower(), value) for name, value in by_route.headers.items()} - safety
    told -= {
        ("content-length", str(len(body))),
        ("x-request-id", by_route.headers["X-Request-Id"]),
    }
    assert {(name.decode(), value.decode()) for name, value in fields} == told
    assert world.services.traffic.answers["GET /api/servers", 200] == 2


async def test_what_is_not_plainly_right_is_left_to_the_route(world: World) -> None:
    reads = Reads(world.services)
    account, token = await world.account("asker")
    good = b"Bearer " + token.encode()
    assert reads(b"/api/servers", good, None) is not None
    assert reads(b"/api/servers", b"Bearer nonsense", None) is None
    assert reads(b"/api/servers", b"Basic " + token.encode(), None) is None
    assert reads(b"/api/servers", b"\xff", None) is None
    assert reads(b"/api/servers?x", good, None) is None
    assert reads(b"/api/servers/5000", good, None) is None
    principal = world.access.principal(token)
    world.access.session_revoked(principal.session_id)
    assert reads(b"/api/servers", good, None) is None
    assert account.id == principal.account_id
    assert principal.expires_at > time.time()
