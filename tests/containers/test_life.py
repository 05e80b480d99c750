"""From a request to nothing left, with the real driver, database and agents."""

from __future__ import annotations

import pytest
import trio

from tests.stack import SMALL, Agents, Stack, customer, open_stack, until
from zlh.containers.cell import Cell
from zlh.model.console import Batch
from zlh.model.containers import ContainerType, Power, Resources
from zlh.model.errors import ConflictError, InvalidError, PlanLimitError
from zlh.simulators.proxmox.client import Cluster


async def test_provision_to_running_and_teardown_to_nothing(stack: Stack) -> None:
    row = await stack.provision("My Server")
    assert row.provisioned
    assert row.address in stack.fleet._options.address_pool
    assert stack.owners == {row.vmid: stack.account.id}
    await stack.status(row.vmid, "running")
    with pytest.raises(ConflictError) as refused:
        await stack.fleet.teardown(row.vmid)
    assert refused.value.code == "running"
    operation = await stack.succeeds(await stack.fleet.teardown(row.vmid, force=True))
    assert [step.name for step in operation.steps] == ["withdraw", "shutdown", "destroy"]
    await stack.gone(row.vmid)


async def test_a_dev_container_runs_too(stack: Stack) -> None:
    row = await stack.provision("Desk", ctype=ContainerType.DEV)
    assert row.vmid in stack.fleet._options.vmids[ContainerType.DEV]
    await stack.status(row.vmid, "running")


async def test_power_of_host_and_game(stack: Stack) -> None:
    vmid = (await stack.provision()).vmid
    fleet = stack.fleet
    await stack.status(vmid, "running")
    await fleet.stop_game(vmid)
    await stack.status(vmid, "stopped")
    await fleet.start_game(vmid)
    await stack.status(vmid, "running")

    stopping = await fleet.stop_host(vmid)
    for refused in (fleet.start_host, fleet.restart_host, fleet.start_game):
        with pytest.raises(ConflictError) as conflict:
            await refused(vmid)
        assert conflict.value.code == "operation_in_flight"
    await stack.succeeds(stopping)
    await stack.status(vmid, "host offline")
    with pytest.raises(ConflictError):
        await fleet.start_game(vmid)
    assert fleet.container(vmid).desired.power is Power.OFF

    await stack.succeeds(await fleet.start_host(vmid))
    await stack.status(vmid, "running")
    before = (await stack.cluster.containers())[vmid]["started"]
    await stack.succeeds(await fleet.restart_host(vmid))
    assert (await stack.cluster.containers())[vmid]["started"] != before
    await stack.status(vmid, "running")


async def test_power_is_known_at_once_though_the_list_of_all_is_behind(
    postgres_url: str, proxmox: Cluster, agents: Agents
) -> None:
    async with open_stack(postgres_url, proxmox, agents, list_lag_seconds=60.0) as stack:
        vmid = (await stack.provision()).vmid
        await stack.status(vmid, "running")
        await proxmox.cause("powers-frozen")
        await stack.succeeds(await stack.fleet.stop_host(vmid))
        asked = stack.fleet.watcher.answered_at
        assert asked is not None
        await until(lambda: _later(stack, asked + 1.0))
        server = stack.fleet.server(vmid)
        assert (server.host_status, server.status) == ("offline", "host offline")
        with pytest.raises(ConflictError) as refused:
            await stack.fleet.start_game(vmid)
        assert refused.value.code == "host_offline"
        # Neither does it look as if it ran when it is to be deleted, nor as if it were off once it was started.
        await proxmox.calm()
        await proxmox.cause("powers-frozen")
        await stack.succeeds(await stack.fleet.start_host(vmid))
        await stack.status(vmid, "running")
        with pytest.raises(ConflictError) as running:
            await stack.fleet.teardown(vmid)
        assert running.value.code == "running"
        await stack.succeeds(await stack.fleet.stop_host(vmid))
        await stack.succeeds(await stack.fleet.teardown(vmid))


async def _later(stack: Stack, moment: float) -> bool:
    return (stack.fleet.watcher.answered_at or 0.0) > moment


async def test_an_upgrade_and_one_that_is_taken_back(stack: Stack) -> None:
    vmid = (await stack.provision()).vmid
    larger = Resources(memory_mib=2048, cpu_cores=2, disk_gib=12)
    await stack.succeeds(await stack.fleet.upgrade(stack.account, vmid, larger))
    assert stack.fleet.container(vmid).resources == larger
    assert (await stack.cluster.containers())[vmid]["memory"] == 2048

    await stack.cluster.cause("task-fails", type="resize", exit_status="no space left on device", vmid=vmid)
    largest = Resources(memory_mib=4096, cpu_cores=4, disk_gib=20)
    failed = await stack.compensated(await stack.fleet.upgrade(stack.account, vmid, largest))
    assert "no space left" in (failed.error or "")
    assert stack.fleet.container(vmid).resources == larger
    assert (await stack.cluster.containers())[vmid]["memory"] == 2048

    with pytest.raises(InvalidError):
        await stack.fleet.upgrade(stack.account, vmid, SMALL)
    with pytest.raises(PlanLimitError):
        await stack.fleet.upgrade(stack.account, vmid, Resources(2048, 100, 12))
    # A refused upgrade leaves the container as usable as before.
    await stack.succeeds(await stack.fleet.stop_host(vmid))


async def test_many_at_once_take_turns(postgres_url: str, proxmox: Cluster, agents: Agents) -> None:
    async with open_stack(postgres_url, proxmox, agents, concurrent_operations=10) as stack:
        other = await customer(stack.db, "grace")
        # The first ten hold their places until everybody is in line.
        for vmid in range(5000, 5010):
            await agents.cause("install_hangs", vmid=vmid)
        hers = [await stack.create(f"Ada {number}") for number in range(12)]
        his = await stack.create("Grace", account=other)
        admission = stack.fleet._crew.admission
        admitted: dict[int, float] = {}
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                # Two that are found by one look came at once, as far as anybody can tell.
                looked = trio.current_time()
                for vmid in admission.inside:
                    admitted.setdefault(vmid, looked)
                most = max(most, len(admission.inside))
                await trio.sleep(0.01)

        async def full() -> bool:
            return (len(admission.inside), admission.waiting) == (10, 3)

        async with trio.open_nursery() as watching:
            watching.start_soon(watch)
            await until(full)
            await agents.calm()
            for operation in [*hers, his]:
                await stack.succeeds(operation, within=90)
            watching.cancel_scope.cancel()
        assert most == 10
        assert admitted[his.vmid] <= admitted[hers[11].vmid], "one customer's crowd came before another's only one"

        async def idle() -> bool:
            return stack.fleet.statistics()["operations_running"] == 0

        await until(idle)


async def test_a_delete_ends_whatever_is_under_way(stack: Stack) -> None:
    vmid = (await stack.provision()).vmid
    await stack.cluster.cause("task-hangs", type="vzshutdown", vmid=vmid)
    restarting = await stack.fleet.restart_host(vmid)
    await stack.step(restarting, "shutdown")
    tearing = await stack.fleet.teardown(vmid, force=True)
    assert tearing.id != restarting.id
    await stack.fails(restarting)
    assert (await stack.fleet.teardown(vmid)).id == tearing.id
    await stack.cluster.calm()
    await stack.succeeds(tearing)
    await stack.gone(vmid)


class Lines:
    """A viewer that keeps the lines, and what ended it."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.ended: int | None = None

    def deliver(self, batch: Batch) -> None:
        self.texts += [line.text for line in batch.lines]

    def event(self, name: str, fields: dict[str, object]) -> None:
        pass

    def end(self, code: int, reason: str) -> None:
        self.ended = code


async def test_a_line_goes_out_and_its_answer_comes_back(stack: Stack) -> None:
    vmid = (await stack.provision()).vmid
    await stack.status(vmid, "running")
    viewers = [Lines(), Lines()]
    places = [stack.fleet.attach(vmid, viewer) for viewer in viewers]

    async def connected() -> bool:
        return stack.system.snapshot_of(f"fleet/{vmid}/console").annotations.get("upstream") == "connected"

    await until(connected)
    await places[0].send_line("say hello from one of two")

    async def heard() -> bool:
        return all(any("hello from one of two" in text for text in viewer.texts) for viewer in viewers)

    await until(heard, lacking=lambda: viewers[1].texts[-5:])
    assert stack.fleet.statistics()["console_viewers"] == 2
    places[1].detach()
    await stack.succeeds(await stack.fleet.teardown(vmid, force=True))
    await stack.gone(vmid)
    assert (viewers[0].ended, viewers[1].ended) == (4404, None)


async def test_a_vmid_is_used_again_before_its_former_actor_is_gone(
    postgres_url: str, proxmox: Cluster, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    vmids = {ContainerType.GAME: range(5000, 5001), ContainerType.DEV: range(6000, 6001)}
    async with open_stack(postgres_url, proxmox, agents, vmids=vmids) as stack:
        former = await stack.provision("Former")
        crew = stack.fleet._crew
        departing: list[Cell] = []
        monkeypatch.setattr(crew, "retire", departing.append)
        await stack.succeeds(await stack.fleet.teardown(former.vmid, force=True))

        async def unlisted() -> bool:
            return former.vmid not in crew.taken()

        await until(unlisted)
        operation = await stack.create("Latter")
        assert operation.vmid == former.vmid
        await stack.succeeds(operation)
        monkeypatch.undo()
        for cell in departing:
            crew.retire(cell)
        await stack.status(former.vmid, "running")
        assert stack.fleet.container(former.vmid).name == "Latter"
