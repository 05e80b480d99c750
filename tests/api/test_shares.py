"""Sharing a container, from both sides of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
import trio

from tests.api.test_operations import parse
from tests.api.test_servers import closing, socket
from tests.api.world import PAPER, Answer, World, open_world
from tests.stack import until
from tests.stopwatch import Stopwatch
from zlh.api import answers, shares
from zlh.model.access import EVERYTHING, Permission, told
from zlh.model.accounts import Account, Role
from zlh.model.containers import Container
from zlh.model.operations import OperationState
from zlh.store import containers
from zlh.store.tables import accounts as accounts_table
from zlh.store.tables import outbox

EVERY = [permission.value for permission in Permission if permission is not Permission.VIEW]


@dataclass
class Scene:
    """`ada` owns a container, `bob` is somebody else."""

    world: World
    ada: Account
    ada_token: str
    bob: Account
    bob_token: str
    vmid: int

    @property
    def path(self) -> str:
        return f"/api/servers/{self.vmid}/shares"

    async def give(self, *permissions: str, email: str = "bob@example.com", token: str | None = None) -> Answer:
        body = {"email": email, "permissions": list(permissions)}
        return await self.world.call("POST", self.path, token or self.ada_token, body)

    async def given(self, *permissions: str) -> str:
        """The path of a new share with bob."""
        answer = await self.give(*permissions)
        assert answer.status == 201, answer.raw
        return f"{self.path}/{answer.json['share']['id']}"

    async def seen(self, path: str) -> Any:
        return (await self.world.call("GET", path, self.bob_token)).json


async def add(world: World, owner: Account) -> Container:
    """A container that the database knows too."""
    row = world.fleet.add(owner, PAPER)
    await world.services.database.run(containers.insert, [row])
    return row


@pytest.fixture
async def scene(world: World) -> Scene:
    ada, ada_token = await world.account("ada")
    bob, bob_token = await world.account("bob")
    return Scene(world, ada, ada_token, bob, bob_token, (await add(world, ada)).vmid)


async def test_give_list_change_withdraw(scene: Scene) -> None:
    call, token = scene.world.call, scene.ada_token
    made = await scene.give("files", "power", "files", email=" Bob@Example.com ")
    share = shares.Shared.model_validate_json(made.raw).share
    assert (made.status, share.email, share.created_by) == (201, "Bob@Example.com", "ada")
    assert share.permissions == [Permission.POWER, Permission.FILES]
    listed = await call("GET", scene.path, token)
    assert shares.Shares.model_validate_json(listed.raw).shares == [share]
    again = await scene.give("power", email="BOB@EXAMPLE.COM")
    assert (again.status, again.json["code"]) == (409, "already_shared")
    one = f"{scene.path}/{share.id}"
    changed = await call("PATCH", one, token, {"permissions": ["console"]})
    assert (changed.status, changed.json["share"]["permissions"]) == (200, ["console"])
    assert (await call("DELETE", one, token)).json == {"ok": True}
    assert (await call("DELETE", one, token)).status == 404
    assert (await call("PATCH", one, token, {"permissions": ["console"]})).status == 404
    assert (await call("GET", scene.path, token)).json == {"shares": []}


async def test_who_gives_what_cannot_be_given_is_told_what_can(scene: Scene) -> None:
    [problem] = (await scene.give("everything")).json["details"]
    assert problem["problem"] == "only these can be given: power, watch, console, files, mods, backups, ide"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"email", "permissions"}),
        ({"email": "bob@example.com", "permissions": []}, {"permissions"}),
        ({"email": "bob@example.com", "permissions": ["own"]}, {"permissions.0"}),
        ({"email": "bob@example.com", "permissions": ["power", "view"]}, {"permissions.1"}),
        ({"email": "bob@example.com", "permissions": ["everything", 5]}, {"permissions.0", "permissions.1"}),
        ({"email": "bob@example.com", "permissions": "power"}, {"permissions"}),
        ({"email": "bob@example.com", "permissions": ["power"] * 99}, {"permissions"}),
        ({"email": "no address", "permissions": ["power"]}, {"email"}),
        ({"email": "a@example.com\r\nBcc: b@example.com", "permissions": ["power"]}, {"email"}),
        ({"email": "ADA@example.com", "permissions": ["power"]}, {"email"}),
    ],
)
async def test_what_cannot_be_given(scene: Scene, body: dict[str, Any], fields: set[str]) -> None:
    answer = await scene.world.call("POST", scene.path, scene.ada_token, body)
    assert answer.status == 400
    assert {problem["field"] for problem in answer.json["details"]} == fields
    assert (await scene.world.call("GET", scene.path, scene.ada_token)).json == {"shares": []}


async def test_odd_ids_of_shares(scene: Scene) -> None:
    for odd in ("a%00b", "x" * 300, "..%2f", "%F0%9F%92%A9", "1"):
        assert (await scene.world.call("DELETE", f"{scene.path}/{odd}", scene.ada_token)).status == 404
        assert (await scene.world.call("DELETE", f"/api/shares/{odd}", scene.bob_token)).status == 404


async def test_who_has_an_account_is_not_told(postgres_url: str) -> None:
    async with open_world(postgres_url, mail=True, portal_url="https://portal.example") as world:
        ada, ada_token = await world.account("ada")
        bob, bob_token = await world.account("bob")
        scene = Scene(world, ada, ada_token, bob, bob_token, (await add(world, ada)).vmid)
        told = [(await scene.give("power", email=f"{name}@example.com")).json["share"] for name in ("bob", "nobody")]
        assert {frozenset(share) for share in told} == {frozenset(told[0])}
        query = sa.select(outbox.c.kind, outbox.c.recipient).order_by(outbox.c.recipient)
        letters = await world.services.database.run(lambda connection: connection.execute(query).all())
        assert [tuple(letter) for letter in letters if letter.kind == "share_received"] == [
            ("share_received", "bob@example.com"),
            ("share_received", "nobody@example.com"),
        ]


async def test_an_account_whose_address_is_not_verified_sees_nothing(scene: Scene) -> None:
    unverify = sa.update(accounts_table).where(accounts_table.c.id == scene.bob.id).values(email_verified_at=None)
    await scene.world.services.database.run(lambda connection: connection.execute(unverify))
    await scene.given("power")
    assert await scene.seen("/api/servers") == {"servers": []}
    assert await scene.seen("/api/shares") == {"shares": []}


async def test_what_is_shared_is_seen_everywhere_and_nothing_else(scene: Scene) -> None:
    world, vmid = scene.world, scene.vmid
    hidden = (await add(world, scene.ada)).vmid
    own = (await add(world, scene.bob)).vmid
    operation = (await world.call("POST", f"/api/servers/{vmid}/host/stop", scene.ada_token)).json["operation"]
    one = await scene.given("power", "console")
    may = ["power", "watch", "console"]
    listed = answers.Servers.model_validate(await scene.seen("/api/servers"))
    assert [server.id for server in listed.servers] == [str(own), str(vmid)]
    assert listed.shared == {str(vmid): may}
    assert answers.OneServer.model_validate(await scene.seen(f"/api/servers/{vmid}")).permissions == may
    assert (await scene.seen(f"/api/servers/{own}"))["permissions"] == EVERY == list(told(EVERYTHING))
    rows = answers.Instances.model_validate(await scene.seen("/api/instances")).rows
    assert [row.vmid for row in rows] == [own, vmid]
    assert (await scene.seen(f"/api/instances/{vmid}"))["row"]["vmid"] == vmid
    page = answers.OperationPage.model_validate(await scene.seen("/api/operations"))
    assert [found.id for found in page.operations] == [operation["id"]]
    assert (await scene.seen(operation["href"]))["operation"]["id"] == operation["id"]
    received = shares.ReceivedShares.model_validate(await scene.seen("/api/shares")).shares
    assert [(found.vmid, found.owner, found.name) for found in received] == [(vmid, "ada", "lobby")]
    assert received[0].permissions == ["power", "console"]
    assert (await world.call("GET", f"/api/servers/{hidden}", scene.bob_token)).status == 404
    assert (await world.call("GET", "/api/servers", scene.ada_token)).json.keys() == {"servers"}
    await world.call("DELETE", one, scene.ada_token)
    assert [server["id"] for server in (await scene.seen("/api/servers"))["servers"]] == [str(own)]
    for path in (f"/api/servers/{vmid}", f"/api/instances/{vmid}", operation["href"], operation["href"] + "/events"):
        assert (await world.call("GET", path, scene.bob_token)).status == 404, path
    assert (await scene.seen("/api/operations"))["operations"] == []


async def test_one_may_what_was_given_and_nothing_more(scene: Scene) -> None:
    world, vmid = scene.world, scene.vmid

    async def tried(method: str, path: str, body: Any = None) -> tuple[int, str | None]:
        answer = await world.call(method, path, scene.bob_token, body)
        return answer.status, answer.json.get("code")

    one = await scene.given("console")
    refused = (403, "not_permitted")
    assert await tried("POST", f"/api/servers/{vmid}/game/stop") == refused
    await world.call("PATCH", one, scene.ada_token, {"permissions": ["power"]})
    assert (await tried("POST", f"/api/servers/{vmid}/game/stop"))[0] == 200
    assert (await tried("POST", f"/api/servers/{vmid}/host/stop"))[0] == 202
    assert world.fleet.calls == [("stop_game", vmid), ("stop_host", vmid, scene.bob.id)]
    for method, path, body in (
        ("PUT", f"/api/servers/{vmid}/upgrade", {"memory": 4096}),
        ("DELETE", f"/api/containers/{vmid}", None),
        ("GET", scene.path, None),
        ("POST", scene.path, {"email": "eve@example.com", "permissions": ["power"]}),
        ("PATCH", one, {"permissions": ["power", "files"]}),
        ("DELETE", one, None),
    ):
        assert await tried(method, path, body) == refused, (method, path)
    await world.call("DELETE", one, scene.ada_token)
    assert (await tried("POST", f"/api/servers/{vmid}/game/stop"))[0] == 404
    assert len(world.fleet.calls) == 2


async def test_who_was_given_it_may_leave(scene: Scene) -> None:
    share_id = (await scene.given("power")).rpartition("/")[2]
    for token in (scene.ada_token, (await scene.world.account("eve"))[1]):
        assert (await scene.world.call("DELETE", f"/api/shares/{share_id}", token)).status == 404
    assert (await scene.world.call("DELETE", f"/api/shares/{share_id}", scene.bob_token)).json == {"ok": True}
    assert await scene.seen("/api/servers") == {"servers": []}
    assert (await scene.world.call("GET", scene.path, scene.ada_token)).json == {"shares": []}


async def test_operators_see_and_withdraw(scene: Scene) -> None:
    _, operator = await scene.world.account("op", Role.OPERATOR)
    one = await scene.given("power")
    listed = await scene.world.call("GET", scene.path, operator)
    assert [share["email"] for share in listed.json["shares"]] == ["bob@example.com"]
    assert (await scene.world.call("DELETE", one, operator)).status == 200
    assert await scene.seen("/api/servers") == {"servers": []}


async def test_operations_of_a_former_container_with_that_vmid_stay_unseen(scene: Scene) -> None:
    world = scene.world
    operation = (await world.call("POST", f"/api/servers/{scene.vmid}/host/stop", scene.ada_token)).json["operation"]
    eve, _ = await world.account("eve")
    world.fleet.touch(scene.vmid, owner_id=eve.id)
    world.access.shares_changed(scene.vmid, {scene.bob.id: [Permission.POWER]})
    assert (await world.call("GET", operation["href"], scene.bob_token)).status == 404


async def test_the_same_key_at_another_container_is_another_request(scene: Scene) -> None:
    other = (await add(scene.world, scene.ada)).vmid
    body = {"email": "bob@example.com", "permissions": ["power"]}
    token = scene.ada_token
    first = await scene.world.call("POST", scene.path, token, body, Idempotency_Key="k")
    again = await scene.world.call("POST", scene.path, token, body, Idempotency_Key="k")
    assert (first.status, again.status, first.raw) == (201, 201, again.raw)
    elsewhere = await scene.world.call("POST", f"/api/servers/{other}/shares", token, body, Idempotency_Key="k")
    assert elsewhere.status == 422


async def test_a_new_share_appears_on_an_open_stream_and_a_withdrawn_one_goes(scene: Scene) -> None:
    vmid, world = str(scene.vmid), scene.world
    with trio.fail_after(10):
        async with socket(world, scene.bob_token) as ws:
            assert orjson.loads(await ws.receive()) == {"event": "snapshot", "servers": []}
            one = await scene.given("power")
            watch = Stopwatch()
            delta = orjson.loads(await ws.receive())
            assert watch.seconds < 1
            assert [server["id"] for server in delta["servers"]] == [vmid]
            assert (delta["shared"], delta["removed"]) == ({vmid: ["power"]}, [])
            await world.call("PATCH", one, scene.ada_token, {"permissions": ["files"]})
            assert orjson.loads(await ws.receive())["shared"] == {vmid: ["files"]}
            world.fleet.touch(scene.vmid, name="renamed")
            delta = orjson.loads(await ws.receive())
            assert (delta["servers"][0]["name"], delta["shared"]) == ("renamed", {vmid: ["files"]})
            await world.call("DELETE", one, scene.ada_token)
            watch = Stopwatch()
            assert orjson.loads(await ws.receive()) == {"event": "delta", "servers": [], "removed": [vmid]}
            assert watch.seconds < 1
            world.fleet.touch(scene.vmid, name="unseen")
            await scene.given("power")
            assert orjson.loads(await ws.receive())["servers"][0]["name"] == "unseen"
            # The container's end is the end of its shares.
            world.fleet.remove(scene.vmid)
            assert orjson.loads(await ws.receive())["removed"] == [vmid]
    assert world.access.open_grants() == 0
    assert world.access.shared._hearing == {}


async def test_a_snapshot_tells_what_is_shared(scene: Scene) -> None:
    await scene.given("ide")
    with trio.fail_after(10):
        async with socket(scene.world, scene.bob_token) as ws:
            snapshot = orjson.loads(await ws.receive())
            assert snapshot["shared"] == {str(scene.vmid): ["ide"]}
            scene.world.access.session_revoked(scene.world.access.principal(scene.bob_token).session_id)
            assert await closing(ws) == 4401


async def follow(world: World, href: str, token: str, act: Any) -> bytes:
    """What the stream of an operation says until it ends, which `act` sees to once it is open."""
    got: list[Answer] = []

    async def opened() -> bool:
        return world.access.open_grants() > 0

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                got.append(await world.call("GET", f"{href}/events", token))

            nursery.start_soon(read)
            await until(opened)
            await act()
    return got[0].raw


async def test_the_stream_of_an_operation_ends_with_the_share(scene: Scene) -> None:
    world = scene.world
    one = await scene.given("power")
    href = (await world.call("POST", f"/api/servers/{scene.vmid}/host/stop", scene.bob_token)).json["operation"][
        "href"
    ]

    async def withdraw() -> None:
        assert (await world.call("DELETE", one, scene.ada_token)).status == 200

    assert [event["seq"] for event in parse(await follow(world, href, scene.bob_token, withdraw))] == [0]
    assert world.access.open_grants() == 0


async def test_the_owner_still_hears_how_a_teardown_ended(scene: Scene) -> None:
    world = scene.world
    answer = await world.call("DELETE", f"/api/containers/{scene.vmid}?force=true", scene.ada_token)
    operation = answer.json["operation"]

    async def finish() -> None:
        world.fleet.remove(scene.vmid)
        await trio.sleep(0.1)
        world.fleet.advance(operation["id"], OperationState.SUCCEEDED)

    events = parse(await follow(world, operation["href"], scene.ada_token, finish))
    assert [event["state"] for event in events] == ["running", "succeeded"]
