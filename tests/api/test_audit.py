"""The audit record over HTTP: every changing call is in it by construction, and everybody sees what is theirs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
import trio

from tests.api.world import GOOD_INSTANCE, PAPER, PASSWORD, Answer, World, open_world
from zlh.api.routes import ROUTES
from zlh.api.routing import SAFE
from zlh.model.accounts import Acting, Role
from zlh.model.audit import Act
from zlh.store import Database, StoreUnavailable
from zlh.store import audit as store
from zlh.store.audit import Entry, Wanted

AWAY = StoreUnavailable("the database is not reachable")


async def written(world: World, **wanted: Any) -> list[Entry]:
    """What is in the record, the oldest first."""
    await world.services.people.audit.flushed()
    return (await world.services.people.audit.page(Wanted(limit=200, **wanted)))[::-1]


async def the_one(world: World, **wanted: Any) -> Entry:
    [entry] = await written(world, **wanted)
    return entry


def ids(entry: Entry) -> tuple[int | None, int | None]:
    return entry.actor and entry.actor.id, entry.subject and entry.subject.id


async def test_a_change_is_recorded_with_who_whose_where_and_how_it_ended(world: World) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    answer = await world.call(
        "POST",
        f"/api/servers/{vmid}/host/stop",
        token,
        X_Forwarded_For="203.0.113.7",
        User_Agent="curl/8",
        X_Request_Id="request-1",
    )
    assert answer.status == 202
    entry = await the_one(world, action="host.stop")
    assert ids(entry) == (ada.id, ada.id)
    assert (entry.vmid, entry.outcome, entry.status) == (vmid, "done", 202)
    assert (entry.address, entry.agent, entry.request_id) == ("203.0.113.7", "curl/8", "request-1")
    assert entry.credential == f"session:{world.access.principal(token).session_id}"
    assert entry.details == {"operation": answer.json["operation"]["id"]}


async def test_reads_are_not_recorded(world: World) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    for path in ("/api/servers", f"/api/servers/{vmid}", "/api/audit", "/api/auth/me"):
        assert (await world.call("GET", path, token)).status == 200
    assert await written(world) == []


async def test_the_row_is_there_before_the_handler_and_stays_unknown_where_it_is_cut_off(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    begun = trio.Event()

    async def stuck(vmid: int) -> None:
        begun.set()
        await trio.sleep_forever()

    monkeypatch.setattr(world.fleet, "start_game", stuck)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.call, "POST", f"/api/servers/{vmid}/game/start", token)
        with trio.fail_after(5):
            await begun.wait()
        assert (await the_one(world)).outcome is None
        nursery.cancel_scope.cancel()
    entry = await the_one(world)
    assert (entry.outcome, entry.status, ids(entry), entry.vmid) == (None, None, (ada.id, ada.id), vmid)
    shown = (await world.call("GET", "/api/audit?outcome=unknown", token)).json["audit"]
    assert [one["outcome"] for one in shown] == ["unknown"]


async def test_a_bug_is_a_failure(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid

    async def bug(vmid: int) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(world.fleet, "start_game", bug)
    assert (await world.call("POST", f"/api/servers/{vmid}/game/start", token)).status == 500
    entry = await the_one(world)
    assert (entry.outcome, entry.status) == ("failed", 500)


async def test_refusals_of_who_is_known_are_recorded(world: World) -> None:
    ada, token = await world.account("ada")
    bob, bobs = await world.account("bob")
    vmid = world.fleet.add(ada, PAPER).vmid
    path = f"/api/servers/{vmid}"
    assert (await world.call("PUT", f"{path}/upgrade", token, {"memory": "much"})).status == 400
    assert (await world.call("POST", f"{path}/game/kill", bobs)).status == 404
    assert (await world.call("POST", "/api/containers/orphans/sweep", token)).status == 403
    found = [(e.action, e.status, e.outcome, ids(e), e.vmid) for e in await written(world)]
    assert found == [
        ("container.upgrade", 400, "refused", (ada.id, ada.id), vmid),
        # Whoever may not even see it did nothing to its owner.
        ("game.kill", 404, "refused", (bob.id, bob.id), vmid),
        ("orphans.sweep", 403, "refused", (ada.id, ada.id), None),
    ]
    assert world.fleet.calls == []


async def test_strangers_are_not_recorded(world: World) -> None:
    for token in (None, "nonsense"):
        assert (await world.call("POST", "/api/servers/5001/game/start", token)).status == 401
    for raw in (b"", b"{}", b"["):
        assert (await world.call("POST", "/api/auth/login", raw=raw)).status == 400
    assert await written(world) == []


async def test_sign_ins_good_and_bad(world: World) -> None:
    ada, _ = await world.account("ada")
    for identifier, password in (("ada", PASSWORD), ("ada", "wrong"), ("nobody@example.com", "wrong")):
        await world.call("POST", "/api/auth/login", json={"identifier": identifier, "password": password})
    good, bad, unknown = await written(world)
    assert {entry.action for entry in (good, bad, unknown)} == {"sign_in"}
    assert {entry.credential for entry in (good, bad, unknown)} == {"public"}
    assert (ids(good), good.outcome, good.status) == ((ada.id, ada.id), "done", 200)
    assert (ids(bad), bad.outcome, bad.status) == ((None, ada.id), "refused", 401)
    assert (ids(unknown), unknown.outcome, unknown.status) == ((None, None), "refused", 401)
    # People type their passwords where their names belong.
    assert "nobody" not in repr(unknown)


async def test_registering_is_recorded(world: World) -> None:
    body = {"email": "eve@example.com", "username": "eve", "password": PASSWORD}
    account_id = (await world.call("POST", "/api/auth/register", json=body)).json["user"]["id"]
    assert (await world.call("POST", "/api/auth/register", json=body)).status == 409
    made, taken = await written(world, action="account.register")
    assert (ids(made), made.outcome) == ((account_id, account_id), "done")
    assert (ids(taken), taken.outcome, taken.status) == ((None, None), "refused", 409)


async def test_what_the_limits_refuse_fills_nothing(postgres_url: str) -> None:
    burst = 5
    async with open_world(postgres_url, attempts_per_address=burst, attempts_seconds=3600.0) as world:
        body = {"identifier": "nobody", "password": "wrong"}
        answers = [await world.call("POST", "/api/auth/login", json=body) for _ in range(20)]
        assert [answer.status for answer in answers] == [401] * burst + [429] * (20 - burst)
        assert [entry.status for entry in await written(world)] == [401] * burst
        # Good ones use nothing up, and are recorded however many they are.
        ada, _ = await world.account("ada")
        body = {"identifier": "ada", "password": PASSWORD}
        for _ in range(burst * 2):
            await world.call("POST", "/api/auth/login", json=body, X_Forwarded_For="203.0.113.9")
        assert [ids(entry) for entry in await written(world, account_id=ada.id)] == [(ada.id, ada.id)] * burst * 2


async def test_a_session_that_goes_on_says_nothing_until_it_is_refused(world: World) -> None:
    ada, _ = await world.account("ada")
    signed_in = (await world.call("POST", "/api/auth/login", json={"identifier": "ada", "password": PASSWORD})).json
    first = signed_in["refreshToken"]
    second = (await world.call("POST", "/api/auth/refresh", json={"refreshToken": first})).json["refreshToken"]
    assert (await world.call("POST", "/api/auth/refresh", json={"refreshToken": second})).status == 200
    assert await written(world, action="session") == []
    assert (await world.call("POST", "/api/auth/refresh", json={"refreshToken": first})).status == 401
    assert (await world.call("POST", "/api/auth/refresh", json={"refreshToken": "unknown"})).status == 401
    reused, unknown = await written(world, action="session")
    assert (ids(reused), reused.outcome) == ((None, ada.id), "refused")
    assert ids(unknown) == (None, None)


async def test_creating_names_the_container_and_a_replay_says_that_it_is_one(world: World) -> None:
    ada, token = await world.account("ada")
    made = [
        await world.call("POST", "/api/instances", token, GOOD_INSTANCE, Idempotency_Key="once") for _ in range(2)
    ]
    first, second = await written(world, action="container.create")
    assert (first.vmid, ids(first)) == (made[0].json["vmid"], (ada.id, ada.id))
    assert first.details == {"operation": made[0].json["operation"]["id"]}
    assert second.details == {"replayed": True}


async def test_an_operator_creates_for_a_customer(world: World) -> None:
    ada, _ = await world.account("ada")
    op, token = await world.account("op", Role.OPERATOR)
    answer = await world.call("POST", "/api/instances", token, {**GOOD_INSTANCE, "customerId": ada.id})
    assert answer.status == 202
    assert ids(await the_one(world, action="container.create")) == (op.id, ada.id)
    await world.call("POST", "/api/containers/orphans/sweep", token, {})
    sweep = await the_one(world, action="orphans.sweep")
    assert (ids(sweep), sweep.details) == ((op.id, None), {"dry_run": True})


async def test_who_acts_for_a_customer_carries_both(world: World) -> None:
    ada, token = await world.account("ada")
    op, _ = await world.account("op", Role.OPERATOR)
    vmid = world.fleet.add(ada, PAPER).vmid
    session_id = world.access.principal(token).session_id
    acting = world.services.people.tokens.issue(ada.id, session_id, Acting(op.id, read_only=False))
    assert (await world.call("POST", f"/api/servers/{vmid}/game/stop", acting)).status == 200
    entry = await the_one(world)
    assert ids(entry) == (op.id, ada.id)
    assert entry.credential == f"acting:{session_id}"
    # Its owner learns that an operator did it, and no more.
    [shown] = (await world.call("GET", "/api/audit", token)).json["audit"]
    assert shown["actor"] == {"id": None, "username": None, "role": "operator"}
    assert (shown["address"], shown["agent"], shown["credential"], shown["requestId"]) == (None,) * 4
    # The operator, in the customer's place too.
    [own] = (await world.call("GET", "/api/audit", acting)).json["audit"]
    assert own["actor"]["username"] == "op"


async def test_everybody_sees_what_is_theirs(world: World) -> None:
    ada, adas = await world.account("ada")
    _, bobs = await world.account("bob")
    op, operators = await world.account("op", Role.OPERATOR)
    vmid = world.fleet.add(ada, PAPER).vmid
    await world.call("POST", f"/api/servers/{vmid}/game/start", adas, User_Agent="adas")
    await world.call("POST", f"/api/servers/{vmid}/game/stop", operators, User_Agent="operators")
    await world.call("PATCH", "/api/auth/me", bobs, {"displayName": "B"})
    await world.services.people.audit.flushed()

    async def actions(path: str, token: str) -> list[str]:
        return [entry["action"] for entry in (await world.call("GET", path, token)).json["audit"]]

    assert await actions("/api/audit", adas) == ["game.stop", "game.start"]
    assert await actions("/api/audit", bobs) == ["account.rename"]
    assert await actions(f"/api/audit?account={ada.id}", bobs) == []
    assert await actions(f"/api/audit?vmid={vmid}", bobs) == []
    assert await actions("/api/audit", operators) == ["account.rename", "game.stop", "game.start"]
    assert await actions(f"/api/audit?account={op.id}", operators) == ["game.stop"]
    assert await actions(f"/api/audit?vmid={vmid}&action=game.start", operators) == ["game.start"]
    assert await actions("/api/audit?action=game", operators) == ["game.stop", "game.start"]
    assert await actions("/api/audit?action=gam", operators) == []
    assert await actions("/api/audit?since=2999-01-01T00:00:00Z", operators) == []
    assert await actions("/api/audit?until=2999-01-01T00:00:00Z&outcome=refused", operators) == []
    mine = (await world.call("GET", "/api/audit?action=game.start", adas)).json["audit"][0]
    theirs = (await world.call("GET", "/api/audit?action=game.stop", adas)).json["audit"][0]
    assert (mine["agent"], mine["actor"]["id"]) == ("adas", ada.id)
    assert theirs["actor"] == {"id": None, "username": None, "role": "operator"}
    assert theirs["agent"] is theirs["address"] is None
    all_of_it = (await world.call("GET", "/api/audit?action=game.stop", operators)).json["audit"][0]
    assert (all_of_it["agent"], all_of_it["actor"]["username"]) == ("operators", "op")
    assert all_of_it["subject"] == {"id": ada.id, "username": "ada", "role": "customer"}


async def test_a_suspended_account_may_read_its_record(world: World) -> None:
    ada, token = await world.account("ada")
    await world.call("PATCH", "/api/auth/me", token, {"displayName": "A"})
    world.access.account_changed(replace(ada, suspended_at=ada.created_at))
    assert (await world.call("PATCH", "/api/auth/me", token, {})).status == 403
    await world.services.people.audit.flushed()
    shown = (await world.call("GET", "/api/audit", token)).json["audit"]
    assert [(entry["outcome"], entry["status"]) for entry in shown] == [("refused", 403), ("done", 200)]


async def test_pages(world: World) -> None:
    _, token = await world.account("ada")
    for n in range(5):
        await world.call("PATCH", "/api/auth/me", token, {"displayName": str(n)})
    seen: list[str] = []
    after = ""
    for _ in range(4):
        page = (await world.call("GET", f"/api/audit?limit=2{after}", token)).json
        seen += [entry["id"] for entry in page["audit"]]
        if page["next"] is None:
            break
        after = f"&before={page['next']}"
    assert len(seen) == len(set(seen)) == 5
    assert seen == sorted(seen, key=int, reverse=True)


@pytest.mark.parametrize(
    "query",
    [
        "account=0",
        "account=x",
        f"account={1 << 63}",
        "vmid=-1",
        "vmid=1000000000",
        "action=%27%20OR%201",
        "action=A",
        "action=sign_in.",
        "action=" + "a" * 65,
        "outcome=fine",
        "since=yesterday",
        "since=2026-01-01T00:00:00",
        "until=%00",
        "before=0",
        f"before={1 << 63}",
        "before=abc",
        "limit=0",
        "limit=201",
        "limit=x",
    ],
)
async def test_wrong_filters_are_named(world: World, query: str) -> None:
    _, token = await world.account("ada")
    answer = await world.call("GET", f"/api/audit?{query}", token)
    assert (answer.status, answer.json["code"]) == (400, "invalid")
    assert [problem["field"] for problem in answer.json["details"]] == [query.partition("=")[0]]


class Outage:
    """The database is away for the audit record."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self._real = world.services.database.run
        self.over = False
        monkeypatch.setattr(Database, "run", self._run)

    async def _run(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        if not self.over:
            raise AWAY
        run: Callable[..., Awaitable[Any]] = self._real
        return await run(function, *arguments, **named)


async def test_without_a_database_a_change_is_refused_before_it_is_made(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    Outage(world, monkeypatch)
    answer = await world.call("POST", f"/api/servers/{vmid}/host/stop", token)
    assert (answer.status, answer.json["code"]) == (503, "store_unavailable")
    assert answer.headers["Retry-After"]
    assert world.fleet.calls == []


async def test_games_obey_without_a_database_and_it_is_recorded_later(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    outage = Outage(world, monkeypatch)
    for verb in ("start", "stop", "restart", "kill"):
        answer: Answer = await world.call("POST", f"/api/servers/{vmid}/game/{verb}", token)
        assert answer.status == 200, answer.raw
    assert "it is written into the audit record later" in caplog.text
    outage.over = True
    with trio.fail_after(10):
        found = await written(world)
    assert [(e.action, e.outcome, ids(e), e.vmid) for e in found] == [
        (f"game.{verb}", "done", (ada.id, ada.id), vmid) for verb in ("start", "stop", "restart", "kill")
    ]


async def test_games_do_not_wait_long_for_a_database_that_hangs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    monkeypatch.setattr("zlh.api.auditing.PATIENCE_SECONDS", 0.05)
    real = world.services.people.audit.begin

    async def hangs(act: Act) -> int:
        await trio.sleep_forever()
        return await real(act)

    monkeypatch.setattr(world.services.people.audit, "begin", hangs)
    with trio.fail_after(5):
        assert (await world.call("POST", f"/api/servers/{vmid}/game/start", token)).status == 200
        assert (await the_one(world)).outcome == "done"


async def test_an_end_that_cannot_be_written_is_written_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    outages: list[Outage] = []

    async def last(vmid: int) -> None:
        outages.append(Outage(world, monkeypatch))

    monkeypatch.setattr(world.fleet, "start_game", last)
    assert (await world.call("POST", f"/api/servers/{vmid}/game/start", token)).status == 200
    outages[0].over = True
    with trio.fail_after(10):
        assert (await the_one(world)).outcome == "done"


async def test_every_changing_route_is_recorded_and_only_those(world: World) -> None:
    """By construction: there is one way to a handler, and it goes through the record."""
    for route in ROUTES:
        if route.websocket or route.method in SAFE:
            assert route.audited is None, route.name
        else:
            assert route.audited, route.name


async def test_of_two_records_each_is_complete(world: World) -> None:
    """Many at once: every call has a row, and every row its end."""
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(world.call, "POST", f"/api/servers/{vmid}/game/start", token)
    found = await written(world)
    assert [entry.outcome for entry in found] == ["done"] * 20

    def count(connection: sa.Connection) -> int:
        return len(store.page(connection, Wanted(limit=200)))

    assert await world.services.database.run(count) == 20
