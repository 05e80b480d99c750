"""The whole life of LXC containers, the real driver against a stateful Proxmox API over TLS."""

from __future__ import annotations

import time

import pytest

from tests.proxmox import ended, succeeds
from zlh.drivers.errors import AlreadyExists, Conflict, Invalid, NotFound, Refused
from zlh.drivers.proxmox import ProxmoxDriver
from zlh.simulators.proxmox.client import Cluster


async def cloned(driver: ProxmoxDriver, vmid: int, target: str = "pve1") -> None:
    await succeeds(
        driver,
        driver.clone("pve1", 9000, vmid, hostname=f"game-{vmid}", description="owner 7", target=target),
    )


async def test_a_container_lives_and_is_gone(proxmox_driver: ProxmoxDriver) -> None:
    driver, node, vmid = proxmox_driver, "pve2", 5001
    before = time.time() - 1
    await cloned(driver, vmid, target=node)
    await driver.configure(
        node,
        vmid,
        memory_mib=3072,
        cores=3,
        swap_mib=0,
        net0="name=eth0,bridge=vmbr0,ip=127.80.0.1/8,gw=127.0.0.1",
        nameserver="10.0.0.53",
        searchdomain="zone.example",
        onboot=True,
        tags=("zlh", "game"),
        description="line one\nline two",
    )
    await succeeds(driver, driver.resize(node, vmid, size_gib=20))

    config = await driver.config(node, vmid)
    assert (config.hostname, config.description) == ("game-5001", "line one\nline two")
    assert (config.memory_mib, config.swap_mib, config.cores, config.disk_gib) == (3072, 0, 3, 20.0)
    assert (config.tags, config.onboot, config.template, config.lock) == (("game", "zlh"), True, False, "")
    assert "ip=127.80.0.1/8" in config.net0
    assert await driver.addresses(node, vmid) == ()

    await succeeds(driver, driver.start(node, vmid))
    status = await driver.status(node, vmid)
    assert (status.running, status.memory_total) == (True, 3072 * 2**20)
    assert await driver.addresses(node, vmid) == ("127.80.0.1",)

    guest = next(guest for guest in (await driver.resources()).guests if guest.vmid == vmid)
    assert (guest.node, guest.name, guest.kind, guest.running) == (node, "game-5001", "lxc", True)
    assert (guest.template, guest.memory) == (False, 3072 * 2**20)

    await succeeds(driver, driver.reboot(node, vmid, timeout_seconds=10))
    await succeeds(driver, driver.shutdown(node, vmid, timeout_seconds=10))
    assert (await driver.status(node, vmid)).running is False
    await succeeds(driver, driver.destroy(node, vmid))
    with pytest.raises(NotFound):
        await driver.config(node, vmid)
    assert vmid not in {guest.vmid for guest in (await driver.resources()).guests}

    listed = await driver.recent_tasks(node, vmid=vmid, since=before)
    kinds = {task.type for task in listed if task.status.succeeded}
    assert kinds == {"resize", "vzstart", "vzreboot", "vzshutdown", "vzdestroy"}


async def test_the_clone_is_found_under_its_template(proxmox_driver: ProxmoxDriver) -> None:
    since = time.time() - 1
    upid = await proxmox_driver.clone("pve1", 9000, 5001, hostname="a", description="b")
    tasks = await proxmox_driver.recent_tasks("pve1", vmid=9000, since=since)
    task = next(task for task in tasks if task.upid == upid)
    assert task.status.running
    assert (task.type, task.guest, task.ended) == ("vzclone", "9000", None)
    assert (await proxmox_driver.config("pve1", 5001)).lock == "create"
    await ended(proxmox_driver, upid)
    assert await proxmox_driver.recent_tasks("pve1", vmid=9000, since=time.time() + 60) == ()


async def test_nodes_with_memory(proxmox: Cluster, proxmox_driver: ProxmoxDriver) -> None:
    await proxmox.create([{"vmid": 5001, "hostname": "a", "node": "pve2", "memory": 4096}])
    nodes = {node.name: node for node in (await proxmox_driver.resources()).nodes}
    assert set(nodes) == {"pve1", "pve2"}
    assert nodes["pve2"].online
    assert nodes["pve2"].memory_used - nodes["pve1"].memory_used == 4096 * 2**20
    assert nodes["pve2"].memory_total == 64 * 2**30


async def test_the_templates_are_templates(proxmox_driver: ProxmoxDriver) -> None:
    guests = {guest.vmid: guest for guest in (await proxmox_driver.resources()).guests}
    assert guests[9000].template
    assert guests[9001].template
    assert (await proxmox_driver.config("pve1", 9000)).template


async def test_a_vmid_is_taken_once(proxmox: Cluster, proxmox_driver: ProxmoxDriver) -> None:
    await proxmox.create([{"vmid": 5001, "hostname": "a"}])
    with pytest.raises(AlreadyExists, match="CT 5001 already exists on node 'pve1'"):
        await proxmox_driver.clone("pve1", 9000, 5001, hostname="b", description="")


async def test_linked_clones_need_a_template(proxmox_driver: ProxmoxDriver) -> None:
    await succeeds(proxmox_driver, proxmox_driver.clone("pve1", 9000, 5001, hostname="a", description="", full=False))
    with pytest.raises(Refused, match="Linked clone feature"):
        await proxmox_driver.clone("pve1", 5001, 5002, hostname="a", description="", full=False)


async def test_proxmox_refuses_wrong_parameters_by_name(proxmox: Cluster, proxmox_driver: ProxmoxDriver) -> None:
    await proxmox.create([{"vmid": 5001, "hostname": "a"}])
    with pytest.raises(Refused) as refused:
        await proxmox_driver.configure("pve1", 5001, memory_mib=1, cores=99999, net0="bridge=vmbr0")
    assert refused.value.status == 400
    assert set(refused.value.details) == {"memory", "cores", "net0"}
    assert not refused.value.may_have_happened
    with pytest.raises(Refused, match="newid"):
        await proxmox_driver.clone("pve1", 9000, 7, hostname="a", description="")
    with pytest.raises(Refused, match="hostname"):
        await proxmox_driver.clone("pve1", 9000, 5002, hostname="not a name", description="")


async def test_power_in_the_wrong_state_is_a_conflict(proxmox: Cluster, proxmox_driver: ProxmoxDriver) -> None:
    await proxmox.create([{"vmid": 5001, "hostname": "a"}, {"vmid": 5002, "hostname": "b", "running": False}])
    with pytest.raises(Conflict, match="already running"):
        await proxmox_driver.start("pve1", 5001)
    with pytest.raises(Conflict, match="not running"):
        await proxmox_driver.stop("pve1", 5002)
    with pytest.raises(Conflict, match="not running"):
        await proxmox_driver.shutdown("pve1", 5002, timeout_seconds=5)
    with pytest.raises(Conflict, match="not running"):
        await proxmox_driver.reboot("pve1", 5002, timeout_seconds=5)
    with pytest.raises(Conflict, match="container is running"):
        await proxmox_driver.destroy("pve1", 5001)
    await succeeds(proxmox_driver, proxmox_driver.destroy("pve1", 5001, force=True))


async def test_disks_only_grow(proxmox: Cluster, proxmox_driver: ProxmoxDriver) -> None:
    await proxmox.create([{"vmid": 5001, "hostname": "a", "disk": 8}])
    with pytest.raises(Refused, match="unable to shrink"):
        await proxmox_driver.resize("pve1", 5001, size_gib=4)
    with pytest.raises(Conflict, match="already at specified size"):
        await proxmox_driver.resize("pve1", 5001, size_gib=8)


async def test_what_is_not_there_is_not_found(proxmox: Cluster, proxmox_driver: ProxmoxDriver) -> None:
    await proxmox.create([{"vmid": 5001, "hostname": "a", "node": "pve2"}])
    for call in (
        lambda: proxmox_driver.config("pve1", 5001),
        lambda: proxmox_driver.status("pve1", 5001),
        lambda: proxmox_driver.addresses("pve1", 5999),
        lambda: proxmox_driver.destroy("pve1", 5001),
        lambda: proxmox_driver.resize("pve1", 5999, size_gib=9),
        lambda: proxmox_driver.configure("pve1", 5999, memory_mib=512, cores=1),
        lambda: proxmox_driver.clone("pve1", 9999, 5002, hostname="a", description=""),
        lambda: proxmox_driver.task("UPID:pve1:000003E8:00001B58:6B048866:vzclone:9000:root@pam:"),
    ):
        if call is not None:
            with pytest.raises(NotFound):
                await call()


async def test_a_task_id_is_checked_before_it_becomes_a_path(proxmox_driver: ProxmoxDriver) -> None:
    for text in ("", "UPID:../../etc:1:2:3:a:b:c:", "pve1"):
        with pytest.raises(Invalid):
            await proxmox_driver.task(text)
