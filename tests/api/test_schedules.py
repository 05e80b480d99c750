"""/api/servers/<vmid>/schedules: made, shown, changed and deleted by those who might do the same by hand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from tests.api.world import PAPER, PLANS, Answer, World
from zlh.accounts import KEY_PREFIX, KeyStanding
from zlh.accounts.access import key_hash
from zlh.model.access import Permission, Scope
from zlh.model.accounts import Account, Role
from zlh.model.errors import AbsentError, ForbiddenError
from zlh.model.schedules import Outcome
from zlh.store import containers, schedule_runs
from zlh.store.schedule_runs import Claim, Ending

NIGHTLY = {
    "name": "nightly",
    "action": "backup",
    "cron": "0 4 * * *",
    "timeZone": "Europe/Berlin",
    "retention": {"last": 3, "daily": 7, "weekly": 0, "monthly": 0},
}
RESTART = {"name": "restart", "action": "restart", "cron": "0 5 * * MON"}
COMMAND = {"name": "hello", "action": "command", "cron": "0 6 * * *", "command": "say hi"}


@dataclass
class Scene:
    """`ada` owns the container, `bob` is whom she may share it with."""

    world: World
    ada: Account
    bob: Account
    ada_token: str
    bob_token: str
    vmid: int

    async def call(
        self, method: str, path: str = "", json: Any = None, token: str | None = None, **headers: str
    ) -> Answer:
        path = f"/api/servers/{self.vmid}/schedules{path}"
        return await self.world.call(method, path, token or self.ada_token, json, **headers)

    async def made(self, body: Any = NIGHTLY) -> str:
        answer = await self.call("POST", "", body)
        assert answer.status == 201, answer.raw
        schedule_id: str = answer.json["schedule"]["id"]
        return schedule_id

    def share(self, *permissions: Permission) -> None:
        self.world.access.shares_changed(self.vmid, {self.bob.id: permissions} if permissions else {})

    def key(self, *scopes: Scope) -> str:
        token = f"{KEY_PREFIX}{'-'.join(scopes)}"
        standing = KeyStanding(f"k{'-'.join(scopes)}", self.ada.id, frozenset(scopes), float("inf"))
        self.world.access.key_changed(key_hash(token), standing)
        return token

    async def carried_out(self, ending: Ending) -> None:
        """As the scheduler would."""
        now = datetime.now(UTC)
        claim = Claim("one", now, now + timedelta(minutes=1))

        def work(connection: sa.Connection) -> None:
            for taken in schedule_runs.take(connection, claim, 10).taken:
                schedule_runs.end(connection, taken.run.id, "one", ending, now)

        await self.world.services.database.run(work)


@pytest.fixture
async def scene(world: World) -> Scene:
    ada, ada_token = await world.account("ada")
    bob, bob_token = await world.account("bob")
    row = world.fleet.add(ada, PAPER)
    await world.services.database.run(containers.insert, [row])
    return Scene(world, ada, bob, ada_token, bob_token, row.vmid)


async def test_a_schedule_from_its_making_to_its_end(scene: Scene) -> None:
    answer = await scene.call("POST", "", NIGHTLY)
    assert answer.status == 201
    made = answer.json["schedule"]
    assert made | NIGHTLY == made
    assert (made["enabled"], made["command"], made["lastRun"]) == (True, None, None)
    assert made["nextRunAt"][11:] in ("02:00:00.000Z", "03:00:00.000Z")
    assert (await scene.call("GET")).json == {"schedules": [made]}
    assert (await scene.call("GET", f"/{made['id']}")).json == {"schedule": made}

    changed = (await scene.call("PATCH", f"/{made['id']}", {"timeZone": "Asia/Kathmandu"})).json["schedule"]
    assert changed["nextRunAt"][11:] == "22:15:00.000Z"
    assert changed["retention"] == NIGHTLY["retention"]
    off = (await scene.call("PATCH", f"/{made['id']}", {"enabled": False})).json["schedule"]
    assert (off["enabled"], off["nextRunAt"]) == (False, None)

    assert (await scene.call("DELETE", f"/{made['id']}")).json == {"ok": True}
    assert (await scene.call("DELETE", f"/{made['id']}")).status == 404
    assert (await scene.call("GET")).json == {"schedules": []}


async def test_running_it_now(scene: Scene) -> None:
    schedule_id = await scene.made()
    begun = await scene.call("POST", f"/{schedule_id}/run")
    assert begun.status == 202
    run = begun.json["run"]
    assert (run["byHand"], run["outcome"], run["startedAt"]) == (True, None, None)
    again = await scene.call("POST", f"/{schedule_id}/run")
    assert (again.status, again.json["code"]) == (409, "running")
    await scene.carried_out(Ending(Outcome.FAILED, "no room", "b2", ("b1",)))
    (ended,) = (await scene.call("GET", f"/{schedule_id}/runs")).json["runs"]
    assert (ended["id"], ended["outcome"], ended["error"]) == (run["id"], "failed", "no room")
    assert (ended["backupId"], ended["deletedBackups"]) == ("b2", ["b1"])
    assert (await scene.call("GET", f"/{schedule_id}")).json["schedule"]["lastRun"] == ended


async def test_running_it_twice_with_one_key_runs_it_once(scene: Scene) -> None:
    schedule_id = await scene.made()
    first = await scene.call("POST", f"/{schedule_id}/run", Idempotency_Key="one")
    second = await scene.call("POST", f"/{schedule_id}/run", Idempotency_Key="one")
    assert (first.status, second.status, first.json) == (202, 202, second.json)
    assert len((await scene.call("GET", f"/{schedule_id}/runs")).json["runs"]) == 1


async def test_as_many_as_the_plan_allows(scene: Scene) -> None:
    most = PLANS["starter"].schedules
    for _ in range(most):
        await scene.made(RESTART)
    refused = await scene.call("POST", "", RESTART)
    assert (refused.status, refused.json["code"]) == (403, "plan_limit")
    (exceeded,) = refused.json["details"]["exceeded"]
    assert (exceeded["limit"], exceeded["allowed"], exceeded["used"]) == ("schedules", most, most)


async def test_an_operator_without_a_plan_makes_one_within_the_owners(scene: Scene) -> None:
    _, token = await scene.world.account("op", Role.OPERATOR, plan=None)
    assert (await scene.call("POST", "", RESTART, token)).status == 201


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": " "}, "name"),
        ({"action": "explode"}, "action"),
        ({"cron": "* * * * *"}, "cron"),
        ({"cron": "0 4 30 2 *"}, "cron"),
        ({"cron": "every day"}, "cron"),
        ({"cron": "0 4 * * * *"}, "cron"),
        ({"timeZone": "Mars/Olympus"}, "timeZone"),
        ({"timeZone": "../../../etc/passwd"}, "timeZone"),
        ({"retention": {"last": -1, "daily": 0, "weekly": 0, "monthly": 0}}, "retention.last"),
        ({"retention": {"last": 1}}, "retention.daily"),
        ({"action": "command"}, None),
        ({"action": "command", "command": "say hi\nop eve"}, "command"),
        ({"enabled": "yes"}, "enabled"),
    ],
)
async def test_bad_input_names_the_field_and_makes_nothing(
    scene: Scene, change: dict[str, Any], field: str | None
) -> None:
    answer = await scene.call("POST", "", NIGHTLY | change)
    assert (answer.status, answer.json["code"]) == (400, "invalid")
    assert field in {problem["field"] for problem in answer.json["details"]}
    assert (await scene.call("GET")).json == {"schedules": []}


async def test_bad_changes_change_nothing(scene: Scene) -> None:
    schedule_id = await scene.made()
    before = (await scene.call("GET", f"/{schedule_id}")).json
    for change in ({}, {"cron": "*/2 * * * *"}, {"timeZone": "x"}, {"name": ""}, {"retention": {"last": 1}}):
        assert (await scene.call("PATCH", f"/{schedule_id}", change)).status == 400, change
    assert (await scene.call("GET", f"/{schedule_id}")).json == before


async def test_what_is_not_there(scene: Scene) -> None:
    schedule_id = await scene.made()
    other = scene.world.fleet.add(scene.ada, PAPER).vmid
    for absent in ("0" * 16, "nonsense", "a%00b", "%2e%2e"):
        for method, path, body in (("GET", "", None), ("PATCH", "", {"name": "x"}), ("DELETE", "", None)):
            assert (await scene.call(method, f"/{absent}{path}", body)).status == 404
        assert (await scene.call("POST", f"/{absent}/run")).status == 404
        assert (await scene.call("GET", f"/{absent}/runs")).status == 404
    # Another container's is none of this one's, also for the same owner.
    elsewhere = await scene.world.call("GET", f"/api/servers/{other}/schedules/{schedule_id}", scene.ada_token)
    assert elsewhere.status == 404


@pytest.mark.parametrize(
    ("body", "permission", "scope"),
    [
        (NIGHTLY, Permission.BACKUPS, Scope.BACKUPS),
        (RESTART, Permission.POWER, Scope.SERVERS_POWER),
        (COMMAND, Permission.CONSOLE, Scope.CONSOLE),
    ],
    ids=["backup", "restart", "command"],
)
async def test_it_needs_what_doing_it_by_hand_needs(
    scene: Scene, body: dict[str, Any], permission: Permission, scope: Scope
) -> None:
    schedule_id = await scene.made(body)
    ways = [
        ("POST", "", body),
        ("PATCH", f"/{schedule_id}", {"enabled": False}),
        ("POST", f"/{schedule_id}/run", None),
    ]
    others = [one for one in (Permission.BACKUPS, Permission.POWER, Permission.CONSOLE) if one is not permission]
    scene.share(*others)
    for method, path, sent in [*ways, ("DELETE", f"/{schedule_id}", None)]:
        refused = await scene.call(method, path, sent, scene.bob_token)
        assert (refused.status, refused.json["code"]) == (403, "not_permitted"), method
    without = scene.key(Scope.SCHEDULES, *({Scope.BACKUPS, Scope.SERVERS_POWER, Scope.CONSOLE} - {scope}))
    for method, path, sent in [*ways, ("DELETE", f"/{schedule_id}", None)]:
        refused = await scene.call(method, path, sent, without)
        assert (refused.status, refused.json["code"]) == (403, "scope"), method
        assert refused.json["details"] == {"scope": scope.value}
    scene.share(permission)
    for token in (scene.bob_token, scene.key(Scope.SCHEDULES, scope)):
        for method, path, sent in ways[:2]:
            assert (await scene.call(method, path, sent, token)).status in (200, 201), method
    assert (await scene.call("GET", "", None, scene.bob_token)).status == 200


async def test_commands_are_for_those_who_may_read_the_console(scene: Scene) -> None:
    schedule_id = await scene.made(COMMAND)

    async def shown(token: str) -> Any:
        return (await scene.call("GET", f"/{schedule_id}", None, token)).json["schedule"]["command"]

    assert await shown(scene.ada_token) == "say hi"
    scene.share(Permission.FILES)
    assert await shown(scene.bob_token) is None
    scene.share(Permission.WATCH)
    assert await shown(scene.bob_token) == "say hi"
    assert await shown(scene.key(Scope.SERVERS_READ)) is None
    assert await shown(scene.key(Scope.SERVERS_READ, Scope.CONSOLE)) == "say hi"


async def test_who_changed_it_last_has_it_done(scene: Scene) -> None:
    """What somebody left behind does no more than they themselves could."""
    access = scene.world.access
    scene.share(Permission.POWER)
    answer = await scene.call("POST", "", RESTART, scene.bob_token)
    schedules = scene.world.services.schedules
    made = await schedules.get(scene.vmid, answer.json["schedule"]["id"])
    assert made.author_id == scene.bob.id
    access.check_unattended(scene.bob.id, scene.vmid, Permission.POWER)
    with pytest.raises(ForbiddenError):
        access.check_unattended(scene.bob.id, scene.vmid, Permission.CONSOLE)
    scene.share()
    with pytest.raises(AbsentError):
        access.check_unattended(scene.bob.id, scene.vmid, Permission.POWER)
    await scene.call("PATCH", f"/{made.id}", {"enabled": True})
    assert (await schedules.get(scene.vmid, made.id)).author_id == scene.ada.id
    access.check_unattended(scene.ada.id, scene.vmid, Permission.POWER)
    scene.share(Permission.POWER)
    await scene.world.suspend(scene.ada)
    for account in (scene.ada, scene.bob):
        with pytest.raises(ForbiddenError, match="suspended"):
            access.check_unattended(account.id, scene.vmid, Permission.POWER)


async def test_changes_are_in_the_audit_record(scene: Scene) -> None:
    schedule_id = await scene.made(COMMAND)
    await scene.call("PATCH", f"/{schedule_id}", {"command": "say a secret"})
    await scene.call("POST", f"/{schedule_id}/run")
    await scene.call("DELETE", f"/{schedule_id}")
    await scene.call("DELETE", f"/{schedule_id}")

    def read(connection: sa.Connection) -> list[Any]:
        query = "SELECT action, vmid, outcome, details FROM audit WHERE action LIKE 'schedule.%' ORDER BY id"
        return list(connection.execute(sa.text(query)))

    found = await scene.world.services.database.run(read)
    assert [row.action for row in found] == [
        "schedule.create",
        "schedule.change",
        "schedule.run",
        "schedule.delete",
        "schedule.delete",
    ]
    gone = found.pop()
    assert (gone.outcome, gone.details) == ("refused", {"schedule": schedule_id})
    for row in found:
        assert (row.vmid, row.outcome) == (scene.vmid, "done")
        assert row.details == {"schedule": schedule_id, "action": "command"}
