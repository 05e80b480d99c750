"""A request with an Idempotency-Key whose answer was lost with the process creates nothing twice."""

from __future__ import annotations

import httpx
import pytest

from tests.faults.test_kill import GAME
from tests.faults.world import World, open_world
from tests.plain import PLAIN

pytestmark = pytest.mark.faults


async def test_the_same_key_after_a_kill_gives_the_first_container() -> None:
    async with open_world() as world:
        pid = await world.start()
        await world.register("customer")
        world.arm(pid, target="fleet.create, after")
        with pytest.raises(httpx.TransportError):
            await create(world)
        assert await world.death(pid) == -9
        pid = await world.start()
        again = await create(world)
        assert again.status_code == 202
        assert again.headers["Idempotency-Replayed"] == "true"
        rows = (await world.call("GET", "/api/instances"))["rows"]
        assert [row["vmid"] for row in rows] == [again.json()["vmid"]]
        assert (await world.finished(again.json()["operation"]["id"]))["state"] == "succeeded"
        await world.kill(pid)


async def create(world: World) -> httpx.Response:
    headers = {"Authorization": f"Bearer {world.token}", "Idempotency-Key": "once-and-only-once"}
    async with httpx.AsyncClient(base_url=world.api, timeout=20.0, trust_env=False, verify=PLAIN) as client:
        return await client.post("/api/instances", json=GAME, headers=headers)
