"""`kill -9` of the API in the middle of a restore, then a restart: the files are those of the backup, once."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import trio

from tests.faults.scenes import provisioned
from tests.faults.world import World, open_world

pytestmark = pytest.mark.faults

PLACES = (
    "journal.begin, after",
    "do stop: agent.stop, after",
    "do restore: journal.remember, after",
    "do restore: agent.restore, after",
    "do restored: journal.done, before",
    "do start: agent.start, after",
)


async def test_a_kill_in_a_restore_is_survived() -> None:
    async with open_world() as world:
        pid = await world.start()
        await world.register("customer")
        vmid = await provisioned(world, "restored")
        path = f"/api/game/{vmid}"
        await world.call("POST", f"{path}/files/directory", {"path": "before"})
        backup = (await world.call("POST", f"{path}/backups"))["id"]
        await ready(world, path, backup)
        for place in PLACES:
            await world.call("POST", f"{path}/files/directory", {"path": "after"})
            world.arm(pid, target=place)
            begun = await begin(world, f"{path}/backups/{backup}/restore")
            assert await world.death(pid) is not None, f"{place} was not passed"
            pid = await world.start()
            operation = await world.finished(begun or (await newest(world))["id"])
            assert (operation["kind"], operation["state"]) == ("restore", "succeeded"), (place, operation)
            told = (await world.call("GET", f"{path}/backups"))["restore"]
            assert (told["key"], told["state"]) == (operation["id"], "done"), place
            await world.until_servers(lambda servers: servers[vmid]["status"] == "running")
            names = {entry["name"] for entry in (await world.call("GET", f"{path}/files?path="))["entries"]}
            assert ("before" in names, "after" in names) == (True, False), (place, names)
        restores = [one for one in await operations(world) if one["kind"] == "restore"]
        assert len(restores) == len(PLACES), "each was begun once"
        await world.kill(pid)


async def ready(world: World, path: str, backup: str) -> None:
    async def state() -> str:
        (found,) = (await world.call("GET", f"{path}/backups"))["backups"]
        assert found["id"] == backup
        told: str = found["state"]
        return told

    with trio.fail_after(20):
        while await state() != "ready":  # noqa: ASYNC110 - another process decides
            await trio.sleep(0.02)


async def begin(world: World, path: str) -> str | None:
    """The operation's id, None where the answer was lost."""
    try:
        identity: str = (await world.call("POST", path, {"stop": True}))["operation"]["id"]
    except httpx.TransportError:
        return None
    return identity


async def newest(world: World) -> dict[str, Any]:
    return (await operations(world))[0]


async def operations(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await world.call("GET", "/api/operations"))["operations"]
    return found
