"""No token of one kind is ever accepted as another: every kind at every place that takes one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest

from tests.api.gateway import gateway_before
from tests.api.world import NODE, PASSWORD, World
from tests.gateway.peer import connect
from zlh.accounts.links import digest
from zlh.model.access import Scope
from zlh.model.accounts import Account
from zlh.model.errors import UnauthenticatedError
from zlh.store import mail_links
from zlh.store.mail_links import MailLink, Purpose

WEBSOCKET = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
WEBSOCKET += [f"Sec-WebSocket-Key: {'A' * 22}=="]
NEW_PASSWORD = "a much longer horse"


@dataclass
class Scene:
    world: World
    ada: Account
    token: str
    refresh_token: str
    vmid: int
    port: int
    attempts: int = 0

    async def post(self, path: str, body: dict[str, str], access_token: str | None = None) -> bool:
        # From an address of its own: the limits of attempts are no part of this.
        self.attempts += 1
        address = f"192.0.2.{self.attempts % 250}"
        answer = await self.world.call("POST", path, access_token, body, X_Forwarded_For=address)
        return self._accepted(answer.status, answer.raw)

    async def get(self, path: str, authorization: str | None, *lines: str) -> bool:
        fields = [*lines] if authorization is None else [f"Authorization: {authorization}", *lines]
        async with connect(self.port) as peer:
            await peer.send("\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *fields]).encode() + b"\r\n\r\n")
            answered = await peer.read_head()
            return self._accepted(answered.status, b"")

    def _accepted(self, status: int, raw: bytes) -> bool:
        assert status < 500, raw
        return status < 400


# Makes a fresh one each time: some of them are good for one use.
Kind = Callable[[Scene], Awaitable[str]]
Place = Callable[[Scene, str], Awaitable[bool]]


async def access_token(scene: Scene) -> str:
    return scene.token


async def ide_token(scene: Scene) -> str:
    answer = await scene.world.call("POST", f"/api/dev/{scene.vmid}/ide-token", scene.token)
    return str(answer.json["token"])


async def refresh_token(scene: Scene) -> str:
    return scene.refresh_token


async def api_key(scene: Scene) -> str:
    body = {"name": "all", "scopes": [scope.value for scope in Scope if scope is not Scope.OPERATOR]}
    answer = await scene.world.call("POST", "/api/auth/api-keys", scene.token, body)
    return str(answer.json["key"])


def link(purpose: Purpose) -> Kind:
    async def make(scene: Scene) -> str:
        now, token = datetime.now(UTC), f"{purpose.value}{scene.attempts:040d}"
        found = MailLink(scene.ada.id, purpose, scene.ada.email)
        await scene.world.services.database.run(
            mail_links.issue, digest(token), found, now=now, expires_at=now + timedelta(minutes=5)
        )
        return token

    return make


async def password(scene: Scene) -> str:
    return PASSWORD


async def bearer(scene: Scene, token: str) -> bool:
    return await scene.get("/api/auth/me", f"Bearer {token}")


async def memory(scene: Scene, token: str) -> bool:
    return await scene.get("/api/servers", f"Bearer {token}")


async def events(scene: Scene, token: str) -> bool:
    return await scene.get(f"/api/servers/events?access_token={quote(token, safe='')}", None, *WEBSOCKET)


async def console(scene: Scene, token: str) -> bool:
    path = f"/api/servers/{scene.vmid}/console/stream?access_token={quote(token, safe='')}"
    return await scene.get(path, None, *WEBSOCKET)


async def refresh(scene: Scene, token: str) -> bool:
    return await scene.post("/api/auth/refresh", {"refreshToken": token})


async def ide(scene: Scene, token: str) -> bool:
    try:
        await scene.world.services.people.ide_tokens.redeem(token, scene.vmid)
    except UnauthenticatedError:
        return False
    return True


async def verify(scene: Scene, token: str) -> bool:
    return await scene.post("/api/auth/email/verify", {"token": token})


async def reset(scene: Scene, token: str) -> bool:
    return await scene.post("/api/auth/password/reset", {"token": token, "password": NEW_PASSWORD})


async def login(scene: Scene, token: str) -> bool:
    return await scene.post("/api/auth/login", {"identifier": "ada", "password": token})


async def confirmation(scene: Scene, token: str) -> bool:
    """Who is signed in shows once more that it is they."""
    body = {"currentPassword": token, "newPassword": NEW_PASSWORD}
    return await scene.post("/api/auth/password", body, scene.token)


KINDS: dict[str, Kind] = {
    "access token": access_token,
    "IDE token": ide_token,
    "refresh token": refresh_token,
    "API key": api_key,
    "verify link": link(Purpose.VERIFY),
    "reset link": link(Purpose.RESET),
    "password": password,
}
PLACES: dict[str, Place] = {
    "Authorization": bearer,
    "Authorization at the gateway": memory,
    "event socket": events,
    "console": console,
    "refresh": refresh,
    "IDE": ide,
    "verify": verify,
    "reset": reset,
    "sign-in": login,
    "confirmation": confirmation,
}
ACCEPTED = {
    *((kind, place) for kind in ("access token", "API key") for place in list(PLACES)[:4]),
    ("refresh token", "refresh"),
    ("IDE token", "IDE"),
    ("verify link", "verify"),
    ("reset link", "reset"),
    ("password", "sign-in"),
    ("password", "confirmation"),
}


@pytest.mark.parametrize("place", PLACES)
async def test_every_kind_is_accepted_at_its_own_places_and_nowhere_else(world: World, place: str) -> None:
    accepted = set()
    async with gateway_before(world) as port:
        ada, _ = await world.account("ada")
        vmid = world.fleet.add(ada, NODE).vmid
        # The good one last: it may change what the others hang on.
        for kind in sorted(KINDS, key=lambda kind: (kind, place) in ACCEPTED):
            signed_in = await world.call("POST", "/api/auth/login", json={"identifier": "ada", "password": PASSWORD})
            scene = Scene(world, ada, signed_in.json["token"], signed_in.json["refreshToken"], vmid, port)
            if await PLACES[place](scene, await KINDS[kind](scene)):
                accepted.add(kind)
    assert accepted == {kind for kind, at in ACCEPTED if at == place}
