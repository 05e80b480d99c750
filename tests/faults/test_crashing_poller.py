"""A bug that one container's poller meets again and again is that container's problem, and an operator can see it."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.faults.plants import FILE
from tests.faults.world import World, open_world

pytestmark = pytest.mark.faults


async def test_a_crashing_poller_is_quarantined_alone_and_released() -> None:
    async with open_world() as world:
        tripping = world.folder / "tripping"
        world.settings[FILE] = str(tripping)
        await world.kill(await _with_customer(world))
        vmids = await world.seed(4)
        pid = await world.start()
        customer, operator = world.token, await world.make_operator()
        await world.until_servers(lambda servers: _running(servers) == set(vmids))
        sick, healthy = vmids[0], vmids[1:]
        tripping.write_text((await world.servers())[sick]["ip"])

        poller = await _until_state(world, operator, sick, "quarantined")
        assert poller["crashes"] > 5
        assert poller["lastCrash"]["type"] == "ZeroDivisionError"
        assert "a bug planted in the parser" in poller["lastCrash"]["traceback"]

        # The siblings did not notice: their pollers never crashed and still observe.
        for vmid in healthy:
            assert (await _actor(world, operator, f"fleet/{vmid}/poller"))["crashes"] == 0
        seen = (await world.servers())[healthy[0]]["observedAt"]
        await world.until_servers(lambda servers: servers[healthy[0]]["observedAt"] > seen)

        # What was last seen of the sick one is still there, with its age, and its commands still work.
        assert (await world.servers())[sick]["status"] == "running"
        world.token = customer
        assert await world.call("POST", f"/api/servers/{sick}/game/restart") == {"ok": True}

        tripping.unlink()
        world.token = operator
        await world.call("POST", f"/api/operators/actors/fleet/{sick}/poller/release")
        await _until_state(world, operator, sick, "running")
        world.token = customer
        stale = (await world.servers())[sick]["observedAt"]
        await world.until_servers(lambda servers: servers[sick]["observedAt"] > stale)
        await world.kill(pid)


async def _with_customer(world: World) -> int:
    pid = await world.start()
    await world.register("customer")
    return pid


def _running(servers: dict[int, dict[str, Any]]) -> set[int]:
    return {vmid for vmid, server in servers.items() if server["status"] == "running" and server["ready"]}


async def _actor(world: World, operator: str, path: str) -> dict[str, Any]:
    before, world.token = world.token, operator
    try:
        answer: dict[str, Any] = await world.call("GET", f"/api/operators/actors/{path}")
    finally:
        world.token = before
    return answer.get("actor", answer)


async def _until_state(world: World, operator: str, vmid: int, state: str) -> dict[str, Any]:
    with trio.fail_after(60):
        while True:
            poller = await _actor(world, operator, f"fleet/{vmid}/poller")
            if poller["state"] == state:
                return poller
            await trio.sleep(0.1)
