"""A customer's backups over the real path: made, locked, kept from deletion, and put back with one call."""

from __future__ import annotations

from typing import Any

import httpx
import trio

from tests.journeys.process import DemoProcess
from tests.plain import PLAIN
from zlh.demo.portal import Portal
from zlh.demo.wishes import DEV

CONTENT = "files/content?path=motd.txt"


async def read(raw: httpx.AsyncClient, path: str) -> str:
    answer = await raw.get(f"{path}/{CONTENT}")
    assert answer.status_code == 200, answer.text
    return answer.text


async def write(raw: httpx.AsyncClient, path: str, text: str) -> None:
    answer = await raw.put(f"{path}/{CONTENT}", content=text.encode())
    assert answer.status_code in (200, 201, 204), answer.text


async def ready(customer: Portal, path: str, backup_id: str) -> dict[str, Any]:
    """The backup, once it is."""
    with trio.fail_after(30):
        while True:
            listed = (await customer.get(f"{path}/backups"))["backups"]
            (backup,) = (one for one in listed if one["id"] == backup_id)
            if backup["state"] != "creating":
                assert backup["state"] == "ready", backup
                found: dict[str, Any] = backup
                return found
            await trio.sleep(0.05)


async def test_a_backup_is_made_kept_and_put_back(
    customer: Portal, stranger: Portal, raw: httpx.AsyncClient, game: int
) -> None:
    await customer.until(game, "running")
    path = f"/api/game/{game}"
    await write(raw, path, "before")
    made = await raw.post(f"{path}/backups", json={"name": "before the update"})
    assert made.status_code == 202, made.text
    backup = f"{path}/backups/{made.json()['id']}"
    assert (await ready(customer, path, made.json()["id"]))["name"] == "before the update"

    locked = await raw.patch(backup, json={"name": "kept", "locked": True})
    assert (locked.json()["name"], locked.json()["locked"]) == ("kept", True)
    kept = await raw.delete(backup)
    assert (kept.status_code, kept.json()["code"]) == (409, "locked")
    for method in ("GET", "POST", "DELETE"):
        assert await stranger.refused(method, f"{path}/backups" if method != "DELETE" else backup) == 404
    assert (await raw.get(f"/api/dev/{game}/backups")).status_code == 404

    await write(raw, path, "after")
    runs = await raw.post(f"{backup}/restore")
    assert (runs.status_code, runs.json()["code"]) == (409, "running")
    begun = await raw.post(f"{backup}/restore", json={"stop": True})
    assert begun.status_code == 202, begun.text
    started = await raw.post(f"/api/servers/{game}/game/start")
    assert (started.status_code, started.json()["code"]) == (409, "operation_in_flight")
    ended = await customer.follow(begun.json()["operation"])
    assert [step["name"] for step in ended["steps"]] == ["stop", "restore", "restored", "start"]
    await customer.until(game, "running")
    assert await read(raw, path) == "before"

    assert (await raw.patch(backup, json={"locked": False})).json()["locked"] is False
    assert (await raw.delete(backup)).status_code == 204
    assert (await raw.get(f"{path}/backups")).json()["backups"] == []


async def test_no_more_than_the_plan_has(stranger: Portal, demo: DemoProcess) -> None:
    ordered = await stranger.order(DEV)
    await stranger.follow(ordered["operation"])
    vmid: int = ordered["vmid"]
    await stranger.until(vmid, "running")
    headers = {"Authorization": f"Bearer {stranger.token}"}
    path = f"/api/dev/{vmid}/backups"
    async with httpx.AsyncClient(
        base_url=demo.ready["url"], headers=headers, timeout=30, trust_env=False, verify=PLAIN
    ) as raw:
        for number in range(5):
            assert (await raw.post(path, json={"name": f"number {number}"})).status_code == 202
        full = await raw.post(path)
        assert (full.status_code, full.json()["code"]) == (403, "plan_limit")
        assert full.json()["details"]["plan"] == "starter"
        assert full.json()["details"]["exceeded"][0]["used"] == 5
        assert len((await raw.get(path)).json()["backups"]) == 5
    await stranger.follow((await stranger.delete(f"/api/containers/{vmid}?force=true"))["operation"])
