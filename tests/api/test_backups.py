"""Backups over HTTP: what comes in is checked, what the agent says goes out as it is, and the record says which."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from tests.api.world import NODE, PAPER, World
from zlh.api import backups
from zlh.api.forwarding import LONG_SECONDS
from zlh.containers.fleet import COMMAND_SECONDS
from zlh.model.accounts import Role
from zlh.model.errors import AgentProblemError, ConflictError, PlanLimitError
from zlh.store import StoreUnavailable, idempotency


async def test_a_backups_life(world: World) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    path = f"/api/game/{vmid}/backups"
    listed = await world.call("GET", path, token)
    # As the agent said it, down to what we do not know.
    assert listed.json == {"backups": [world.fleet.backups.backup]}
    backups.Backups.model_validate_json(listed.raw)
    made = await world.call("POST", path, token, {"name": "  before the update "})
    assert (made.status, made.json) == (202, {"id": "2"})
    assert world.fleet.calls[-1] == ("backups.create", vmid, ada.id, "before the update")
    assert (await world.call("POST", path, token)).status == 202
    assert world.fleet.calls[-1] == ("backups.create", vmid, ada.id, None)
    changed = await world.call("PATCH", f"{path}/1", token, {"locked": True})
    assert backups.OneBackup.model_validate_json(changed.raw).locked
    assert world.fleet.calls[-1] == ("backups.change", vmid, "1", {"locked": True})
    gone = await world.call("DELETE", f"{path}/1", token)
    assert (gone.status, gone.raw) == (204, b"")
    begun = await world.call("POST", f"{path}/1/restore", token, {"stop": True})
    assert begun.status == 202
    assert backups.Restoring.model_validate_json(begun.raw).operation.kind == "restore"
    assert world.fleet.calls[-1] == ("backups.restore", vmid, "1", True, None, ada.id)
    await world.call("POST", f"{path}/1/restore", token, {"start": False})
    assert world.fleet.calls[-1] == ("backups.restore", vmid, "1", False, False, ada.id)


async def test_an_operator_makes_one_within_the_owners_plan(world: World) -> None:
    ada, _ = await world.account("ada")
    _, token = await world.account("op", Role.OPERATOR)
    vmid = world.fleet.add(ada, NODE).vmid
    assert (await world.call("POST", f"/api/dev/{vmid}/backups", token)).status == 202
    assert world.fleet.calls[-1] == ("backups.create", vmid, ada.id, None)


@pytest.mark.parametrize(
    ("method", "below", "body"),
    [
        ("POST", "", {"name": ""}),
        ("POST", "", {"name": " \t "}),
        ("POST", "", {"name": "x" * 101}),
        ("POST", "", {"name": "a\nb"}),
        ("POST", "", {"name": 7}),
        ("PATCH", "/1", {}),
        ("PATCH", "/1", {"locked": "yes"}),
        ("PATCH", "/1", {"name": ""}),
        ("POST", "/1/restore", {"stop": 1}),
        ("POST", "/1/restore", {"start": "no"}),
    ],
)
async def test_what_is_no_wish_reaches_no_agent(world: World, method: str, below: str, body: Any) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    answer = await world.call(method, f"/api/game/{vmid}/backups{below}", token, body)
    assert (answer.status, answer.json["code"]) == (400, "invalid")
    assert world.fleet.calls == []


@pytest.mark.parametrize(
    "odd", ["..", ".", "a%2Fb", "a%00b", "a b", "%FF", "x" * 65, "a%5Cb", "%2e%2e", "b%3Fc", "ä"]
)
async def test_what_can_be_no_backup_is_not_asked_for(world: World, odd: str) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    for method, below in (("PATCH", ""), ("DELETE", ""), ("POST", "/restore")):
        body = {"locked": True} if method == "PATCH" else {}
        answer = await world.call(method, f"/api/game/{vmid}/backups/{odd}{below}", token, body)
        assert answer.status in (404, 405), (method, odd)
    assert world.fleet.calls == []


async def test_a_container_of_another_type_is_not_there(world: World) -> None:
    ada, token = await world.account("ada")
    game, dev = world.fleet.add(ada, PAPER).vmid, world.fleet.add(ada, NODE).vmid
    for path in (f"/api/dev/{game}", f"/api/game/{dev}"):
        for method, below in (("GET", ""), ("POST", ""), ("DELETE", "/1"), ("POST", "/1/restore")):
            answer = await world.call(method, f"{path}/backups{below}", token)
            assert (answer.status, answer.json["code"]) == (404, "not_found")
    assert world.fleet.calls == []


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (AgentProblemError(409, "the backup is locked", details={"by": "somebody"}), "agent_refused"),
        (AgentProblemError(507, "no space left on device"), "agent_refused"),
        (PlanLimitError("5 are allowed", details={"plan": "starter"}), "plan_limit"),
        (ConflictError("it is running; stop it first", code="running"), "running"),
    ],
    ids=["locked", "full", "plan", "running"],
)
async def test_a_refusal_keeps_its_status(world: World, refusal: Any, code: str) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    world.fleet.refuse = refusal
    answer = await world.call("POST", f"/api/game/{vmid}/backups/1/restore", token)
    assert (answer.status, answer.json["code"]) == (refusal.status, code)
    assert (answer.json["error"], answer.json["details"]) == (refusal.message, refusal.details)


async def test_the_same_key_makes_one_backup(world: World) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    path = f"/api/game/{vmid}/backups"
    for _ in range(2):
        answer = await world.call("POST", path, token, {"name": "one"}, Idempotency_Key="k1")
        assert (answer.status, answer.json) == (202, {"id": "2"})
    assert len(world.fleet.calls) == 1
    for _ in range(2):
        again = await world.call("POST", f"{path}/1/restore", token, {}, Idempotency_Key="k2")
        assert (again.status, again.json["operation"]["id"]) == (202, "op0001")
    assert len(world.fleet.calls) == 2


async def test_a_key_whose_answer_was_never_written_down_is_free_again_after_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill between the agent's answer and ours."""
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    path, database = f"/api/game/{vmid}/backups", world.services.database

    def lost(*_: object) -> bool:
        raise StoreUnavailable("away", may_have_committed=False)

    def back(connection: sa.Connection, by: timedelta) -> None:
        statement = sa.text("UPDATE idempotency_keys SET claimed_at = claimed_at - :by")
        connection.execute(statement, {"by": by})

    with monkeypatch.context() as patched:
        patched.setattr(idempotency, "complete", lost)
        assert (await world.call("POST", path, token, {"name": "one"}, Idempotency_Key="k1")).status == 202
    for _ in range(2):
        waits = await world.call("POST", path, token, {"name": "one"}, Idempotency_Key="k1")
        assert (waits.status, waits.json["code"], waits.headers["Retry-After"]) == (409, "in_progress", "5")
        assert "the key can be used again in" in waits.json["error"]
        await database.run(back, idempotency.TAKE_OVER_AFTER / 3)
    assert len(world.fleet.calls) == 1
    await database.run(back, idempotency.TAKE_OVER_AFTER / 3)
    again = await world.call("POST", path, token, {"name": "one"}, Idempotency_Key="k1")
    assert (again.status, len(world.fleet.calls)) == (202, 2)
    replayed = await world.call("POST", path, token, {"name": "one"}, Idempotency_Key="k1")
    assert (replayed.status, len(world.fleet.calls)) == (202, 2)


def test_nothing_is_taken_over_that_is_still_worked_on() -> None:
    assert timedelta(seconds=LONG_SECONDS + COMMAND_SECONDS) < idempotency.TAKE_OVER_AFTER


async def test_the_record_says_which_backup(world: World) -> None:
    ada, token = await world.account("ada")
    vmid = world.fleet.add(ada, PAPER).vmid
    await world.call("POST", f"/api/game/{vmid}/backups", token, {"name": "secret name"})
    await world.call("PATCH", f"/api/game/{vmid}/backups/1", token, {"locked": False, "name": "secret name"})
    await world.call("POST", f"/api/game/{vmid}/backups/1/restore", token)
    acts = (await world.call("GET", "/api/audit", token)).json["audit"]
    restore, change, create = acts[:3]
    assert (create["action"], create["details"]) == ("backup.create", {"backup": "2"})
    assert (change["action"], change["details"]) == ("backup.change", {"backup": "1", "locked": False})
    assert (restore["action"], restore["vmid"]) == ("backup.restore", vmid)
    assert restore["details"] == {"backup": "1", "operation": "op0001"}
