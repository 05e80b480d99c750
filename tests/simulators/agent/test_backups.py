"""Backups of the simulated agent: real archives, restored all or nothing, also over a restart."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.agents import GAME, QUICK, start_agent, until
from tests.simulators.agent.test_contract import get, http, put
from zlh.simulators.agent import SimulatedAgent
from zlh.simulators.agent.faults import FaultName


async def listed(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    backups: list[dict[str, Any]] = (await client.get("/backups")).json()["backups"]
    return backups


async def last_restore(client: httpx.AsyncClient) -> dict[str, Any]:
    restore: dict[str, Any] = (await client.get("/backups")).json()["restore"]
    return restore


async def all_ready(client: httpx.AsyncClient) -> bool:
    return all(backup["state"] == "ready" for backup in await listed(client))


async def restored(client: httpx.AsyncClient) -> bool:
    return (await last_restore(client))["state"] != "restoring"


async def made(client: httpx.AsyncClient, **wish: Any) -> str:
    """The id of a new backup that is ready."""
    answer = await client.post("/backups", json=wish)
    assert answer.status_code == 202
    await until(partial(all_ready, client))
    backup_id: str = answer.json()["id"]
    return backup_id


async def stopped(agent: SimulatedAgent, client: httpx.AsyncClient) -> None:
    assert (await client.post("/kill")).status_code == 200
    await until(lambda: agent.state == "idle")


async def test_a_backup_is_made_restored_and_removed(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path, config=GAME)
    async with http(agent) as client:
        assert await put(client, "world.dat", b"before") == 201
        backup_id = await made(client, name="first")
        assert (await client.get("/backups")).json()["restore"] is None
        assert await put(client, "world.dat", b"after") == 204
        assert await put(client, "new.dat", b"new") == 201
        assert (await client.post(f"/backups/{backup_id}/restore")).status_code == 409
        await stopped(agent, client)
        assert (await client.post(f"/backups/{backup_id}/restore", json={"key": "k1"})).status_code == 202
        for verb in ("start", "restart"):
            assert (await client.post(f"/{verb}")).status_code == 409
        for method, path in (("POST", "/backups"), ("DELETE", f"/backups/{backup_id}")):
            assert (await client.request(method, path)).status_code == 409
        assert (await client.post(f"/backups/{backup_id}/restore", json={"key": "k2"})).status_code == 409
        await until(partial(restored, client))
        assert await last_restore(client) == {"backup": backup_id, "key": "k1", "state": "done"}
        assert (await get(client, "world.dat")).content == b"before"
        assert (await get(client, "new.dat")).status_code == 404
        part = await client.get(f"/backups/{backup_id}/download", headers={"Range": "bytes=0-1"})
        assert (part.status_code, part.content) == (206, b"\x1f\x8b")
        # Asked again with the same key, nothing is restored again.
        assert await put(client, "world.dat", b"later") == 204
        assert (await client.post(f"/backups/{backup_id}/restore", json={"key": "k1"})).status_code == 202
        assert (await get(client, "world.dat")).content == b"later"
        assert (await client.delete(f"/backups/{backup_id}")).status_code == 204
        assert await listed(client) == []
        assert (await client.get(f"/backups/{backup_id}/download")).status_code == 404
        assert (await client.post("/start")).status_code == 202


async def test_a_backup_is_renamed_and_locked(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path, config=GAME)
    async with http(agent) as client:
        path = f"/backups/{await made(client)}"
        changed = await client.patch(path, json={"name": "kept", "locked": True})
        assert (changed.status_code, changed.json()["name"], changed.json()["locked"]) == (200, "kept", True)
        assert (await client.delete(path)).status_code == 409
        for wrong in ({"name": 7}, {"name": ""}, {"locked": "yes"}):
            assert (await client.patch(path, json=wrong)).status_code == 400
        assert (await client.patch(path, json={"locked": False})).json()["name"] == "kept"
        assert (await client.delete(path)).status_code == 204
        assert (await client.patch(path, json={"locked": True})).status_code == 404


async def test_what_fails_says_why_and_leaves_the_files(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path, config=GAME)
    async with http(agent) as client:
        assert await put(client, "world.dat", b"before") == 201
        good = await made(client)
        agent.faults.set(FaultName.BACKUP_FAILS)
        bad = (await client.post("/backups")).json()["id"]

        async def over() -> bool:
            return all(backup["state"] != "creating" for backup in await listed(client))

        await until(over)
        failed = (await listed(client))[1]
        assert (failed["id"], failed["state"], failed["error"]) == (bad, "failed", "no space left on device")
        await stopped(agent, client)
        assert (await client.post(f"/backups/{bad}/restore")).status_code == 409
        agent.faults.set(FaultName.RESTORE_FAILS)
        assert await put(client, "world.dat", b"after") == 204
        assert (await client.post(f"/backups/{good}/restore")).status_code == 202
        await until(partial(restored, client))
        assert (await last_restore(client))["error"] == "the archive is damaged"
        assert (await get(client, "world.dat")).content == b"after"


@pytest.mark.parametrize("where", ["before", "between"])
async def test_a_restore_survives_the_agent(nursery, tmp_path: Path, where: str) -> None:
    """The agent dies before it touched anything, or when the files were moved aside and the new ones not in place."""
    async with trio.open_nursery() as first:
        agent = await start_agent(first, tmp_path, config=GAME)
        async with http(agent) as client:
            assert await put(client, "world.dat", b"before") == 201
            backup_id = await made(client)
            assert await put(client, "world.dat", b"after") == 204
            await stopped(agent, client)
            agent.faults.set(FaultName.RESTORE_HANGS)
            assert (await client.post(f"/backups/{backup_id}/restore", json={"key": "k"})).status_code == 202
            assert (await client.get("/backups")).json()["restore"]["state"] == "restoring"
        first.cancel_scope.cancel()
    if where == "between":
        (tmp_path / "server").rename(tmp_path / "server.former")
        (tmp_path / "server.restoring").mkdir()
    again = await start_agent(nursery, tmp_path, durations=QUICK)
    async with http(again) as client:
        await until(partial(restored, client))
        assert (await last_restore(client))["state"] == "done"
        assert (await get(client, "world.dat")).content == b"before"
    assert sorted(os.listdir(tmp_path)) == ["backups", "server", "state.json"]


async def test_a_backup_that_was_being_made_failed(nursery, tmp_path: Path) -> None:
    async with trio.open_nursery() as first:
        agent = await start_agent(first, tmp_path, config=GAME)
        async with http(agent) as client:
            await made(client)
        first.cancel_scope.cancel()
    index = tmp_path / "backups" / "index.json"
    index.write_text(index.read_text().replace('"ready"', '"creating"'))
    again = await start_agent(nursery, tmp_path)
    async with http(again) as client:
        (backup,) = await listed(client)
        assert (backup["state"], backup["error"]) == ("failed", "the agent was restarted meanwhile")
