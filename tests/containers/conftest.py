"""Simulated agents for the whole session, and a fleet per test."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.stack import Agents, Stack, end, open_stack, start_agents, until
from zlh.simulators.proxmox.client import Cluster


@pytest.fixture(scope="session")
def agents_process(proxmox_cluster: Cluster) -> Iterator[Agents]:
    with tempfile.TemporaryDirectory(prefix="zlh-agents-") as folder:
        process, agents = start_agents(proxmox_cluster, Path(folder))
        try:
            yield agents
        finally:
            end(process)


@pytest.fixture
async def agents(proxmox: Cluster, agents_process: Agents) -> AsyncIterator[Agents]:
    """Without faults and, as the cluster is empty, without agents."""
    await agents_process.calm()

    async def none() -> bool:
        return not await agents_process.list()

    await until(none)
    yield agents_process
    await agents_process.calm()


@pytest.fixture
async def stack(postgres_url: str, proxmox: Cluster, agents: Agents) -> AsyncIterator[Stack]:
    async with open_stack(postgres_url, proxmox, agents) as stack:
        yield stack
