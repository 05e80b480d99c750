"""What everything rests on goes away for a while: reads go on, changes wait or say 503, and all of it converges."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import trio
import trio_websocket

from tests.faults.scenes import a_game, accepted, crashes, provisioned, ready, running_fleet, with_customer
from tests.faults.world import World, open_world
from tests.stopwatch import Stopwatch

pytestmark = pytest.mark.faults

OUTAGE_SECONDS = 15.0
READ_SECONDS = 1.0
"""For one read during an outage; quick on a quiet machine, but never the time of a time-out."""


async def test_proxmox_down_reads_go_on_and_everything_converges() -> None:
    async with with_customer() as (world, pid):
        operator = await world.make_operator()
        vmid, other = await provisioned(world, "before"), await provisioned(world, "beside")
        await world.cluster.cause("down")
        await world.until_servers(lambda servers: servers[vmid]["hostStatus"] == "unknown")

        operations = [await accepted(world, "POST", "/api/instances", a_game("during"))]
        operations.append(await accepted(world, "POST", f"/api/servers/{other}/host/restart"))
        assert await world.call("POST", f"/api/servers/{vmid}/game/restart") == {"ok": True}
        with trio.move_on_after(OUTAGE_SECONDS):
            while True:
                server = (await read(world))[vmid]
                assert server["hostStatus"] == "unknown"
                # The agent's own word still counts.
                assert server["status"] in ("running", "starting", "stopping")
                assert "Proxmox could not be asked" in server["reason"]
                await trio.sleep(0.2)
        assert [(await world.operation(one))["state"] for one in operations if one] == ["running"] * len(operations)

        await world.cluster.calm()
        for operation in operations:
            assert (await world.finished(operation, within=90))["state"] == "succeeded"
        await agreement(world, 3)
        assert await crashes(world, operator) == []
        await world.kill(pid)


async def test_locks_that_are_held_are_waited_for() -> None:
    async with with_customer() as (world, pid):
        await world.cluster.cause("lock-timeouts", times=3)
        vmid = await provisioned(world, "locks")
        for fault in ("lock-held", "locked"):
            await world.cluster.cause(fault, vmid=vmid)
            operation = await accepted(world, "POST", f"/api/servers/{vmid}/host/restart")
            await waits(world, operation, "lock")
            assert (await read(world))[vmid]["status"] == "starting"
            await world.cluster.calm()
            assert (await world.finished(operation))["state"] == "succeeded"
        await agreement(world, 1)
        await world.kill(pid)


async def test_a_node_that_is_offline_takes_only_its_own_containers() -> None:
    async with open_world() as world:
        vmids, pid = await running_fleet(world, 12)
        there = await world.cluster.containers()
        lost = {vmid for vmid in vmids if there[vmid]["node"] == "pve2"}
        kept = set(vmids) - lost
        assert len(lost) == len(kept) == 6
        await world.cluster.cause("node-offline", node="pve2")
        await world.agent_fault(fault="hung", vmids=sorted(lost))
        await world.until_servers(lambda servers: {servers[vmid]["status"] for vmid in lost} == {"unknown"})

        operations = [await accepted(world, "POST", "/api/instances", a_game(f"new {n}")) for n in range(3)]
        ended = [await world.finished(operation) for operation in operations]
        assert [operation["state"] for operation in ended] == ["succeeded"] * 3
        there = await world.cluster.containers()
        assert {there[operation["vmid"]]["node"] for operation in ended} == {"pve1"}
        servers = await read(world)
        for vmid in lost:
            assert servers[vmid]["hostStatus"] == "unknown"
            assert "node pve2" in servers[vmid]["reason"]
        assert {servers[vmid]["status"] for vmid in kept} == {"running"}
        assert {servers[vmid]["hostStatus"] for vmid in kept} == {"online"}

        await world.cluster.calm()
        await world.calm_agents()
        await world.until_servers(lambda servers: len(ready(servers)) == 15)
        await world.kill(pid)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_postgresql_restarted_in_the_middle_of_operations(mode: str) -> None:
    async with with_customer() as (world, pid):
        operator = await world.make_operator()
        vmid = await provisioned(world, "before")
        await world.cluster.cause("slow", seconds=0.2, path="/lxc")
        operations = [await accepted(world, "POST", "/api/instances", a_game(f"{mode} {n}")) for n in range(5)]
        await until_one(world, operations, lambda operation: done_steps(operation) > 0)

        await trio.to_thread.run_sync(world.postgres.stop_server, mode)
        with trio.move_on_after(4):
            while True:
                assert (await read(world))[vmid]["status"] == "running"
                await says_503(world, "POST", "/api/instances", a_game("too late"))
                await says_503(world, "DELETE", f"/api/containers/{vmid}?force=true")
                await says_503(world, "POST", f"/api/servers/{vmid}/host/stop")
        # The agent needs no database.
        assert await world.call("POST", f"/api/servers/{vmid}/game/restart") == {"ok": True}
        await trio.to_thread.run_sync(world.postgres.start_server)

        for operation in operations:
            assert (await world.finished(operation, within=90))["state"] == "succeeded"
        await agreement(world, 6)
        assert await crashes(world, operator) == []
        await world.kill(pid)


async def test_a_killed_api_finishes_what_was_under_way_and_what_was_queued() -> None:
    async with with_customer() as (world, pid):
        await world.cluster.cause("slow", seconds=0.1, path="/lxc")
        operations = [await accepted(world, "POST", "/api/instances", a_game(f"one of many {n}")) for n in range(15)]
        await until_one(world, operations, lambda operation: done_steps(operation) > 1)
        found = [await world.operation(operation) for operation in operations]
        await world.kill(pid)
        assert {operation["state"] for operation in found} == {"running"}
        assert sum(operation["queued"] for operation in found) == 5

        await world.cluster.calm()
        pid = await world.start()
        for operation in operations:
            assert (await world.finished(operation, within=120))["state"] == "succeeded"
        await agreement(world, 15)
        await world.kill(pid)


async def test_sigterm_with_everything_open_ends_within_five_seconds() -> None:
    async with with_customer() as (world, pid):
        vmid = await provisioned(world, "watched")
        await world.cluster.cause("slow", seconds=0.3, path="/lxc")
        operations = [await accepted(world, "POST", "/api/instances", a_game(f"under way {n}")) for n in range(3)]
        async with trio.open_nursery() as nursery:
            events = await nursery.start(follow_events, world, operations[-1])
            console = await nursery.start(watch_console, world, vmid)
            watch = Stopwatch()
            world.terminate(pid)
            assert await world.death(pid) == 0, world.log()
            assert watch.seconds < 5
            with trio.fail_after(5):
                await events.wait()
                await console.wait()
        await world.cluster.calm()
        pid = await world.start()
        for operation in operations:
            assert (await world.finished(operation, within=90))["state"] == "succeeded"
        await agreement(world, 4)
        await world.kill(pid)


async def read(world: World) -> dict[int, dict[str, Any]]:
    watch = Stopwatch()
    servers = await world.servers()
    assert watch.seconds < READ_SECONDS
    return servers


async def says_503(world: World, method: str, path: str, document: object = None) -> None:
    async with world.client() as client:
        answer = await client.request(method, path, json=document)
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) >= 1
    assert set(answer.json()) == {"error", "code", "details", "requestId"}


async def waits(world: World, operation_id: str, word: str) -> None:
    """Until the operation says that it waits, with `word` in its reason; it is not over then."""

    async def waiting() -> bool:
        operation = await world.operation(operation_id)
        assert operation["state"] == "running", operation
        return any(word in (step["note"] or "") for step in operation["steps"])

    await until(waiting)


def done_steps(operation: dict[str, Any]) -> int:
    return sum(step["state"] == "done" for step in operation["steps"])


async def until_one(world: World, operations: list[str], holds: Callable[[dict[str, Any]], bool]) -> None:
    async def found() -> bool:
        for operation in operations:
            if holds(await world.operation(operation)):
                return True
        return False

    await until(found)


async def until(holds: Callable[[], Awaitable[bool]], within: float = 30.0) -> None:
    with trio.fail_after(within):
        # Another process decides.
        while not await holds():  # noqa: ASYNC110
            await trio.sleep(0.05)


async def agreement(world: World, count: int) -> None:
    """Database, Proxmox and agents agree on `count` running containers, and nothing is under way."""
    await world.until_servers(lambda servers: len(ready(servers)) == len(servers) == count)
    there = await world.cluster.containers()
    assert set(there) == set(await world.servers())
    assert all(container["running"] for container in there.values())
    listed = (await world.call("GET", "/api/operations"))["operations"]
    assert {operation["state"] for operation in listed} == {"succeeded"}


async def follow_events(world: World, operation_id: str, *, task_status: trio.TaskStatus[trio.Event]) -> None:
    """Reads an operation's event stream to its end; reports after its first event."""
    over = trio.Event()
    async with world.client() as client, client.stream("GET", f"/api/operations/{operation_id}/events") as answer:
        assert answer.status_code == 200
        reported = False
        try:
            async for _ in answer.aiter_bytes():
                if not reported:
                    reported = True
                    task_status.started(over)
        except httpx.TransportError:
            pass  # cut in the middle of a chunk: the process is gone
    over.set()


async def watch_console(world: World, vmid: int, *, task_status: trio.TaskStatus[trio.Event]) -> None:
    """Holds a console open until the server closes it, which must be with 1012, "service restart"."""
    over = trio.Event()
    address = world.api.replace("http", "ws") + f"/api/servers/{vmid}/console/stream"
    token = [(b"Authorization", f"Bearer {world.token}".encode())]
    async with trio_websocket.open_websocket_url(address, extra_headers=token) as websocket:
        task_status.started(over)
        with pytest.raises(trio_websocket.ConnectionClosed) as closed:
            while True:
                await websocket.get_message()
    assert closed.value.reason is not None
    assert closed.value.reason.code == 1012
    over.set()
