"""The edge alone in a process of its own: the read model of many containers, the book, and one target.

    python -m tests.bench.publisher

reads one JSON object {"kind", "database", "url", "token", "zone", "containers", "core"} from standard input, takes
that many containers for published long ago, and says {}. Every further line is an order, answered with one line:

    {"do": "poll", "seconds", "rate"}  agents are heard of, so many a second in all; nothing of it is to be published
    {"do": "open"}                     the book and the target begin; answers once all was compared
    {"do": "reconcile"}                compares everything
    {"do": "add", "count"}             so many more containers; answers once all of them are there
    {"do": "rename", "count"}          one after the other

with {"seconds", "cpu", "calls", "rss"}: processor seconds, looks and batches, and bytes of memory afterwards.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import trio

import actors
from tests.bench.processes import usage
from tests.drivers.rfc2136.knot import KEY
from zlh.__main__ import CONFIG
from zlh.containers.projection import Changes, Projection
from zlh.containers.publication import publication
from zlh.drivers.cloudflare import Cloudflare
from zlh.drivers.dns_records import mark
from zlh.drivers.rfc2136 import Rfc2136, Server
from zlh.drivers.technitium import Technitium
from zlh.edge import Outlets
from zlh.edge.book import Book
from zlh.edge.dns import View, dns_entries
from zlh.edge.ledger import Ledger, StoredClaims
from zlh.edge.sync import Sync
from zlh.model.access import Sight
from zlh.model.containers import Container, ContainerType, Power, Resources, Software
from zlh.model.edge import Entry, Publication, System
from zlh.model.observed import (
    AgentObservation,
    AgentState,
    HostObservation,
    Liveness,
    Observed,
    Presence,
    Readiness,
    Status,
)
from zlh.settings import load_games
from zlh.store import Database

INSTALLATION = "bench"
FIRST_VMID = 20_000
BEAT_SECONDS = 0.01
LONG = 3600.0
VIEW_ADDRESSES = ("192.0.2.10", "2001:db8::10")


def view(zone: str) -> View:
    """Three entries for every container: two addresses, one service."""
    games = load_games(CONFIG.parent / "games.toml")
    return View(zone, VIEW_ADDRESSES, (), (), "", None, games)


def system(kind: str, url: str, token: str, zone: str) -> System:
    match kind:
        case "cloudflare":
            return Cloudflare(f"{url}/client/v4", token, zone, INSTALLATION)
        case "rfc2136":
            host, _, port = url.rpartition(":")
            return Rfc2136(Server(host, int(port), KEY), zone, INSTALLATION)
        case _:
            return Technitium(url, token, zone, INSTALLATION)


def a_row(vmid: int, zone: str) -> Container:
    now = datetime.now(UTC)
    return Container(
        vmid=vmid,
        owner_id=vmid % 500,
        ctype=ContainerType.GAME,
        name=f"game {vmid}",
        hostname=f"game-{vmid}.{zone}",
        software=Software("terraria", "1.4.4.9", "vanilla", "earth"),
        resources=Resources(1024, 1, 8),
        ports=(7777,),
        agent_token="",
        created_at=now,
        updated_at=now,
        node="pve1",
        address=f"10.{vmid >> 16}.{vmid >> 8 & 255}.{vmid & 255}",
        provisioned=True,
    )


def records(zone: str, count: int) -> Iterator[tuple[str, str, str, int, str]]:
    """What the name server holds of the first `count` containers: kind, name, value, TTL and mark."""
    for entry in published(zone, count):
        yield entry.kind, entry.name, entry.value, entry.ttl, mark(INSTALLATION, entry.vmid)


def published(zone: str, count: int) -> Iterator[Entry]:
    projection, seen = Projection(time.time), view(zone)
    for vmid in range(FIRST_VMID, FIRST_VMID + count):
        yield from dns_entries(publication(projection.add(a_row(vmid, zone), observed=observed())), seen)


def observed() -> Observed:
    return Observed(HostObservation(Presence.PRESENT, Power.ON, node="pve1", at=time.time()), heard(0))


def heard(uptime: int) -> AgentObservation:
    now = time.time()
    status = Status(AgentState.RUNNING, uptime_seconds=uptime, cpu_percent=12.5, memory_mb=900)
    return AgentObservation(Liveness.ONLINE, status, Readiness(ready=True), at=now, asked_at=now)


class Read:
    """The read model, as the book needs it."""

    def __init__(self) -> None:
        self.projection = Projection(time.time)

    def publications(self) -> list[Publication]:
        return [publication(cell) for cell in self.projection.cells()]

    def publication(self, vmid: int) -> Publication | None:
        cell = self.projection.get(vmid)
        return publication(cell) if cell is not None else None

    def changes(self, sight: Sight) -> AbstractAsyncContextManager[Changes]:
        return self.projection.changes(sight)


class NoNumbers:
    async def assign(self, one: Publication) -> Publication:
        return one

    def problem(self, vmid: int) -> str | None:
        return None

    def forget(self, vmid: int) -> None:
        pass

    def hopeful(self) -> Iterable[int]:
        return ()


@dataclass
class Publisher:
    read: Read
    outlets: Outlets
    sync: Sync
    zone: str
    stack: AsyncExitStack

    async def obey(self, order: dict[str, Any]) -> dict[str, float]:
        does: dict[str, Callable[[], Awaitable[None]]] = {
            "poll": lambda: self._poll(order["seconds"], order["rate"]),
            "open": self._open,
            "reconcile": self._reconcile,
            "add": lambda: self._add(order["count"]),
            "rename": lambda: self._rename(order["count"]),
        }
        began, cpu, calls = trio.current_time(), time.process_time(), self.sync.report().calls
        await does[order["do"]]()
        return {
            "seconds": trio.current_time() - began,
            "cpu": time.process_time() - cpu,
            "calls": self.sync.report().calls - calls,
            "rss": usage(os.getpid()).rss_bytes,
        }

    async def _poll(self, seconds: float, rate: int) -> None:
        """One agent after the other, evenly."""
        vmids = [cell.vmid for cell in self.read.projection.cells()]
        began, done = trio.current_time(), 0
        while (passed := trio.current_time() - began) < seconds:
            for number in range(done, done := int(passed * rate)):
                self.read.projection.cell(vmids[number % len(vmids)]).observe_agent(heard(number))
            await trio.sleep(BEAT_SECONDS)

    async def _open(self) -> None:
        await self.stack.enter_async_context(actors.open_system(self.outlets.spec()))
        while self.sync.report().synced_at is None:  # noqa: ASYNC110 - nobody says so
            await trio.sleep(BEAT_SECONDS)
        # As the API does once it has settled.
        gc.collect(1)
        gc.freeze()

    async def _reconcile(self) -> None:
        changed = (await self.sync.reconcile()).changes
        if changed:
            raise RuntimeError(f"there was something to do: {changed[0]}")

    async def _add(self, count: int) -> None:
        begin = FIRST_VMID + len(self.read.projection)
        vmids = range(begin, begin + count)
        for vmid in vmids:
            self.read.projection.add(a_row(vmid, self.zone), observed=observed())
        await self._there(vmids)

    async def _rename(self, count: int) -> None:
        for number in range(count):
            cell = self.read.projection.cell(FIRST_VMID + number)
            cell.set_row(replace(cell.row, label=f"renamed-{number}-{time.monotonic_ns()}"))
            await self._there([cell.vmid])

    async def _there(self, vmids: Collection[int]) -> None:
        while any(self.outlets.lags(vmid) for vmid in vmids):  # noqa: ASYNC110 - nobody says so
            await trio.sleep(BEAT_SECONDS)


async def main() -> None:
    order = json.loads(sys.stdin.buffer.raw.readline())  # type: ignore[attr-defined]
    zone, count = order["zone"], order["containers"]
    if order["core"] is not None:
        os.sched_setaffinity(0, {order["core"]})
    database = Database(order["database"])
    claims = StoredClaims(database, order["kind"])
    await claims.claim(list(published(zone, count)))
    read = Read()
    for vmid in range(FIRST_VMID, FIRST_VMID + count):
        read.projection.add(a_row(vmid, zone), observed=observed())
    book = Book(read, NoNumbers())
    target = system(order["kind"], order["url"], order["token"], zone)
    entries = partial(dns_entries, view=view(zone))
    sync = Sync(order["kind"], target, entries, book, Ledger(claims), beat_seconds=LONG)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(database.aclose)
        stack.push_async_callback(target.aclose)
        publisher = Publisher(read, Outlets(book, [sync]), sync, zone, stack)
        print("{}", flush=True)
        # One order at a time: whoever gives them waits for each answer.
        async for line in trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())):
            print(json.dumps(await publisher.obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    trio.run(main)
