"""Acting in a customer's place: for a reason, not for long, only to look unless asked, and never in the dark."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tests.accounts.visits import enter_console
from tests.api.world import PAPER, PASSWORD, World, open_world
from zlh.api.routes import ROUTES
from zlh.model.accounts import Account, Role
from zlh.store import sessions
from zlh.store.tables import audit, outbox

WHY = {"reason": "ticket 4711: the server does not start"}


async def begin(world: World, customer: Account, operator: str, **wishes: Any) -> Any:
    """The answer to the request."""
    address = f"/api/operators/accounts/{customer.id}/act"
    return await world.call("POST", address, operator, WHY | wishes)


async def test_the_operator_sees_what_the_customer_sees_and_no_more(world: World) -> None:
    ada, _ = await world.account("ada")
    bob, _ = await world.account("bob")
    hers = world.fleet.add(ada, PAPER).vmid
    his = world.fleet.add(bob, PAPER).vmid
    _, operator = await world.account("op", Role.OPERATOR)
    begun = await begin(world, ada, operator)
    assert begun.status == 201
    assert (begun.json["expiresIn"], begun.json["readOnly"], begun.json["user"]["id"]) == (600, True, ada.id)
    assert "refreshToken" not in begun.json
    token = begun.json["token"]
    assert [server["id"] for server in (await world.call("GET", "/api/servers", token)).json["servers"]] == [
        str(hers)
    ]
    assert (await world.call("GET", f"/api/servers/{his}", token)).status == 404
    assert (await world.call("GET", "/api/operators/accounts", token)).status == 403
    assert (await world.call("GET", "/api/auth/me", token)).json["user"]["id"] == ada.id


async def test_only_to_look_unless_more_was_asked_for(world: World) -> None:
    ada, _ = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    operator, operators = await world.account("op", Role.OPERATOR)
    looking = (await begin(world, ada, operators)).json["token"]
    stop = f"/api/servers/{vmid}/host/stop"
    for method, address in (("POST", stop), ("DELETE", f"/api/containers/{vmid}"), ("PATCH", "/api/auth/me")):
        answer = await world.call(method, address, looking, raw=b"{}")
        assert (answer.status, answer.json["code"] in ("read_only", "acting")) == (403, True)
    assert world.fleet.calls == []
    doing = (await begin(world, ada, operators, readOnly=False)).json["token"]
    stopped = await world.call("POST", stop, doing)
    assert stopped.status == 202
    # Who was really at the keyboard.
    assert world.access.principal(doing).actor_id == operator.id


async def test_a_console_is_read_and_only_typed_into_where_that_was_asked_for(world: World) -> None:
    ada, _ = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    _, operators = await world.account("op", Role.OPERATOR)
    for read_only in (True, False):
        token = (await begin(world, ada, operators, readOnly=read_only)).json["token"]
        grant = enter_console(world.access, token, vmid)
        assert grant.may_type is not read_only
        grant.release()


async def test_never_the_credentials(world: World) -> None:
    ada, _ = await world.account("ada")
    _, operators = await world.account("op", Role.OPERATOR)
    token = (await begin(world, ada, operators, readOnly=False)).json["token"]
    own = [route for route in ROUTES if route.scope is None and route.who.value == "signed_in" and not route.acting]
    assert len(own) >= 3
    for route in own:
        path = route.path.replace("<session_id>", "x").replace("<key_id>", "x").replace("<share_id>", "x")
        answer = await world.call(route.method, path, token, raw=b"{}")
        assert (answer.status, answer.json["code"]) == (403, "acting"), route.name


async def test_the_operator_ends_it_by_signing_out(world: World) -> None:
    ada, hers = await world.account("ada")
    _, operators = await world.account("op", Role.OPERATOR)
    token = (await begin(world, ada, operators)).json["token"]
    assert (await world.call("POST", "/api/auth/logout", token)).status == 200
    assert (await world.call("GET", "/api/servers", token)).json["code"] == "signed_out"
    for others in (hers, operators):
        assert (await world.call("GET", "/api/servers", others)).status == 200


async def test_the_customer_finds_it_and_ends_it(world: World) -> None:
    ada, hers = await world.account("ada")
    _, operators = await world.account("op", Role.OPERATOR)
    token = (await begin(world, ada, operators)).json["token"]
    listed = (await world.call("GET", "/api/auth/sessions", hers)).json["sessions"]
    found = [session for session in listed if session["operator"]]
    assert [session["reason"] for session in found] == [WHY["reason"]]
    assert not found[0]["address"]
    assert not found[0]["agent"]
    grant = world.access.stay(world.access.principal(token))
    ended: list[int] = []
    grant.on_end(lambda code, reason: ended.append(code))
    assert (await world.call("DELETE", f"/api/auth/sessions/{found[0]['id']}", hers)).status == 200
    assert ended == [4401]
    assert (await world.call("GET", "/api/servers", token)).status == 401


async def test_it_ends_with_the_operators_rights(world: World) -> None:
    ada, _ = await world.account("ada")
    _, root = await world.account("root", Role.ADMIN)
    operator, operators = await world.account("op", Role.OPERATOR)
    own = f"/api/operators/accounts/{operator.id}"
    ways: list[tuple[str, str, dict[str, Any], list[tuple[str, str, Any]]]] = [
        ("PUT", "role", {"role": "customer"}, [("PUT", "role", {"role": "operator"})]),
        ("POST", "suspend", WHY, [("POST", "unsuspend", None)]),
        ("POST", "sign-out", {}, []),
        ("POST", "disable", WHY, [("POST", "enable", None)]),
    ]
    for method, verb, body, back in ways:
        token = (await begin(world, ada, operators)).json["token"]
        grant = world.access.stay(world.access.principal(token))
        ended: list[int] = []
        grant.on_end(lambda code, reason, ended=ended: ended.append(code))  # type: ignore[misc]
        assert (await world.call(method, f"{own}/{verb}", root, body)).status == 200
        assert len(ended) == 1, verb
        assert (await world.call("GET", "/api/servers", token)).status == 401, verb
        for undo, name, content in back:
            assert (await world.call(undo, f"{own}/{name}", root, content)).status == 200
        # Rights that come back bring nothing else back.
        assert (await world.call("GET", "/api/servers", token)).status == 401, verb
        operators = (await world.services.people.sign_in.login(identifier="op", password=PASSWORD)).token


async def test_it_ends_with_the_operators_password_and_sign_ins(world: World) -> None:
    ada, _ = await world.account("ada")
    _, operators = await world.account("op", Role.OPERATOR)
    ways: list[tuple[str, str, dict[str, str] | None]] = [
        ("POST", "/api/auth/password", {"currentPassword": PASSWORD, "newPassword": "another password"}),
        ("DELETE", "/api/auth/sessions", None),
    ]
    for method, address, body in ways:
        token = (await begin(world, ada, operators, readOnly=False)).json["token"]
        assert (await world.call(method, address, operators, body)).status == 200
        assert (await world.call("GET", "/api/servers", token)).status == 401, address
        assert (await world.call("GET", "/api/servers", operators)).status == 200, address


async def test_nobody_acts_for_operators_or_for_who_is_disabled(world: World) -> None:
    operator, token = await world.account("op", Role.OPERATOR)
    colleague, _ = await world.account("op2", Role.OPERATOR)
    root, admins = await world.account("root", Role.ADMIN)
    ada, _ = await world.account("ada")
    for target in (operator, colleague, root):
        for asking in (token, admins):
            assert (await begin(world, target, asking)).json["code"] == "forbidden"
    await world.call("POST", f"/api/operators/accounts/{ada.id}/disable", token, WHY)
    assert (await begin(world, ada, token)).json["code"] == "disabled"


async def test_it_ends_when_the_customer_becomes_an_operator(world: World) -> None:
    ada, _ = await world.account("ada")
    _, operators = await world.account("op", Role.OPERATOR)
    _, root = await world.account("root", Role.ADMIN)
    token = (await begin(world, ada, operators)).json["token"]
    await world.call("PUT", f"/api/operators/accounts/{ada.id}/role", root, {"role": "operator"})
    assert (await world.call("GET", "/api/servers", token)).status == 401


async def test_no_api_key_acts_and_no_acting_operator_acts_further(world: World) -> None:
    ada, _ = await world.account("ada")
    bob, _ = await world.account("bob")
    _, operators = await world.account("op", Role.OPERATOR)
    made = await world.call("POST", "/api/auth/api-keys", operators, {"name": "robot", "scopes": ["operator"]})
    assert (await world.call("GET", "/api/operators/accounts", made.json["key"])).status == 200
    assert (await begin(world, ada, made.json["key"])).json["code"] == "scope"
    token = (await begin(world, ada, operators, readOnly=False)).json["token"]
    assert (await begin(world, bob, token)).status == 403


async def test_it_is_short_and_there_is_no_refresh_token(world: World) -> None:
    ada, _ = await world.account("ada")
    _, operators = await world.account("op", Role.OPERATOR)
    token = (await begin(world, ada, operators)).json["token"]
    session_id = world.access.principal(token).session_id

    def read(connection: Connection) -> tuple[sessions.Session | None, int]:
        kept = connection.execute(
            sa.text("SELECT count(*) FROM refresh_tokens WHERE session_id = :id"), {"id": session_id}
        )
        return sessions.get(connection, session_id), kept.scalar_one()

    session, kept = await world.services.database.run(read)
    assert session is not None
    assert kept == 0
    assert (session.expires_at - session.created_at).total_seconds() == 600
    assert (session.reason, session.read_only) == (WHY["reason"], True)


async def test_the_customer_is_told_in_a_letter(postgres_url: str) -> None:
    async with open_world(postgres_url, mail=True) as world:
        ada, _ = await world.account("ada")
        _, operators = await world.account("op", Role.OPERATOR)
        assert (await begin(world, ada, operators)).status == 201
        query = sa.select(outbox.c.kind).where(outbox.c.recipient == ada.email)
        kinds = await world.services.database.run(lambda connection: connection.execute(query).scalars().all())
        assert "operator_acted" in kinds


async def test_both_are_in_the_record(world: World) -> None:
    ada, _ = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    operator, operators = await world.account("op", Role.OPERATOR)
    token = (await begin(world, ada, operators, readOnly=False)).json["token"]
    session_id = world.access.principal(token).session_id
    await world.call("POST", f"/api/servers/{vmid}/host/stop", token)

    def rows(connection: Connection) -> dict[str, Any]:
        return {row.action: row for row in connection.execute(sa.select(audit))}

    found = await world.services.database.run(rows)
    act, stop = found["account.act"], found["host.stop"]
    assert (act.actor_id, act.subject_id, act.outcome) == (operator.id, ada.id, "done")
    assert act.details == {"reason": WHY["reason"], "read_only": False, "session": session_id}
    assert (stop.actor_id, stop.subject_id, stop.credential) == (operator.id, ada.id, f"acting:{session_id}")
    assert isinstance(act.at, datetime)
