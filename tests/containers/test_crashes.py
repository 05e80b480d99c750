"""Bugs and restarts of our own: an operation goes on where it was, and nobody else notices."""

from __future__ import annotations

import pytest
import trio

import actors
from tests.stack import Agents, Stack, open_stack, until
from tests.stopwatch import Stopwatch
from zlh.containers.runner import Runner
from zlh.containers.steps import Again
from zlh.model.errors import UnavailableError
from zlh.simulators.proxmox.client import Cluster


def plant(monkeypatch: pytest.MonkeyPatch, vmid: int, step: str, times: int) -> list[int]:
    """A bug that is met that many times before `step` of one container is carried forward; returns what is left."""
    right = Runner.do
    left = [times]

    async def wrong(self: Runner, name: str) -> Again:
        if self._cell.vmid == vmid and name == step and left[0]:
            left[0] -= 1
            raise ZeroDivisionError("a planted bug")
        return await right(self, name)

    monkeypatch.setattr(Runner, "do", wrong)
    return left


@pytest.mark.parametrize("step", ["clone", "start", "running"])
async def test_an_operation_outlives_crashes_of_its_actor(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    left = plant(monkeypatch, 5000, step, times=3)
    await stack.succeeds(await stack.create())
    assert left == [0]
    mailbox = stack.system.snapshot_of("fleet/5000/mailbox")
    assert mailbox.crashes == 3
    assert mailbox.last_crash is not None
    assert mailbox.last_crash.type == "ZeroDivisionError"
    assert stack.fleet.statistics()["operations_running"] == 0


async def test_a_quarantined_container_holds_no_place(
    postgres_url: str, proxmox: Cluster, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = plant(monkeypatch, 5000, "configure", times=1000)
    async with open_stack(postgres_url, proxmox, agents, concurrent_operations=1, mutations_per_node=1) as stack:
        broken, well = await stack.create("Broken"), await stack.create("Well")

        async def quarantined() -> bool:
            return stack.system.snapshot_of("fleet/5000/mailbox").state is actors.State.QUARANTINED

        await until(quarantined)
        await stack.succeeds(well)
        with pytest.raises(UnavailableError, match="quarantined"):
            await stack.fleet.teardown(5000, force=True)
        assert stack.fleet.server(5000).status == "provisioning"
        left[0] = 0
        assert stack.system.release("fleet/5000/mailbox") == 1
        await stack.succeeds(broken)


async def test_operations_are_adopted_after_a_restart(postgres_url: str, proxmox: Cluster, agents: Agents) -> None:
    await agents.cause("install_hangs", vmid=5001)
    await proxmox.cause("task-hangs", type="vzstart", vmid=5000)
    async with open_stack(postgres_url, proxmox, agents) as stack:
        starting, installing = await stack.create("One"), await stack.create("Two")
        await stack.step(installing, "running")
        await stack.step(starting, "start")

        async def recorded() -> bool:
            return (await stack.fleet.operation(starting.id)).step("start").upid is not None

        await until(recorded)
    async with open_stack(postgres_url, proxmox, agents) as stack:
        assert stack.fleet.server(5000).status == "provisioning"
        await trio.sleep(1.0)
        await proxmox.calm()
        await agents.calm()
        assert (await stack.succeeds(starting)).id == starting.id
        await stack.succeeds(installing)
        # The task that ran was waited for, not begun again.
        begun = [path for method, path, _ in await stack.requests() if method == "POST" and path.endswith("/start")]
        assert begun == []
    async with open_stack(postgres_url, proxmox, agents) as stack:
        for vmid in (5000, 5001):
            await stack.status(vmid, "running")
        tearing = await stack.fleet.teardown(5000, force=True)
        await stack.step(tearing, "shutdown")
    async with open_stack(postgres_url, proxmox, agents) as stack:
        await stack.succeeds(tearing)
        await stack.gone(5000)


async def test_a_kill_overtakes_a_stop_that_hangs(stack: Stack) -> None:
    vmid = (await stack.provision()).vmid
    await stack.status(vmid, "running")
    await stack.agents.cause("hung", vmid=vmid, path="/stop")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_ignore, stack, vmid)

        async def hangs() -> bool:
            return stack.system.snapshot_of(f"fleet/{vmid}/mailbox").lanes["exclusive"].in_flight == 1

        await until(hangs)
        watch = Stopwatch()
        await stack.fleet.kill_game(vmid)
        assert watch.seconds < 5.0
        await stack.status(vmid, "stopped")
        nursery.cancel_scope.cancel()


async def _ignore(stack: Stack, vmid: int) -> None:
    await stack.fleet.stop_game(vmid)


async def test_a_poller_that_crashes_is_nobody_elses_trouble(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    from zlh.containers import poller

    vmid = (await stack.provision()).vmid
    other = (await stack.provision("Other")).vmid
    for one in (vmid, other):
        await stack.status(one, "running")
    right = poller.fold_round

    def wrong(*arguments: object) -> object:
        if arguments[0] is stack.fleet.projection.cell(vmid).observed.agent:
            raise ZeroDivisionError("a planted bug")
        return right(*arguments)

    monkeypatch.setattr(poller, "fold_round", wrong)

    async def quarantined() -> bool:
        return stack.system.snapshot_of(f"fleet/{vmid}/poller").state is actors.State.QUARANTINED

    await until(quarantined)
    server = stack.fleet.server(vmid)
    assert server.status == "running"
    assert server.reason.startswith("last heard before a restart")
    assert stack.system.snapshot_of(f"fleet/{vmid}/mailbox").crashes == 0
    assert stack.system.snapshot_of(f"fleet/{other}/poller").crashes == 0
    await stack.fleet.stop_game(vmid)
    monkeypatch.setattr(poller, "fold_round", right)
    stack.system.release(f"fleet/{vmid}/poller")
    await stack.status(vmid, "stopped")
