"""The edge over HTTP; what it does at targets is tested in tests/edge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.api.test_audit import written
from tests.api.world import PROMETHEUS_TOKEN, TRAEFIK_TOKEN, World
from tests.edge.far import publication
from zlh.api import edge_documents
from zlh.api import edge_targets as answers
from zlh.drivers.errors import Unreachable
from zlh.model.accounts import Role
from zlh.model.containers import Power
from zlh.model.edge import Entry

PATH = "/api/operators/edge"


@pytest.fixture
async def operator(world: World) -> str:
    """The token of one; container 5001 is published."""
    world.published.put(publication(5001))
    _, token = await world.account("oscar", Role.OPERATOR)
    await until(lambda: world.target.there)
    return token


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(30):
        while not condition():  # noqa: ASYNC110 - what is watched tells nobody
            await trio.sleep(0.01)


async def far(world: World, token: str) -> Any:
    answer = await world.call("GET", PATH, token)
    answers.EdgeTargets.model_validate_json(answer.raw)
    (target,) = answer.json["targets"]
    return target


async def reconcile(world: World, token: str, **body: Any) -> Any:
    answer = await world.call("POST", f"{PATH}/reconcile", token, body)
    assert answer.status == 200, answer.raw
    answers.EdgeDifference.model_validate_json(answer.raw)
    return answer.json


async def test_a_target_is_told_of(world: World, operator: str) -> None:
    await until(lambda: world.services.edge.reports()[0].actual == 1)
    target = await far(world, operator)
    assert (target["name"], target["reachable"], target["wanted"], target["error"]) == ("far", True, 1, None)
    assert target["owed"] == target["blocked"] == target["orphans"] == []


async def test_a_dry_run_changes_nothing_and_the_other_does(world: World, operator: str) -> None:
    world.target.there.clear()
    told = await reconcile(world, operator)
    assert told["dryRun"]
    (change,) = told["targets"][0]["changes"]
    assert (change["verb"], change["entry"]["name"], change["reason"]) == ("add", "ct-5001.zlh.test", "it is missing")
    assert not world.target.there
    done = await reconcile(world, operator, target="far", dryRun=False)
    assert done["targets"][0]["changes"] == [change]
    assert len(world.target.there) == 1
    entries = await written(world, action="edge.reconcile")
    assert sorted(entry.details["dry_run"] for entry in entries) == [False, True]
    assert {entry.details.get("target") for entry in entries} == {None, "far"}


async def test_a_dead_target_says_so_in_its_place(world: World, operator: str) -> None:
    world.target.fail = Unreachable("it does not answer")
    told = await reconcile(world, operator)
    assert told["targets"][0]["error"] == "it does not answer"
    assert told["targets"][0]["changes"] == []


async def test_an_unknown_target_is_none(world: World, operator: str) -> None:
    answer = await world.call("POST", f"{PATH}/reconcile", operator, {"target": "nowhere"})
    assert (answer.status, answer.json["code"]) == (404, "not_found")


async def test_orphans_at_targets_are_shown_and_swept(world: World, operator: str) -> None:
    left = Entry(5009, "A", "left.zlh.test", "10.0.0.9", 60)
    world.target.put(left, mine=True)
    await reconcile(world, operator, dryRun=False)
    shown = (await world.call("GET", "/api/containers/orphans", operator)).json["orphans"]
    assert [one["name"] for one in shown if one["where"] == "far"] == [str(left)]
    dry = await world.call("POST", "/api/containers/orphans/sweep", operator, {})
    assert [one["outcome"] for one in dry.json["orphans"] if one["where"] == "far"] == ["would be swept"]
    assert left.key in world.target.there
    swept = await world.call("POST", "/api/containers/orphans/sweep", operator, {"dryRun": False})
    assert [one["outcome"] for one in swept.json["orphans"] if one["where"] == "far"] == ["removed"]
    assert left.key not in world.target.there


async def test_the_metrics_name_it(world: World, operator: str) -> None:
    told = (await world.call("GET", "/metrics", operator)).raw.decode()
    assert 'zlh_edge_wanted{target="far"} 1.0' in told
    assert 'zlh_edge_reachable{target="far"} 1.0' in told


async def test_traefik_reads_its_routes_with_its_own_token(world: World, operator: str) -> None:
    world.published.put(publication(5002, public_ports=(30000,)))
    await until(lambda: world.services.documents.book.get(5002) is not None)
    assert (await world.call("GET", "/edge/traefik")).status == 401
    assert (await world.call("GET", "/edge/traefik", operator)).status == 401
    assert (await world.call("GET", "/edge/traefik", PROMETHEUS_TOKEN)).status == 401
    answer = await world.call("GET", "/edge/traefik", TRAEFIK_TOKEN)
    assert answer.status == 200
    assert list(answer.json["tcp"]["routers"]) == ["game-5002-tcp-30000"]
    same = await world.call("GET", "/edge/traefik", TRAEFIK_TOKEN, If_None_Match=answer.headers["ETag"])
    assert (same.status, same.raw) == (304, b"")
    world.published.drop(5002)
    await until(lambda: world.services.documents.book.get(5002) is None)
    empty = await world.call("GET", "/edge/traefik", TRAEFIK_TOKEN, If_None_Match=answer.headers["ETag"])
    assert (empty.status, empty.json) == (200, {})


async def test_prometheus_reads_its_targets_with_its_own_token(
    world: World, operator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await world.call("GET", "/sd/exporters", TRAEFIK_TOKEN)).status == 401
    answer = await world.call("GET", "/sd/exporters", PROMETHEUS_TOKEN)
    assert [group["targets"] for group in answer.json] == [["10.0.0.1:9100"], ["10.0.0.1:18888"]]
    monkeypatch.setattr(edge_documents, "SLICE", 2)
    for vmid in range(5002, 5007):
        world.published.put(publication(vmid, power=Power.OFF if vmid in (5003, 5004) else Power.ON))
    await until(lambda: len(world.services.documents.book) == 6)
    answer = await world.call("GET", "/sd/exporters", PROMETHEUS_TOKEN)
    vmids = [group["labels"]["vmid"] for group in answer.json]
    assert vmids == [vmid for vmid in ("5001", "5002", "5005", "5006") for _exporter in range(2)]
    world.published.rows.clear()
    for vmid in range(5001, 5007):
        world.published.drop(vmid)
    await until(lambda: not len(world.services.documents.book))
    assert (await world.call("GET", "/sd/exporters", PROMETHEUS_TOKEN)).json == []
