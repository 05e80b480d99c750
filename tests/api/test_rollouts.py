"""Rollouts over HTTP; what they do to agents is tested in tests/containers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.test_audit import the_one, written
from tests.api.world import NODE, PAPER, World
from zlh.api import rollouts as answers
from zlh.model.accounts import Role
from zlh.model.audit import Outcome
from zlh.model.observed import AgentObservation, Update
from zlh.model.rollouts import Ended, ItemState, RolloutState
from zlh.store import rollouts as store

PATH = "/api/operators/rollouts"


@pytest.fixture
async def operator(world: World) -> str:
    """The token of one; there are two game servers, 5001 and 5002, and a dev container, 5003."""
    ada, _ = await world.account("ada")
    for request in (PAPER, PAPER, NODE):
        world.fleet.touch(world.fleet.add(ada, request).vmid, provisioned=True)
    _, token = await world.account("oscar", Role.OPERATOR)
    return token


async def begin(world: World, token: str, **wish: Any) -> Any:
    answer = await world.call("POST", PATH, token, wish)
    assert answer.status == 202, answer.raw
    answers.BegunRollout.model_validate_json(answer.raw)
    return answer.json["rollout"]


async def test_one_begins_and_is_read(world: World, operator: str) -> None:
    begun = await begin(world, operator, ctype="game", batch=2, maxFailures=0)
    assert begun["href"] == f"{PATH}/{begun['id']}"
    assert (begun["state"], begun["batch"], begun["maxFailures"], begun["version"]) == ("running", 2, 0, None)
    assert [container["vmid"] for container in begun["containers"]] == [5001, 5002]
    assert begun["counts"] == {"pending": 2, "updating": 0, "succeeded": 0, "failed": 0, "skipped": 0}
    one = await world.call("GET", begun["href"], operator)
    assert answers.RolloutAnswer.model_validate_json(one.raw)
    assert one.json["rollout"] == begun
    listed = await world.call("GET", PATH, operator)
    page = answers.RolloutPage.model_validate_json(listed.raw)
    assert ([rollout.id for rollout in page.rollouts], page.next) == ([begun["id"]], None)
    entry = await the_one(world, action="rollout.begin")
    assert (entry.outcome, entry.details["rollout"], entry.details["dry_run"]) == (Outcome.DONE, begun["id"], False)


async def test_containers_say_what_became_of_them(world: World, operator: str) -> None:
    begun = await begin(world, operator)
    run = world.services.database.run
    now = world.services.rollouts._time()
    failed = Ended(ItemState.FAILED, "it did not come back")
    await run(store.begin_item, begun["id"], 5001, current="1.4.2", target="1.5.0", was_ready=True, now=now)
    await run(store.end_item, begun["id"], 5001, failed, was=ItemState.UPDATING, now=now)
    skipped = Ended(ItemState.SKIPPED, "up to date", "1.5.0")
    await run(store.end_item, begun["id"], 5002, skipped, was=ItemState.PENDING, now=now)
    await run(store.finish, begun["id"], RolloutState.FAILED, now, error="too many")
    answer = await world.call("GET", begun["href"], operator)
    told = answers.RolloutAnswer.model_validate_json(answer.raw).rollout
    assert (told.state, told.error, told.cancelling) == (RolloutState.FAILED, "too many", False)
    assert told.finished_at is not None
    first, second, third = told.containers
    assert (first.state, first.from_, first.to, first.error, first.reason) == (
        "failed",
        "1.4.2",
        "1.5.0",
        "it did not come back",
        None,
    )
    assert (second.state, second.from_, second.error, second.reason) == ("skipped", "1.5.0", None, "up to date")
    assert (third.state, third.started_at, third.ended_at) == ("pending", None, None)


async def test_a_dry_run_records_nothing(world: World, operator: str) -> None:
    update = Update("1.4.2", "1.5.0", available=True, state="idle")
    world.fleet.projection.cell(5001).observe_agent(AgentObservation(update=update))
    answer = await world.call("POST", PATH, operator, {"dryRun": True})
    told = answers.BegunRollout.model_validate_json(answer.raw)
    assert (answer.status, told.dry_run, told.rollout) == (200, True, None)
    assert [(one.vmid, one.from_, one.to, one.reason) for one in told.planned] == [
        (5001, "1.4.2", "1.5.0", None),
        (5002, None, None, "its agent has not told its version yet"),
        (5003, None, None, "its agent has not told its version yet"),
    ]
    assert (await world.call("GET", PATH, operator)).json["rollouts"] == []


async def test_one_at_a_time_and_a_retry_is_none(world: World, operator: str) -> None:
    first = await world.call("POST", PATH, operator, {}, Idempotency_Key="once")
    again = await world.call("POST", PATH, operator, {}, Idempotency_Key="once")
    assert (again.status, again.raw) == (202, first.raw)
    assert again.headers["Idempotency-Replayed"] == "true"
    other = await world.call("POST", PATH, operator, {})
    assert (other.status, other.json["code"]) == (409, "rollout_active")
    assert other.json["details"] == {"rollout": first.json["rollout"]["id"]}
    # What a dry run tells is also told meanwhile.
    assert (await world.call("POST", PATH, operator, {"dryRun": True})).status == 200


async def test_pause_resume_and_cancel(world: World, operator: str) -> None:
    begun = await begin(world, operator)
    seen = []
    for verb in ("pause", "resume", "cancel"):
        answer = await world.call("POST", f"{begun['href']}/{verb}", operator)
        told = answers.RolloutAnswer.model_validate_json(answer.raw).rollout
        seen.append((told.state.value, told.cancelling))
        entry = await the_one(world, action=f"rollout.{verb}")
        assert entry.details["rollout"] == begun["id"]
    assert seen == [("paused", False), ("running", False), ("running", True)]
    await world.services.database.run(
        store.finish, begun["id"], RolloutState.CANCELLED, world.services.rollouts._time()
    )
    for verb in ("pause", "resume", "cancel"):
        late = await world.call("POST", f"{begun['href']}/{verb}", operator)
        assert (late.status, late.json["code"]) == (409, "rollout_ended")
        refused = (await written(world, action=f"rollout.{verb}"))[-1]
        assert (refused.outcome, refused.details) == (Outcome.REFUSED, {"rollout": begun["id"]})
        for nobody in ("none", "a%00b", "x" * 100):
            absent = await world.call("POST", f"{PATH}/{nobody}/{verb}", operator)
            assert (absent.status, absent.json["code"]) == (404, "not_found")
    assert (await world.call("GET", f"{PATH}/none", operator)).status == 404


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"batch": 0}, "batch"),
        ({"batch": 101}, "batch"),
        ({"maxFailures": -1}, "maxFailures"),
        ({"vmids": []}, "vmids"),
        ({"vmids": [5001, 5999]}, "vmids"),
        ({"vmids": ["5001"]}, "vmids.0"),
        ({"ctype": "both"}, "ctype"),
        ({"version": ""}, "version"),
        ({"version": "1.5.0\n"}, "version"),
        ({"dryRun": 1}, "dryRun"),
        ({"vmids": [5001], "ctype": "dev"}, None),
    ],
    ids=str,
)
async def test_bad_wishes(world: World, operator: str, wish: dict[str, Any], field: str | None) -> None:
    answer = await world.call("POST", PATH, operator, wish)
    assert answer.status == 400, answer.raw
    if field is not None:
        assert [detail["field"] for detail in answer.json["details"]] == [field]
    assert (await world.call("GET", PATH, operator)).json["rollouts"] == []
    assert all(entry.outcome is Outcome.REFUSED for entry in await written(world, action="rollout.begin"))
