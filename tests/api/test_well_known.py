"""The key set: whoever has nothing but it can verify what is issued, before, during and after a rotation."""

from __future__ import annotations

from typing import Any

import jwt

from tests.api.gateway import gateway_before
from tests.api.world import World
from tests.gateway.peer import connect

PATH = "/.well-known/jwks.json"


def verify(keys: Any, token: str) -> Any:
    """As a stranger does, with PyJWT's own client for key sets."""
    key = jwt.PyJWKSet.from_dict(keys)[jwt.get_unverified_header(token)["kid"]]
    return jwt.decode(token, key, algorithms=["EdDSA"], audience="test/api", issuer="test")


async def test_the_key_set_verifies_what_is_issued(world: World) -> None:
    ada, token = await world.account("ada")
    answer = await world.call("GET", PATH)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    (key,) = answer.json["keys"]
    assert key.keys() == {"kty", "crv", "x", "kid", "alg", "use"}
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("OKP", "Ed25519", "EdDSA", "sig")
    assert verify(answer.json, token)["sub"] == str(ada.id)


async def test_the_next_key_is_there_before_it_signs_and_a_withdrawn_one_is_gone(world: World) -> None:
    _, token = await world.account("ada")
    keys = world.services.people.signing_keys
    made = await keys.rotate()
    published = (await world.call("GET", PATH)).json
    assert [key["kid"] for key in published["keys"]] == [keys.keyring.signing().kid, made.kid]
    assert verify(published, token)
    assert (await world.call("GET", "/api/auth/me", token)).status == 200
    await keys.withdraw()
    after = (await world.call("GET", PATH)).json
    assert len(after["keys"]) == 1
    assert after["keys"][0]["kid"] not in {key["kid"] for key in published["keys"]}


async def test_everybody_signs_on_with_the_refresh_token_after_a_withdrawal(world: World) -> None:
    body = {"email": "ada@example.com", "username": "ada", "password": "correct horse"}
    registered = (await world.call("POST", "/api/auth/register", json=body)).json
    await world.services.people.signing_keys.withdraw()
    refused = await world.call("GET", "/api/auth/me", registered["token"])
    assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    again = await world.call("POST", "/api/auth/refresh", json={"refreshToken": registered["refreshToken"]})
    assert (await world.call("GET", "/api/auth/me", again.json["token"])).status == 200


async def test_it_is_public_through_the_gateway(world: World) -> None:
    async with gateway_before(world) as port, connect(port) as peer:
        answer = await peer.ask("GET", PATH)
        assert (answer.status, answer.field("cache-control")) == (200, "public, max-age=300")
        assert answer.json == (await world.call("GET", PATH)).json
        assert (await peer.ask("GET", PATH, "Authorization: Bearer nonsense")).status == 200
