"""A real Proxmox API for tests: one simulated cluster per test session, calm and empty for every test.

`tests/conftest.py` offers the fixtures to every test:

    proxmox_cluster   the session's cluster of two nodes, as it is
    proxmox           the same, without faults and containers but the templates; cleared after the test too
    proxmox_driver    the real driver, signed in to it by token
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio

from zlh.drivers.proxmox import ProxmoxDriver, TaskStatus, Tls, TokenAuth
from zlh.simulators.proxmox.client import Cluster, command

# A Proxmox second takes 10 ms: a clone 60, a start 20.
TIME_SCALE = 0.01


@pytest.fixture(scope="session")
def proxmox_cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="zlh-proxmox-") as folder:
        words = command(Path(folder) / "state.json", host="127.0.0.3", port=0, time_scale=TIME_SCALE)
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                ready = json.loads(process.stdout.readline())
                yield Cluster(ready["url"], ready["control"], Path(ready["certificate"]), process.pid)
            finally:
                process.terminate()


@pytest.fixture
async def proxmox(proxmox_cluster: Cluster) -> AsyncIterator[Cluster]:
    await _clear(proxmox_cluster)
    yield proxmox_cluster
    await _clear(proxmox_cluster)


async def _clear(cluster: Cluster) -> None:
    await cluster.calm()
    await cluster.empty()


def token(cluster: Cluster) -> TokenAuth:
    return TokenAuth(cluster.token_id, cluster.token_secret)


@pytest.fixture
async def proxmox_driver(proxmox: Cluster) -> AsyncIterator[ProxmoxDriver]:
    driver = ProxmoxDriver(proxmox.url, token(proxmox), Tls(ca_file=proxmox.certificate))
    yield driver
    await driver.aclose()


async def ended(driver: ProxmoxDriver, upid: str, *, within: float = 5.0) -> TaskStatus:
    """Waits until the task ended."""

    async def stopped() -> bool:
        return not (await driver.task(upid)).running

    await until(stopped, within=within)
    return await driver.task(upid)


async def succeeds(driver: ProxmoxDriver, upid: Awaitable[str]) -> None:
    """Awaits the call that starts a task, and the task's success."""
    status = await ended(driver, await upid)
    assert status.succeeded, status


async def until(condition: Callable[[], Awaitable[bool]], *, within: float = 5.0) -> None:
    """Waits for a condition."""
    with trio.fail_after(within):
        # Another process decides: there is nothing but to look again.
        while not await condition():  # noqa: ASYNC110
            await trio.sleep(0.01)
