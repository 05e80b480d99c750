"""An agent that updates itself because its owner says so, many because an operator does; and an IDE's idle stop."""

from __future__ import annotations

import httpx
import trio

from tests.journeys.process import DemoProcess
from zlh.demo.portal import Portal
from zlh.simulators.agent.software import LATEST

SECONDS = 60.0


async def version_of(portal: Portal, vmid: int) -> str:
    found: str = (await portal.get(f"/api/servers/{vmid}/agent/version"))["version"]
    return found


async def test_an_owner_updates_one_and_an_operator_the_rest(
    customer: Portal, operator: Portal, raw: httpx.AsyncClient, game: int, demo: DemoProcess
) -> None:
    dev = demo.ready["vmids"]["dev"]
    for vmid in (game, dev):
        await customer.until(vmid, "running")
    before = await version_of(customer, game)
    assert (before != LATEST, await version_of(customer, dev)) == (True, before)

    assert (await raw.post(f"/api/servers/{dev}/agent/update")).status_code == 202
    with trio.fail_after(SECONDS):
        while await version_of(customer, dev) != LATEST:  # noqa: ASYNC110 - another process decides
            await trio.sleep(0.1)
    await customer.until(dev, "running")
    told = (await customer.get(f"/api/servers/{dev}/agent/update"))["available"]
    again = await raw.post(f"/api/servers/{dev}/agent/update")
    assert (told, again.status_code, again.json()["error"]) == (False, 409, "already the latest version")

    assert await customer.refused("POST", "/api/operators/rollouts") == 403
    wish = {"vmids": [game, dev], "batch": 1, "maxFailures": 0}
    planned = (await operator.post("/api/operators/rollouts", wish | {"dryRun": True}))["planned"]
    assert {item["vmid"] for item in planned} == {game, dev}
    assert {item["state"] for item in planned if item["vmid"] == game} == {"pending"}
    assert await version_of(customer, game) == before
    rollout = (await operator.post("/api/operators/rollouts", wish))["rollout"]
    with trio.fail_after(SECONDS):
        while rollout["state"] == "running":
            await trio.sleep(0.1)
            rollout = (await operator.get(rollout["href"]))["rollout"]
    ended = {item["vmid"]: (item["state"], item["to"]) for item in rollout["containers"]}
    assert (rollout["state"], ended[game]) == ("succeeded", ("succeeded", LATEST)), rollout
    assert ended[dev][0] == "skipped"
    await customer.until(game, "running")
    assert await version_of(customer, game) == LATEST


async def test_an_ide_is_only_stopped_where_its_owner_says_so(
    customer: Portal, raw: httpx.AsyncClient, stranger: Portal, demo: DemoProcess
) -> None:
    settings = f"/api/dev/{demo.ready['vmids']['dev']}/code-server/settings"
    assert await customer.get(settings) == {"idleStopMinutes": None}
    for wrong in (5, "30", True, 10**9):
        assert (await raw.patch(settings, json={"idleStopMinutes": wrong})).status_code == 400
    for minutes in (30, None):
        assert (await raw.patch(settings, json={"idleStopMinutes": minutes})).status_code == 200
        assert await customer.get(settings) == {"idleStopMinutes": minutes}
    assert await stranger.refused("PATCH", settings) == 404
