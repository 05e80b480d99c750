"""Every way in, by construction: whom it refuses, in which words, and whom it lets in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from math import inf

import pytest

from tests.api.doors import CONSOLE, DOORS, Door, Street, open_street
from tests.api.hostile import everything, example
from tests.api.world import NODE, PAPER, World, open_world
from zlh.accounts import KEY_PREFIX, KeyStanding
from zlh.accounts.access import key_hash
from zlh.api.routes import ROUTES
from zlh.api.routing import SAFE, Who
from zlh.model.access import SHAREABLE, Permission, Scope, with_implied
from zlh.model.accounts import Account, Acting, Role
from zlh.store import containers, shares

# What is only for somebody who signed in: credentials, and the account itself. Everything else has a scope.
CREDENTIALS = {
    "POST /api/auth/logout",
    "PATCH /api/auth/me",
    "POST /api/auth/password",
    "POST /api/auth/email",
    "POST /api/auth/email/resend",
    "GET /api/auth/sessions",
    "DELETE /api/auth/sessions",
    "DELETE /api/auth/sessions/<session_id>",
    "GET /api/auth/totp",
    "POST /api/auth/totp",
    "POST /api/auth/totp/confirm",
    "POST /api/auth/totp/recovery-codes",
    "DELETE /api/auth/totp",
    "GET /api/auth/api-keys",
    "POST /api/auth/api-keys",
    "DELETE /api/auth/api-keys/<key_id>",
    "PUT /api/operators/accounts/<id:account_id>/role",
    "POST /api/operators/accounts/<id:account_id>/act",
}
# Their handlers ask for the permission themselves: they have an answer for who may not see the container, too.
DECIDE_THEMSELVES = {
    "DELETE /api/containers/<vmid:vmid>",
    "POST /api/dev/<vmid:vmid>/ports/<port:port>/token",
}
# Where it is open to every account, others than those who see the container may, too: see test_ports.py.
FOR_ALL = "POST /api/dev/<vmid:vmid>/ports/<port:port>/token"
# What they change is there after the first call, or was never there.
ONCE = {
    *(route.name for route in ROUTES if "schedule_id" in route.parameters),
    "POST /api/dev/<vmid:vmid>/ports",
    "PATCH /api/dev/<vmid:vmid>/ports/<port:port>",
    "DELETE /api/dev/<vmid:vmid>/ports/<port:port>",
    FOR_ALL,
}
# What the suspended still may: look at themselves and at what they have,
SUSPENDED_LOOK = {
    "GET /api/auth/me",
    "GET /api/auth/sessions",
    "GET /api/auth/totp",
    "GET /api/users/profile",
    "GET /api/audit",
    "GET /api/instances",
    "GET /api/instances/<vmid:vmid>",
    "GET /api/operations",
    "GET /api/operations/<operation_id>",
    "GET /api/operations/<operation_id>/events",
    "GET /api/servers",
    "GET /api/servers/<vmid:vmid>",
    "GET /api/servers/events",
    "GET /api/game/<vmid:vmid>/files",
    "GET /api/dev/<vmid:vmid>/files",
    "GET /api/game/<vmid:vmid>/files/search",
    "GET /api/dev/<vmid:vmid>/files/search",
    "GET /api/game/<vmid:vmid>/console/history",
    "GET /api/dev/<vmid:vmid>/console/history",
    "GET /api/game/<vmid:vmid>/backups",
    "GET /api/dev/<vmid:vmid>/backups",
    "GET /api/billing",
    "GET /api/billing/plan/preview",
    "GET /api/billing/hours",
}
# sign out, pay, and have a server on so that its data can be fetched.
SUSPENDED_DO = {
    "POST /api/billing/checkout",
    "POST /api/billing/portal",
    "POST /api/billing/plan",
    "POST /api/billing/cancel",
    "POST /api/billing/resume",
    "POST /api/auth/logout",
    "DELETE /api/auth/sessions",
    "DELETE /api/auth/sessions/<session_id>",
    "POST /api/servers/<vmid:vmid>/retrieval",
}
OPERATORS = [door for door in DOORS if door.route.who in (Who.OPERATOR, Who.ADMIN)]
ADMINS = [door for door in DOORS if door.route.who is Who.ADMIN]
OWNED = [door for door in DOORS if door.owned]
NOBODYS = 5900
# What an operator in a customer's place may look at and not change.
SPENDING = (Scope.SHARES, Scope.BILLING)


@dataclass
class Scene(Street):
    """`ada` owns the container `vmid` and, where a dev container is wanted, `workshop`; `bob` owns nothing."""

    ada: Account
    bob: Account
    vmid: int
    workshop: int
    admin: Account | None = None

    @classmethod
    async def of(cls, street: Street) -> Scene:
        world = street.world
        ada, _ = await world.account("ada")
        bob, _ = await world.account("bob")
        rows = [world.fleet.add(ada, PAPER), world.fleet.add(ada, NODE)]
        await world.services.database.run(containers.insert, rows)
        return cls(street.world, street.shown, street.port, ada, bob, rows[0].vmid, rows[1].vmid)

    def token(self, account: Account, acting: Acting | None = None) -> str:
        """Of a sign-in of its own: some routes end it."""
        return self.world.services.people.tokens.issue(account.id, f"s{account.id}", acting)

    def key(self, account: Account, *scopes: Scope) -> str:
        token = f"{KEY_PREFIX}{account.id}-{'-'.join(scopes)}"
        standing = KeyStanding(f"k{hash(token)}", account.id, frozenset(scopes), inf)
        self.world.access.key_changed(key_hash(token), standing)
        return token

    def suspend(self, account: Account) -> Account:
        suspended = replace(account, suspended_at=account.created_at)
        self.world.access.account_changed(suspended)
        return suspended

    async def operator(self, role: Role = Role.OPERATOR) -> Account:
        account, _ = await self.world.account(role.value, role)
        return account

    def at(self, door: Door) -> int:
        return self.workshop if door.route.path.startswith("/api/dev/") else self.vmid

    async def caller(self, door: Door) -> Account:
        """One who has the role that the door asks for."""
        if door.route.who is Who.SIGNED_IN:
            return self.ada
        if self.admin is None:
            self.admin = await self.operator(Role.ADMIN)
        return self.admin


@pytest.fixture
async def scene(world: World) -> AsyncIterator[Scene]:
    async with open_street(world) as street:
        yield await Scene.of(street)


def test_every_route_says_what_it_needs() -> None:
    closed = [route for route in ROUTES if route.who is not Who.PUBLIC]
    assert {route.name for route in closed if route.scope is None} == CREDENTIALS
    for route in ROUTES:
        assert (route.audited is not None) is (route.method not in SAFE), route.name
    for route in closed:
        if "vmid" in route.parameters:
            assert (route.permission is None) is (route.name in DECIDE_THEMSELVES), route.name
        if route.who is not Who.SIGNED_IN:
            assert route.scope in (None, Scope.OPERATOR), route.name
        # An operator in somebody's place reaches no credentials but the end of that.
        assert not route.acting or route.name == "POST /api/auth/logout"
    assert len(DOORS) == len(closed) + 3
    assert {door.route for door in DOORS} == {*closed, CONSOLE}


async def test_a_stranger_is_refused(scene: Scene) -> None:
    forged = [None, "nonsense", f"{KEY_PREFIX}{'x' * 43}", scene.token(replace(scene.ada, id=999_999))]
    before = await everything(scene.world)
    for door in DOORS:
        for token in forged:
            reply = await scene.enter(door, token, scene.vmid, example(door.route))
            assert reply.status == 401, (door.name, token, reply)
    assert scene.world.fleet.calls == []
    assert await everything(scene.world) == before


def test_what_the_suspended_may_is_written_down() -> None:
    may = {route.name for route in ROUTES if route.suspended}
    assert {name for name in may if name.startswith("GET ")} == SUSPENDED_LOOK
    assert may - SUSPENDED_LOOK == SUSPENDED_DO
    assert all(route.who is Who.SIGNED_IN for route in ROUTES if route.suspended)


async def test_the_suspended_look_fetch_and_change_nothing(scene: Scene) -> None:
    suspended = scene.suspend(scene.ada)
    tokens = [scene.token(suspended), scene.key(suspended, *Scope)]
    for door in DOORS:
        for token in tokens[: 1 if door.route.scope is None else 2]:
            reply = await scene.knock(door, token, scene.at(door))
            if door.route.suspended:
                assert reply.welcome, (door.name, reply)
            else:
                assert reply.is_refusal(403, "suspended"), (door.name, reply)


async def test_a_suspended_operator_is_a_customer_who_is_suspended(scene: Scene) -> None:
    suspended = scene.suspend(await scene.operator(Role.ADMIN))
    tokens = [scene.token(suspended), scene.key(suspended, *Scope)]
    for door in DOORS:
        for token in tokens[: 1 if door.route.scope is None else 2]:
            reply = await scene.knock(door, token, scene.at(door))
            if not door.route.suspended:
                assert reply.is_refusal(403, "suspended"), (door.name, reply)
            elif door.owned:
                assert reply.is_refusal(404, "not_found"), (door.name, reply)
            else:
                assert reply.welcome, (door.name, reply)


async def test_a_suspended_sharee_only_sees(scene: Scene) -> None:
    for vmid in (scene.vmid, scene.workshop):
        scene.world.access.shares_changed(vmid, {scene.bob.id: SHAREABLE})
    token = scene.token(scene.suspend(scene.bob))
    for door in OWNED:
        reply = await scene.knock(door, token, scene.at(door))
        if not door.route.suspended:
            assert reply.is_refusal(403, "suspended"), (door.name, reply)
        elif door.needs is Permission.VIEW:
            assert reply.welcome, (door.name, reply)
        else:
            assert reply.is_refusal(403, "not_permitted"), (door.name, reply)


async def test_the_disabled_are_nobody(scene: Scene) -> None:
    admin = await scene.operator(Role.ADMIN)
    scene.world.access.account_changed(replace(admin, disabled_at=admin.created_at))
    for door in DOORS:
        for token in (scene.token(admin), scene.key(admin, *Scope)):
            reply = await scene.knock(door, token, scene.vmid)
            assert reply.is_refusal(401, "signed_out"), (door.name, reply)


async def test_anothers_container_does_not_exist(scene: Scene) -> None:
    assert len(OWNED) >= 18
    for door in OWNED:
        for token in (scene.token(scene.bob), scene.key(scene.bob, *Scope)):
            theirs = await scene.enter(door, token, scene.vmid, example(door.route))
            nobodys = await scene.enter(door, token, NOBODYS, example(door.route))
            assert theirs == nobodys, door.name
            assert theirs.is_refusal(404, "not_found"), (door.name, theirs)
    assert scene.world.fleet.calls == []


async def test_anothers_things_do_not_exist(scene: Scene) -> None:
    """What has an id of its own, by the name that addresses have for it."""
    world, ada = scene.world, scene.token(scene.ada)
    session = await world.services.people.sign_in.login(identifier="ada", password="correct horse")
    made = await world.call("POST", "/api/auth/api-keys", ada, {"name": "x", "scopes": ["files"]})
    stopped = await world.call("POST", f"/api/servers/{scene.vmid}/host/stop", ada)
    cid, _ = await world.account("cid")
    given = await world.services.database.run(
        shares.give,
        scene.vmid,
        email=cid.email,
        permissions=[Permission.FILES],
        given_by=scene.ada.id,
        now=scene.ada.created_at,
    )
    theirs = {
        "session_id": world.access.principal(session.token).session_id,
        "key_id": made.json["apiKey"]["id"],
        "operation_id": stopped.json["operation"]["id"],
        "share_id": given.id,
    }
    bob = scene.token(scene.bob)
    before = await everything(world)
    tried = set()
    for door in DOORS:
        if door.route.who is not Who.SIGNED_IN or door.owned:
            continue
        for parameter in door.route.parameters:
            tried.add(parameter)
            one = await scene.enter(door, bob, **{parameter: theirs[parameter]})
            other = await scene.enter(door, bob, **{parameter: "0" * len(theirs[parameter])})
            odd = await scene.enter(door, bob, **{parameter: "a%00b"})
            assert one == other == odd, door.name
            assert one.is_refusal(404, "not_found"), (door.name, one)
    assert tried == set(theirs)
    assert await everything(world) == before


async def test_a_sharee_may_what_was_given(scene: Scene) -> None:
    for given in SHAREABLE:
        for vmid in (scene.vmid, scene.workshop):
            scene.world.access.shares_changed(vmid, {scene.bob.id: [given]})
        for door in OWNED:
            if door.route.name == FOR_ALL:
                continue
            for token in (scene.token(scene.bob), scene.key(scene.bob, *Scope)):
                if door.route.permission is not None and door.needs in with_implied([given]):
                    reply = await scene.knock(door, token, scene.at(door))
                    assert reply.welcome, (door.name, given, reply)
                else:
                    reply = await scene.enter(door, token, scene.at(door), example(door.route))
                    assert reply.is_refusal(403, "not_permitted"), (door.name, given, reply)
    assert scene.world.fleet.calls == []


async def test_a_sharee_is_answered_as_the_owner(scene: Scene) -> None:
    for vmid in (scene.vmid, scene.workshop):
        scene.world.access.shares_changed(vmid, {scene.bob.id: SHAREABLE})
    for door in OWNED:
        if door.needs is Permission.OWN or door.route.name in ONCE:
            continue
        body = example(door.route)
        owner = await scene.enter(door, scene.token(scene.ada), scene.at(door), body)
        sharee = await scene.enter(door, scene.token(scene.bob), scene.at(door), body)
        assert sharee == owner, door.name
        assert owner.status < 300, (door.name, owner)


async def test_a_key_may_what_its_scopes_say(scene: Scene) -> None:
    for door in DOORS:
        caller = await scene.caller(door)
        for scope in Scope:
            # An administrator's key without the scope `operator` is a customer's, who sees other containers only.
            reply = await scene.knock(door, scene.key(caller, scope), scene.at(door))
            if scope is door.route.scope:
                assert reply.welcome, (door.name, scope, reply)
            else:
                assert reply.is_refusal(403, "scope"), (door.name, scope, reply)


async def test_all_scopes_are_not_enough_for_credentials(scene: Scene) -> None:
    keys = {door: scene.key(await scene.caller(door), *Scope) for door in DOORS if door.route.scope is None}
    before = await everything(scene.world)
    for door, key in keys.items():
        reply = await scene.enter(door, key, scene.at(door), example(door.route))
        assert reply.is_refusal(403, "scope"), (door.name, reply)
    assert await everything(scene.world) == before


async def test_whoever_may_is_let_in(scene: Scene) -> None:
    """Else all those who are refused would prove nothing."""
    for door in DOORS:
        reply = await scene.knock(door, scene.token(await scene.caller(door)), scene.at(door))
        assert reply.welcome, (door.name, reply)


async def test_customers_stay_out_where_operators_belong(scene: Scene) -> None:
    assert len(OPERATORS) >= 14
    for door in OPERATORS:
        # A key keeps the scope of an operator who is none any more.
        for token in (scene.token(scene.ada), scene.key(scene.ada, *Scope)):
            reply = await scene.enter(door, token, scene.vmid, example(door.route))
            refused = "scope" if token.startswith(KEY_PREFIX) and door.route.scope is None else "forbidden"
            assert reply.is_refusal(403, refused), (door.name, reply)


async def test_operators_stay_out_where_administrators_belong(scene: Scene) -> None:
    operator, admin = await scene.operator(), await scene.operator(Role.ADMIN)
    assert ADMINS
    for door in OPERATORS:
        reply = await scene.knock(door, scene.token(operator), scene.vmid)
        assert reply.welcome is (door not in ADMINS), door.name
        if door in ADMINS:
            assert reply.is_refusal(403, "forbidden"), (door.name, reply)
            assert (await scene.knock(door, scene.token(admin), scene.vmid)).welcome, door.name


async def test_operators_see_every_container(scene: Scene) -> None:
    operator = await scene.operator()
    for door in OWNED:
        for token in (scene.token(operator), scene.key(operator, *Scope)):
            assert (await scene.knock(door, token, scene.at(door))).welcome, door.name
            nothing = await scene.enter(door, token, NOBODYS, example(door.route))
            assert nothing.is_refusal(404, "not_found"), (door.name, nothing)


async def test_who_owes_a_second_factor_is_a_customer_until_then(postgres_url: str) -> None:
    async with (
        open_world(postgres_url, operators_need_second_factor=True) as world,
        open_street(world) as street,
    ):
        scene = await Scene.of(street)
        admin = await scene.operator(Role.ADMIN)
        tokens = scene.token(admin), scene.key(admin, *Scope)
        for token in tokens:
            for door in [door for door in OPERATORS if token is tokens[0] or door.route.scope is not None]:
                reply = await scene.knock(door, token, scene.vmid)
                assert reply.is_refusal(403, "second_factor_needed"), (door.name, reply)
            for door in OWNED:
                reply = await scene.enter(door, token, scene.at(door), example(door.route))
                assert reply.is_refusal(404, "not_found"), (door.name, reply)
        world.access.account_changed(replace(admin, second_factor_at=admin.created_at))
        for door in (*OPERATORS, *OWNED):
            assert (await scene.knock(door, tokens[0], scene.at(door))).welcome, door.name


async def test_an_operator_in_a_customers_place(scene: Scene) -> None:
    """Sees what that customer sees; changes something only where that was asked for, and never credentials, shares
    or what costs money."""
    operator = await scene.operator()
    looking = scene.token(scene.ada, Acting(operator.id, read_only=True))
    working = scene.token(scene.ada, Acting(operator.id, read_only=False))
    for door in DOORS:
        looks = await scene.knock(door, looking, scene.at(door))
        works = await scene.knock(door, working, scene.at(door))
        if door in OPERATORS:
            assert looks.is_refusal(403, "forbidden"), (door.name, looks)
            assert works.is_refusal(403, "forbidden"), (door.name, works)
        elif door.route.acting:
            assert (looks.welcome, works.welcome) == (True, True), door.name
        elif door.route.scope is None or (door.changing and door.route.scope in SPENDING):
            assert looks.is_refusal(403, "acting"), (door.name, looks)
            assert works.is_refusal(403, "acting"), (door.name, works)
        else:
            assert works.welcome, (door.name, works)
            assert looks.welcome is not door.changing, (door.name, looks)
            assert looks.welcome or looks.is_refusal(403, "read_only"), (door.name, looks)
    elsewhere = scene.token(scene.bob, Acting(operator.id, read_only=False))
    for door in OWNED:
        reply = await scene.enter(door, elsewhere, scene.at(door), example(door.route))
        never = door.changing and door.route.scope is Scope.SHARES
        assert reply.is_refusal(*((403, "acting") if never else (404, "not_found"))), (door.name, reply)
