"""The simulated cluster as others use it: its process, its memory, its control port."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.proxmox import succeeds, token, until
from tests.stopwatch import Stopwatch
from zlh.drivers.errors import NotFound
from zlh.drivers.proxmox import ProxmoxDriver, Tls
from zlh.simulators.proxmox.client import Cluster, command, running


def driver_of(cluster: Cluster) -> ProxmoxDriver:
    return ProxmoxDriver(cluster.url, token(cluster), Tls(ca_file=cluster.certificate))


async def test_a_second_run_finds_the_same_containers(tmp_path: Path) -> None:
    state = tmp_path / "deep" / "state.json"
    async with running(state) as cluster:
        certificate = cluster.certificate.read_bytes()
        driver = driver_of(cluster)
        await succeeds(driver, driver.clone("pve1", 9001, 6001, hostname="dev", description="d", target="pve2"))
        network = "name=eth0,bridge=vmbr0,ip=127.80.0.9/8"
        await driver.configure("pve2", 6001, memory_mib=2048, cores=2, net0=network)
        await succeeds(driver, driver.start("pve2", 6001))
        started = await driver.recent_tasks("pve2", vmid=6001, since=0)
        before = await cluster.containers(templates=True)
        await cluster.cause("task-hangs", type="vzclone")
        lost = await driver.clone("pve1", 9000, 5001, hostname="lost", description="")
        version, _ = await cluster.changes(0)
        await driver.aclose()

    async with running(state) as cluster:
        assert cluster.certificate.read_bytes() == certificate
        driver = driver_of(cluster)
        again = await cluster.containers(templates=True)
        uptimes = [found.pop("uptime") for listed in (before, again) for found in listed.values()]
        assert again == before
        assert max(uptimes) >= 0
        assert again[6001]["address"] == "127.80.0.9"
        assert await driver.recent_tasks("pve2", vmid=6001, since=0) == started
        # The clone in flight is undone, its task says so, and the template is free.
        assert (await driver.task(lost)).exit_status == "unexpected status"
        with pytest.raises(NotFound):
            await driver.config("pve1", 5001)
        await succeeds(driver, driver.clone("pve1", 9000, 5001, hostname="new", description=""))
        assert (await cluster.changes(0))[0] > version
        await driver.aclose()


async def test_kill_leaves_a_readable_state(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    async with running(state) as cluster:
        await cluster.create([{"vmid": 5001, "hostname": "a"}])

        async def written() -> bool:
            return "5001" in (await trio.Path(state).read_text() if state.exists() else "")

        await until(written)
        os.kill(cluster.pid, signal.SIGKILL)
    async with running(state) as cluster:
        assert set(await cluster.containers()) == {5001}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, None])
def test_it_ends_cleanly(tmp_path: Path, how: signal.Signals | None) -> None:
    words = command(tmp_path / "state.json", port=0)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        if how is None:
            process.stdin.close()
        else:
            process.send_signal(how)
        assert process.wait(10) == 0
        assert process.stderr.read() == b""
    assert (tmp_path / "state.json").exists()


async def test_a_state_that_cannot_be_written_is_an_end(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    words = command(state, port=0)
    process = await trio.lowlevel.open_process(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    ready = json.loads(await process.stdout.receive_some())
    state.with_name("state.json.new").mkdir()
    cluster = Cluster(ready["url"], ready["control"], Path(ready["certificate"]), process.pid)
    await cluster.create([{"vmid": 5001, "hostname": "a"}])
    with trio.fail_after(10):
        assert await process.wait() == 1
    for stream in (process.stdin, process.stdout, process.stderr):
        assert stream is not None
        await stream.aclose()


async def test_changes_are_told_at_once(proxmox: Cluster) -> None:
    version, _ = await proxmox.changes(0)
    told: list[float] = []

    async def wait() -> None:
        _, containers = await proxmox.changes(version)
        told.append(watch.seconds)
        assert {item["vmid"] for item in containers} == {5001, 9000, 9001}

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert not told
        watch = Stopwatch()
        await proxmox.create([{"vmid": 5001, "hostname": "a"}])
    assert told[0] < 2


async def test_a_restart_shows(proxmox: Cluster, proxmox_driver: ProxmoxDriver) -> None:
    await proxmox.create([{"vmid": 5001, "hostname": "a"}])
    first = (await proxmox.containers())[5001]["started"]
    version, _ = await proxmox.changes(0)
    await succeeds(proxmox_driver, proxmox_driver.reboot("pve1", 5001, timeout_seconds=5))
    await until(lambda: restarted(proxmox, first))
    assert (await proxmox.changes(0))[0] > version


async def restarted(cluster: Cluster, first: float) -> bool:
    return bool((await cluster.containers())[5001]["started"] not in (first, None))


async def test_many_containers_quickly(proxmox: Cluster, proxmox_driver: ProxmoxDriver) -> None:
    before = time.perf_counter()
    await proxmox.create(
        {"vmid": 100_000 + n, "hostname": f"n{n}", "address": f"127.90.{n // 250}.{n % 250 + 1}", "node": "pve2"}
        for n in range(1000)
    )
    assert time.perf_counter() - before < 10
    guests = [guest for guest in (await proxmox_driver.resources()).guests if not guest.template]
    assert len(guests) == 1000
    assert all(guest.running and guest.node == "pve2" for guest in guests)
    assert (await proxmox_driver.addresses("pve2", 100_999)) == ("127.90.3.250",)


async def test_hands_on_the_node(proxmox: Cluster, proxmox_driver: ProxmoxDriver) -> None:
    await proxmox.create([{"vmid": 5001, "hostname": "a", "running": False}])
    await proxmox.set_power(5001, True)
    assert (await proxmox_driver.status("pve1", 5001)).running
    await proxmox.set_power(5001, False)
    assert (await proxmox_driver.status("pve1", 5001)).running is False
    await proxmox.cause("hidden", vmid=5001)
    assert 5001 not in {guest.vmid for guest in (await proxmox_driver.resources()).guests}
    await proxmox.calm()
    assert 5001 in {guest.vmid for guest in (await proxmox_driver.resources()).guests}
    await proxmox.delete(5001)
    with pytest.raises(NotFound):
        await proxmox_driver.status("pve1", 5001)


async def test_a_task_hangs_until_all_is_calm(proxmox: Cluster, proxmox_driver: ProxmoxDriver) -> None:
    await proxmox.cause("task-hangs", type="vzclone", vmid=5001, times=1)
    upid = await proxmox_driver.clone("pve1", 9000, 5001, hostname="a", description="")
    await trio.sleep(0.3)
    assert (await proxmox_driver.task(upid)).running
    await proxmox.calm()

    async def done() -> bool:
        return (await proxmox_driver.task(upid)).succeeded

    await until(done)


@pytest.mark.parametrize(
    "fault",
    [
        {"name": "nonsense"},
        {"name": "locked"},
        {"name": "locked", "vmid": "5001"},
        {"name": "slow", "seconds": 1, "minutes": 2},
        {"name": "garbage", "path": "("},
        {"name": "node-offline", "node": 1},
    ],
)
async def test_faults_that_do_not_exist(proxmox: Cluster, fault: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="400"):
        await proxmox.cause(**fault)


async def test_wishes_that_cannot_be(proxmox: Cluster) -> None:
    await proxmox.create([{"vmid": 5001, "hostname": "a"}])
    for status, call in (
        (409, lambda: proxmox.create([{"vmid": 5001, "hostname": "a"}])),
        (400, lambda: proxmox.create([{"vmid": 5002, "hostname": "a", "node": "pve7"}])),
        (404, lambda: proxmox.create([{"hostname": "a"}])),
        (404, lambda: proxmox.delete(5999)),
        (404, lambda: proxmox.cause("locked", vmid=5999)),
        (404, lambda: proxmox.cause("node-offline", node="pve7")),
    ):
        with pytest.raises(ValueError, match=str(status)):
            await call()


def test_the_client_imports_nothing_under_the_agpl() -> None:
    script = "import sys, zlh.simulators.proxmox.client; sys.exit('fakepve' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
