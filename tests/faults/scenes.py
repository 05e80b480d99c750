"""What the tests find in a world before something goes wrong: a customer, containers, a fleet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from tests.faults.world import World, open_world

Servers = dict[int, dict[str, Any]]


@asynccontextmanager
async def with_customer() -> AsyncIterator[tuple[World, int]]:
    """A world with a running API and a signed-in customer, and the API's pid."""
    async with open_world() as world:
        pid = await world.start()
        await world.register("customer")
        yield world, pid


async def running_fleet(world: World, count: int) -> tuple[list[int], int]:
    """`count` running and ready containers of the customer, and the pid of the API that watches them."""
    pid = await world.start()
    await world.register("customer")
    await world.kill(pid)
    vmids = await world.seed(count)
    pid = await world.start()
    await world.until_servers(lambda servers: ready(servers) == set(vmids), within=60)
    return vmids, pid


def a_game(name: str) -> dict[str, Any]:
    sizes = {"memoryMiB": 1024, "cpuCores": 1, "diskGiB": 8}
    return {"ctype": "game", "game": "minecraft", "variant": "paper", "version": "1.21.1", "name": name, **sizes}


async def accepted(world: World, method: str, path: str, document: object = None) -> str:
    """The id of the operation that the call began."""
    identity: str = (await world.call(method, path, document))["operation"]["id"]
    return identity


async def provisioned(world: World, name: str) -> int:
    """The vmid of a new container that runs and is ready."""
    operation = await world.finished(await accepted(world, "POST", "/api/instances", a_game(name)))
    assert operation["state"] == "succeeded", operation
    vmid: int = operation["vmid"]
    await world.until_servers(lambda servers: vmid in ready(servers))
    return vmid


def ready(servers: Servers) -> set[int]:
    return {vmid for vmid, server in servers.items() if server["status"] == "running" and server["ready"]}


async def crashes(world: World, operator: str) -> list[str]:
    """The paths of all parts that ever crashed."""
    customer, world.token = world.token, operator
    try:
        tree = (await world.call("GET", "/api/operators/actors"))["actors"]
    finally:
        world.token = customer
    return [part["path"] for part in _parts(tree) if part["crashes"]]


def _parts(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield part
    for child in part["children"]:
        yield from _parts(child)
