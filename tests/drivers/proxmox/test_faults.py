"""What the driver says when the cluster is locked, away, slow, or takes back what it said."""

from __future__ import annotations

import itertools
import time

import pytest
import trio
import trio.testing

from tests.proxmox import ended, succeeds, token, until
from zlh.drivers.errors import Locked, Refused, Unreachable
from zlh.drivers.proxmox import ProxmoxDriver, Tls
from zlh.drivers.proxmox.wire import CONNECTIONS
from zlh.simulators.proxmox.client import Cluster

# Proxmox remembers the tasks of a vmid that is gone: every test takes new ones.
vmids = itertools.count(5100)


async def one(cluster: Cluster, *, running: bool = False) -> int:
    vmid = next(vmids)
    await cluster.create([{"vmid": vmid, "hostname": "a", "node": "pve1", "running": running}])
    return vmid


async def test_a_second_clone_of_a_template_finds_it_locked(proxmox_driver: ProxmoxDriver) -> None:
    first = await proxmox_driver.clone("pve1", 9000, 5001, hostname="a", description="")
    with pytest.raises(Locked, match="CT is locked \\(disk\\)"):
        await proxmox_driver.clone("pve1", 9000, 5002, hostname="b", description="")
    assert (await ended(proxmox_driver, first)).succeeded
    await succeeds(proxmox_driver, proxmox_driver.clone("pve1", 9000, 5002, hostname="b", description=""))


async def test_locks_of_every_kind(proxmox: Cluster, proxmox_driver: ProxmoxDriver) -> None:
    vmid = await one(proxmox)
    await proxmox.cause("locked", vmid=vmid, lock="backup")
    with pytest.raises(Locked, match="CT is locked \\(backup\\)"):
        await proxmox_driver.configure("pve1", vmid, memory_mib=512, cores=1)
    with pytest.raises(Locked):
        await proxmox_driver.destroy("pve1", vmid)
    assert (await proxmox_driver.status("pve1", vmid)).lock == "backup"
    assert next(g for g in (await proxmox_driver.resources()).guests if g.vmid == vmid).lock == "backup"
    await proxmox.calm()

    await proxmox.cause("lock-held", vmid=vmid)
    with pytest.raises(Locked, match="got timeout"):
        await proxmox_driver.configure("pve1", vmid, memory_mib=512, cores=1)
    # A task that cannot have the lock has started all the same: it fails with the same words.
    status = await ended(proxmox_driver, await proxmox_driver.start("pve1", vmid))
    assert not status.succeeded
    assert "got timeout" in (status.exit_status or "")
    await proxmox.calm()

    await proxmox.cause("lock-timeouts", times=2)
    for _ in range(2):
        with pytest.raises(Locked, match="got timeout") as locked:
            await proxmox_driver.start("pve1", vmid)
        assert not locked.value.may_have_happened
    await succeeds(proxmox_driver, proxmox_driver.start("pve1", vmid))


async def test_an_offline_node_is_not_a_stopped_container(proxmox: Cluster, proxmox_driver: ProxmoxDriver) -> None:
    await proxmox.create([{"vmid": 5001, "hostname": "a", "node": "pve2"}])
    await proxmox.cause("node-offline", node="pve2")
    cluster = await proxmox_driver.resources()
    assert [guest.running for guest in cluster.guests if guest.vmid == 5001] == [None]
    assert {node.name: node.online for node in cluster.nodes} == {"pve1": True, "pve2": False}
    with pytest.raises(Unreachable) as away:
        await proxmox_driver.stop("pve2", 5001)
    # 595: pveproxy could not connect to the node.
    assert not away.value.may_have_happened
    await proxmox.calm()
    assert (await proxmox_driver.status("pve2", 5001)).running


async def test_without_quorum_reads_go_on(proxmox: Cluster, proxmox_driver: ProxmoxDriver) -> None:
    vmid = await one(proxmox)
    await proxmox.cause("quorum-lost")
    with pytest.raises(Unreachable, match="no quorum") as lost:
        await proxmox_driver.configure("pve1", vmid, memory_mib=512, cores=1)
    assert not lost.value.may_have_happened
    assert (await proxmox_driver.config("pve1", vmid)).hostname == "a"


@pytest.mark.parametrize("how", ["refuse", "503", "596"])
async def test_the_api_goes_down_and_comes_back(proxmox: Cluster, proxmox_driver: ProxmoxDriver, how: str) -> None:
    vmid = await one(proxmox)
    await proxmox_driver.resources()
    await proxmox.cause("down", how=how)
    with pytest.raises(Unreachable) as down:
        await proxmox_driver.resources()
    assert not down.value.may_have_happened
    with pytest.raises(Unreachable) as down:
        await proxmox_driver.start("pve1", vmid)
    assert down.value.may_have_happened == (how != "refuse")
    await proxmox.calm()
    await succeeds(proxmox_driver, proxmox_driver.start("pve1", vmid))


async def test_an_unknown_500_may_be_before_or_after_the_work(
    proxmox: Cluster, proxmox_driver: ProxmoxDriver
) -> None:
    vmid = await one(proxmox)
    for name, running in (("fail-before", False), ("fail-after", True)):
        await proxmox.cause(name, path="/status/start$", times=1, message="got unexpected result")
        with pytest.raises(Unreachable, match="got unexpected result") as failed:
            await proxmox_driver.start("pve1", vmid)
        assert failed.value.may_have_happened
        if running:
            await until(lambda: is_running(proxmox_driver, vmid))
        else:
            assert not await is_running(proxmox_driver, vmid)


async def is_running(driver: ProxmoxDriver, vmid: int) -> bool:
    return bool((await driver.status("pve1", vmid)).running)


async def test_the_task_of_a_lost_answer_is_found(proxmox: Cluster, proxmox_driver: ProxmoxDriver) -> None:
    vmid = await one(proxmox)
    since = time.time() - 1
    await proxmox.cause("lost-answer", path="/status/start$", times=1)
    with pytest.raises(Unreachable) as lost:
        await proxmox_driver.start("pve1", vmid)
    assert lost.value.may_have_happened
    (task,) = await proxmox_driver.recent_tasks("pve1", vmid=vmid, since=since)
    assert task.type == "vzstart"
    assert (await ended(proxmox_driver, task.upid)).succeeded


async def test_a_caller_sets_the_time_limit(proxmox: Cluster, proxmox_driver: ProxmoxDriver) -> None:
    await proxmox.cause("slow", seconds=30)
    # More often than there are connections: a call that was given up leaves none occupied.
    for _ in range(CONNECTIONS + 2):
        with trio.move_on_after(0.05) as scope:
            await proxmox_driver.resources()
        assert scope.cancelled_caught
    await proxmox.calm()
    assert (await proxmox_driver.resources()).nodes


async def test_a_call_that_finds_no_free_connection_was_not_made(proxmox: Cluster) -> None:
    vmid = await one(proxmox)
    driver = ProxmoxDriver(proxmox.url, token(proxmox), Tls(ca_file=proxmox.certificate), cap_seconds=1.5)
    await proxmox.cause("slow", seconds=30, method="GET")

    async def occupy() -> None:
        with pytest.raises(Unreachable):
            await driver.resources()

    async with trio.open_nursery() as nursery:
        for _ in range(CONNECTIONS):
            nursery.start_soon(occupy)
        await trio.testing.wait_all_tasks_blocked(0.05)
        with pytest.raises(Unreachable, match="PoolTimeout") as busy:
            await driver.start("pve1", vmid)
        assert not busy.value.may_have_happened
    await driver.aclose()


async def test_a_call_that_nobody_limits_ends_too(proxmox: Cluster) -> None:
    vmid = await one(proxmox)
    driver = ProxmoxDriver(proxmox.url, token(proxmox), Tls(ca_file=proxmox.certificate), cap_seconds=0.3)
    await proxmox.cause("slow", seconds=30)
    with pytest.raises(Unreachable) as slow:
        await driver.resources()
    assert not slow.value.may_have_happened
    with pytest.raises(Unreachable) as slow:
        await driver.start("pve1", vmid)
    assert slow.value.may_have_happened
    await driver.aclose()
    with pytest.raises(Unreachable, match="closed"):
        await driver.resources()


async def test_a_task_that_stopped_has_not_always_succeeded(proxmox: Cluster, proxmox_driver: ProxmoxDriver) -> None:
    await proxmox.cause("task-fails", type="vzclone", exit_status="no space left on device", times=1)
    status = await ended(proxmox_driver, await proxmox_driver.clone("pve1", 9000, 5001, hostname="a", description=""))
    assert (status.succeeded, status.exit_status) == (False, "no space left on device")
    assert await proxmox.containers() == {}
    # The template is free again.
    await succeeds(proxmox_driver, proxmox_driver.clone("pve1", 9000, 5001, hostname="a", description=""))

    await proxmox.cause("task-fails", type="vzstart", exit_status="WARNINGS: 2", after=True, times=1)
    status = await ended(proxmox_driver, await proxmox_driver.start("pve1", 5001))
    assert (status.succeeded, status.exit_status) == (True, "WARNINGS: 2")


async def test_a_kill_overrules_a_hanging_shutdown(proxmox: Cluster, proxmox_driver: ProxmoxDriver) -> None:
    vmid = await one(proxmox, running=True)
    await proxmox.cause("task-hangs", type="vzshutdown", vmid=vmid, times=1)
    hanging = await proxmox_driver.shutdown("pve1", vmid, timeout_seconds=60)
    assert (await proxmox_driver.task(hanging)).running
    await proxmox_driver.stop("pve1", vmid, overrule_shutdown=True)
    sent = [body for method, path, body in await proxmox.requests() if path.endswith(f"{vmid}/status/stop")]
    assert sent[-1] == "overrule-shutdown=1"
    await proxmox.calm()
    assert (await ended(proxmox_driver, hanging)).succeeded


async def test_a_wrong_token_is_refused(proxmox: Cluster) -> None:
    for right in (True, False):
        auth = token(proxmox) if right else type(token(proxmox))("root@pam!zlh", "wrong")
        driver = ProxmoxDriver(proxmox.url, auth, Tls(ca_file=proxmox.certificate))
        if right:
            assert await driver.version() == "9.0.10"
        else:
            with pytest.raises(Refused) as refused:
                await driver.version()
            assert refused.value.status == 401
        await driver.aclose()
