from __future__ import annotations

from dataclasses import replace

import jwt

from tests.api.world import NODE, PAPER, World
from zlh.accounts import IDE_TOKEN_SECONDS
from zlh.model.access import Permission, Scope


async def test_a_way_into_the_ide(world: World) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, NODE).vmid
    answer = await world.call("POST", f"/api/dev/{vmid}/ide-token", token, {})
    assert answer.status == 200
    issued = answer.json["token"]
    assert answer.json == {
        "token": issued,
        "url": f"https://api.example/ide/{vmid}/?token={issued}",
        "expiresIn": IDE_TOKEN_SECONDS,
    }
    assert answer.headers["Cache-Control"] == "no-store"
    header, claims = jwt.get_unverified_header(issued), jwt.decode(issued, options={"verify_signature": False})
    assert (header["typ"], header["alg"]) == ("ide+jwt", "EdDSA")
    assert (claims["aud"], claims["vmid"], claims["exp"] - claims["iat"]) == ("test/ide", vmid, 60)
    assert (await world.services.people.ide_tokens.redeem(issued, vmid)).account_id == ada.id


async def test_a_game_server_has_none(world: World) -> None:
    ada, token = await world.account("ada")
    answer = await world.call("POST", f"/api/dev/{world.fleet.add(ada, PAPER).vmid}/ide-token", token)
    assert (answer.status, answer.json["error"]) == (404, "there is no such server")
    assert (await world.call("POST", "/api/dev/5999/ide-token", token)).status == 404


async def test_who_may_go_in(world: World) -> None:
    ada, _ = await world.account("ada")
    bob, token = await world.account("bob")
    vmid = world.fleet.add(ada, NODE).vmid

    async def status() -> int:
        return (await world.call("POST", f"/api/dev/{vmid}/ide-token", token)).status

    assert await status() == 404
    world.access.shares_changed(vmid, {bob.id: [Permission.FILES]})
    assert await status() == 403
    world.access.shares_changed(vmid, {bob.id: [Permission.IDE]})
    assert await status() == 200
    world.access.account_changed(replace(bob, suspended_at=bob.created_at))
    assert await status() == 403


async def test_an_api_key_needs_the_scope(world: World) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, NODE).vmid
    for scope, expected in ((Scope.FILES, 403), (Scope.IDE, 200)):
        made = await world.call("POST", "/api/auth/api-keys", token, {"name": "k", "scopes": [scope.value]})
        answer = await world.call("POST", f"/api/dev/{vmid}/ide-token", made.json["key"])
        assert answer.status == expected
    principal = await world.services.people.ide_tokens.redeem(answer.json["token"], vmid)
    assert principal.scopes == {Scope.IDE}
