"""One journey through everything that knows a secret, on real processes with the log at its most talkative: no secret
that went over the wire, and none of the installation's own, is in the log, in the audit record, or readable in the
database.
"""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyotp
import sqlalchemy as sa
import trio
from trio_websocket import open_websocket_url

from tests.faults.scenes import a_game
from tests.faults.selling import SECRET, open_selling, page
from tests.faults.world import BOOTSTRAP, World, open_world
from tests.faults.world import PASSWORD as OPERATORS
from tests.plain import PLAIN
from zlh.model.access import Scope
from zlh.simulators.stripe import KEY, SimulatedStripe
from zlh.store import Database, Vault
from zlh.store.tables import audit, containers, metadata, signing_keys

SENT = frozenset({"password", "currentPassword", "newPassword", "totp", "refreshToken", "token"})
TOLD = frozenset({"token", "refreshToken", "key", "secret", "uri", "recoveryCodes"})
LINK = re.compile(r"[?]token=([A-Za-z0-9_-]+)")

FIRST = "a first password of ada"
SECOND = "a second password of ada"
TYPED_AS_NAME = "my-secret-where-my-name-belongs"
DEV = {"ctype": "dev", "runtime": "node", "version": "22", "memoryMiB": 1024, "cpuCores": 1, "diskGiB": 8}
# What the journey does, as the record calls it.
ACTIONS = {
    "account.act",
    "account.register",
    "api_key.create",
    "api_key.revoke",
    "billing.checkout",
    "billing.webhook",
    "console.close",
    "console.open",
    "container.create",
    "email.verify",
    "game.restart",
    "ide.token",
    "password.change",
    "password.forgot",
    "password.reset",
    "session.refresh",
    "share.create",
    "sign_in",
    "sign_out",
    "totp.begin",
    "totp.enable",
}


def found(document: Any, names: frozenset[str]) -> Iterator[str]:
    """The texts under those names, however deep."""
    if isinstance(document, dict):
        for name, value in document.items():
            if name in names:
                yield from [value] if isinstance(value, str) else value
            else:
                yield from found(value, names)
    elif isinstance(document, list):
        for value in document:
            yield from found(value, names)


class Wire:
    """Calls, and every secret that goes either way."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.secrets: set[str] = set()

    async def call(
        self, method: str, path: str, body: Any = None, token: str = "", expect: int = 200, **headers: str
    ) -> Any:
        self.secrets.update(found(body, SENT))
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        async with httpx.AsyncClient(base_url=self.world.api, timeout=20, trust_env=False, verify=PLAIN) as client:
            answer = await client.request(method, path, json=body, headers=sent | headers)
        assert answer.status_code == expect, (path, answer.text)
        if path.partition("?")[0] != "/api/audit":  # its details name keys, not what they are
            self.secrets.update(found(answer.json(), TOLD))
        return answer.json()

    async def sign_in(self, identifier: str, password: str, totp: str | None = None, expect: int = 200) -> Any:
        body = {"identifier": identifier, "password": password} | ({"totp": totp} if totp else {})
        return await self.call("POST", "/api/auth/login", body, expect=expect)

    async def letter(self, kind: str) -> str:
        """The token of the link in the newest letter of that kind, once there is one."""
        folder = Path(self.world.settings["ZLH_MAIL_FOLDER"])
        with trio.fail_after(20):
            # Another process writes it.
            while (link := link_of(folder, kind)) is None:  # noqa: ASYNC110
                await trio.sleep(0.05)
        self.secrets.add(link)
        return link


def link_of(folder: Path, kind: str) -> str | None:
    letters = sorted(folder.glob(f"*-{kind}-*.eml"))
    if not letters:
        return None
    message = email.message_from_bytes(letters[-1].read_bytes(), policy=email.policy.default)
    body = message.get_body(("plain",))
    assert body is not None
    link = LINK.search(body.get_content())
    assert link is not None
    return link[1]


async def provisioned(wire: Wire, token: str, body: Any) -> int:
    answer = await wire.call("POST", "/api/instances", body, token, 202, **{"Idempotency-Key": body["ctype"]})
    wire.world.token = token
    assert (await wire.world.finished(answer["operation"]["id"]))["state"] == "succeeded"
    vmid: int = answer["vmid"]
    await wire.world.until_servers(lambda servers: servers[vmid]["status"] == "running")
    return vmid


async def use_the_console(wire: Wire, vmid: int, token: str) -> None:
    address = wire.world.api.replace("http", "ws") + f"/api/servers/{vmid}/console/stream"
    async with open_websocket_url(f"{address}?access_token={token}") as console:
        await console.send_message("say hello")
        with trio.fail_after(10):
            while "hello" not in await console.get_message():
                pass
    async with open_websocket_url(address) as console:
        await console.send_message(f'{{"auth": "{token}"}}')
        with trio.fail_after(10):
            await console.get_message()
    with trio.fail_after(10):
        address = wire.world.api.replace("http", "ws") + f"/api/servers/events?access_token={token}"
        async with open_websocket_url(address) as events:
            await events.get_message()


async def journey(wire: Wire, stripe: SimulatedStripe) -> None:
    ada = {"email": "ada@example.com", "username": "ada", "password": FIRST}
    token = (await wire.call("POST", "/api/auth/register", ada, expect=201))["token"]
    await wire.call("POST", "/api/auth/email/verify", {"token": await wire.letter("verify_address")})
    wire.secrets.add(TYPED_AS_NAME)
    await wire.sign_in(TYPED_AS_NAME, "wrong but secret", expect=401)
    await wire.sign_in("ada", "wrong and secret too", expect=401)
    game = await provisioned(wire, token, a_game("lobby"))
    dev = await provisioned(wire, token, DEV)
    await use_the_console(wire, game, token)

    signed_in = await wire.sign_in("ada", FIRST)
    await wire.call("POST", "/api/auth/refresh", {"refreshToken": signed_in["refreshToken"]})
    await wire.call("POST", "/api/auth/refresh", {"refreshToken": "never-was-a-refresh-token-of-ours"}, expect=401)

    key = await wire.call(
        "POST", "/api/auth/api-keys", {"name": "ci", "scopes": [scope for scope in Scope if scope != "operator"]},
        token, 201,
    )  # fmt: skip
    await wire.call("POST", f"/api/servers/{game}/game/restart", token=key["key"])
    await wire.call("DELETE", f"/api/auth/api-keys/{key['apiKey']['id']}", token=token)
    await wire.call("GET", "/api/servers", token=key["key"], expect=401)

    wire.world.token = token
    stripe.pay(await page(wire.world, stripe))
    with trio.fail_after(20):
        while (await wire.call("GET", "/api/billing", token=token))["subscription"] is None:  # noqa: ASYNC110
            await trio.sleep(0.1)

    share = {"email": "bob@example.com", "permissions": ["power", "console"]}
    await wire.call("POST", f"/api/servers/{game}/shares", share, token, 201)
    ide = await wire.call("POST", f"/api/dev/{dev}/ide-token", {}, token)
    wire.secrets.add(ide["url"])

    await wire.call(
        "POST", "/api/auth/password", {"currentPassword": FIRST, "newPassword": "a password in between"}, token
    )
    token = (await wire.sign_in("ada", "a password in between"))["token"]
    await wire.call("POST", "/api/auth/password/forgot", {"email": "ada@example.com"}, expect=202)
    link = await wire.letter("reset_password")
    await wire.call("POST", "/api/auth/password/reset", {"token": link, "password": SECOND})
    await wire.call("POST", "/api/auth/password/reset", {"token": link, "password": "once more"}, expect=400)
    token = (await wire.sign_in("ada@example.com", SECOND))["token"]

    begun = await wire.call("POST", "/api/auth/totp", {"password": SECOND}, token)
    code = pyotp.TOTP(begun["secret"])
    codes = (await wire.call("POST", "/api/auth/totp/confirm", {"totp": code.now()}, token))["recoveryCodes"]
    await wire.sign_in("ada", SECOND, expect=401)
    await wire.sign_in("ada", SECOND, "123456", expect=401)
    token = (await wire.sign_in("ada", SECOND, codes[0]))["token"]

    operator = await wire.world.make_operator()
    wire.secrets |= {operator, OPERATORS}
    account_id = (await wire.call("GET", "/api/auth/me", token=token))["user"]["id"]
    because = {"reason": "asked for it by telephone"}
    acting = await wire.call("POST", f"/api/operators/accounts/{account_id}/act", because, operator, 201)
    await wire.call("GET", "/api/servers", token=acting["token"])
    await wire.call("POST", "/api/auth/logout", token=token)

    with trio.fail_after(20):
        seen: set[str] = set()
        while not seen >= ACTIONS:
            entries = (await wire.call("GET", "/api/audit?limit=200", token=operator))["audit"]
            seen = {entry["action"] for entry in entries}
            await trio.sleep(0.1)
    assert all(entry["outcome"] != "unknown" for entry in entries), entries


async def installations_own(world: World, database: Database) -> set[str]:
    """What nobody outside ever sees: the master key, agents' tokens, private keys, Proxmox's token, the first one of
    agents, Stripe's key and the secret of its webhooks."""
    master = (await trio.Path(world.settings["ZLH_DATABASE_DATA_DIR"], "master.key").read_text()).strip()
    vault = Vault([master])

    def read(connection: sa.Connection) -> set[str]:
        agents = [vault.open(sealed) for sealed in connection.execute(sa.select(containers.c.agent_token)).scalars()]
        pems = [vault.open(sealed) for sealed in connection.execute(sa.select(signing_keys.c.private_pem)).scalars()]
        assert len(agents) == 2
        return {KEY, SECRET, *agents, *(line for pem in pems for line in pem.splitlines()[1:-1])}

    return {master, BOOTSTRAP, world.cluster.token_secret, *await database.run(read)}


def dump(connection: sa.Connection) -> dict[str, str]:
    """Every table as text, bytes as they are."""

    def text(value: Any) -> str:
        return value.decode("latin-1") if isinstance(value, bytes | memoryview) else str(value)

    return {
        table.name: "\n".join(" ".join(map(text, row)) for row in connection.execute(sa.select(table)))
        for table in metadata.sorted_tables
    }


async def test_no_secret_is_left_anywhere(tmp_path: Path) -> None:
    async with open_world() as world, open_selling(world) as stripe:
        world.settings |= {
            "ZLH_ACCOUNTS_DEFAULT_PLAN": "unlimited",
            "ZLH_LOG_LEVEL": "debug",
            "ZLH_MAIL_MODE": "folder",
            "ZLH_MAIL_FOLDER": str(tmp_path),
            "ZLH_SERVER_PORTAL_URL": "https://portal.example",
        }
        pid = await world.start()
        wire = Wire(world)
        await journey(wire, stripe)
        database = Database(world.settings["ZLH_DATABASE_URL"], pool_size=2)
        secrets = wire.secrets | await installations_own(world, database)
        tables = await database.run(dump)
        await database.aclose()
        world.terminate(pid)
        assert await world.death(pid) == 0
        log = await trio.Path(world.folder, "api.log").read_text()
    assert len(secrets) >= 45
    # Six digits may be part of any number; as words they are in neither.
    codes = {secret for secret in secrets if re.fullmatch("[0-9]{6}", secret)}
    places = {"log": log, **tables}
    assert "master.key" in log
    assert tables[audit.name].count("\n") >= 25
    leaks = [(place, secret) for place, text in places.items() for secret in secrets - codes if secret in text]
    leaks += [
        (place, code) for place in ("log", audit.name) for code in codes if re.search(rf"\b{code}\b", places[place])
    ]
    assert leaks == []
