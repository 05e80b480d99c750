"""A schedule over the real path: run now, its backup is there, an older one goes; operators see the scheduler."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from zlh.demo.portal import Portal

NIGHTLY = {
    "name": "nightly",
    "action": "backup",
    "cron": "0 4 * * *",
    "timeZone": "Europe/Berlin",
    "retention": {"last": 1, "daily": 0, "weekly": 0, "monthly": 0},
}
SAYING = {"name": "greeting", "action": "command", "cron": "0 5 * * *", "command": "say by schedule"}


@asynccontextmanager
async def scheduled(portal: Portal, vmid: int, wish: dict[str, Any]) -> AsyncIterator[str]:
    """The path of a new schedule, which is gone afterwards."""
    made = await portal.post(f"/api/servers/{vmid}/schedules", wish)
    path = f"/api/servers/{vmid}/schedules/{made['schedule']['id']}"
    yield path
    await portal.delete(path)


async def run_now(portal: Portal, path: str) -> dict[str, Any]:
    """How it ended."""
    begun: dict[str, Any] = (await portal.post(f"{path}/run"))["run"]
    with trio.fail_after(60):
        while True:
            last: dict[str, Any] = (await portal.get(path))["schedule"]["lastRun"]
            if last["id"] == begun["id"] and last["outcome"] is not None:
                return last
            await trio.sleep(0.1)


async def test_a_backup_by_schedule_replaces_the_one_before(customer: Portal, game: int) -> None:
    await customer.until(game, "running")

    async def backups() -> dict[str, Any]:
        found = await customer.get(f"/api/game/{game}/backups")
        return {backup["id"]: backup for backup in found["backups"]}

    before = await backups()
    async with scheduled(customer, game, NIGHTLY) as path:
        first = await run_now(customer, path)
        assert (first["outcome"], first["error"], first["deletedBackups"]) == ("succeeded", None, [])
        made = (await backups())[first["backupId"]]
        assert (made["state"], made["name"].startswith("nightly 20")) == ("ready", True)
        second = await run_now(customer, path)
        assert (second["outcome"], second["deletedBackups"]) == ("succeeded", [first["backupId"]])
        assert (await backups()).keys() == {*before, second["backupId"]}
        runs = (await customer.get(f"{path}/runs"))["runs"]
        assert [run["id"] for run in runs] == [second["id"], first["id"]]
    # What it made stays; nothing is left of the schedule.
    assert (await backups()).keys() == {*before, second["backupId"]}
    await customer.delete(f"/api/game/{game}/backups/{second['backupId']}")
    assert (await customer.get(f"/api/servers/{game}/schedules")) == {"schedules": []}


async def test_a_command_is_typed_and_a_start_of_what_runs_is_skipped(customer: Portal, game: int) -> None:
    await customer.until(game, "running")
    async with scheduled(customer, game, SAYING) as path:
        assert (await run_now(customer, path))["outcome"] == "succeeded"
    async with scheduled(customer, game, SAYING | {"action": "start"}) as path:
        skipped = await run_now(customer, path)
        assert (skipped["outcome"], skipped["error"]) == ("skipped", "it runs already")


async def test_operators_see_the_scheduler(operator: Portal) -> None:
    found = (await operator.get("/api/operators/actors/schedules"))["actor"]
    assert found["state"] == "running"
    assert {"running", "due", "next", "done"} <= found["annotations"].keys()
