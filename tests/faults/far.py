"""The far ends of the edge around a world's API: a name server and a Velocity proxy that already hold what is
others', and what must be true of them and of our record of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import trio

from tests.faults.world import World
from zlh.simulators.technitium import Row, Technitium
from zlh.simulators.velocity import Place, SimulatedVelocity, open_listener
from zlh.store.urls import libpq_url

ZONE = "zlh.example"
GAMES = "192.0.2.10"
TOKEN = "token of the zone"
SECRET = "pass the proxy"
LOBBY: dict[str, Place] = {"lobby": ("192.0.2.7", 25565)}
STRANGER: Place = ("192.0.2.8", 25565)
PORT = 25565
HOSTS = "SELECT coalesce(label || substr(hostname, strpos(hostname, '.')), hostname), address FROM containers"
CLAIMS = "SELECT target, kind, name, value FROM edge_entries"

Claims = set[tuple[str, str, str, str]]


@dataclass
class Far:
    """`foreign` is every record that was there before us, with its comments."""

    world: World
    dns: Technitium
    proxy: SimulatedVelocity
    foreign: set[tuple[Row, str]] = field(default_factory=set)

    def settle_strangers(self) -> None:
        """Names beside ours, one that bears the mark of another installation, and a server of somebody else's."""
        self.dns.put("A", f"www.{ZONE}", "192.0.2.1")
        self.dns.put("SRV", f"_minecraft._tcp.old.{ZONE}", f"0 0 25565 old.{ZONE}", comments="by hand")
        self.dns.put("A", f"ct-5000.{ZONE}", "192.0.2.2", comments="zlh/another vmid=5000")
        self.proxy.servers["stranger"] = STRANGER
        self.foreign = self._records()

    async def problems(self) -> list[str]:
        """What is not as the containers that there are want it; empty is good."""
        hosts = await self._ask(HOSTS)
        return [
            f"{what}: {sorted(has - wants)} too much, {sorted(wants - has)} missing"
            for what, has, wants in (
                ("others' records", self._records() & self.foreign, self.foreign),
                ("records", {row for row, _ in self._records() - self.foreign}, _records_of(hosts)),
                ("servers", set(self.proxy.registered.items()), {("stranger", STRANGER), *_servers_of(hosts)}),
                ("claims", await self.claims(), _claims_of(hosts)),
            )
            if has != wants
        ]

    async def agrees(self, within: float = 20.0) -> list[str]:
        """The problems that are left then; returns at once when there are none."""
        problems = ["nobody looked"]
        with trio.move_on_after(within):
            while problems := await self.problems():  # noqa: ASYNC110 - other processes decide
                await trio.sleep(0.03)
        return problems

    async def claims(self) -> Claims:
        return {(target, kind, name, value) for target, kind, name, value in await self._ask(CLAIMS)}

    def _records(self) -> set[tuple[Row, str]]:
        """With their comments."""
        names = {name for _, name, _, _ in self.dns.rows()}
        comments = {name: " ".join(sorted(set(self.dns.comments(name)))) for name in names}
        return {(row, comments[row[1]]) for row in self.dns.rows()}

    async def _ask(self, query: str) -> list[Any]:
        def ask() -> list[Any]:
            with psycopg.connect(libpq_url(self.world.settings["ZLH_DATABASE_URL"])) as connection:
                return connection.execute(query.encode()).fetchall()

        return await trio.to_thread.run_sync(ask)


@asynccontextmanager
async def open_far(world: World) -> AsyncIterator[Far]:
    """Before the world's first API."""
    far = Far(world, Technitium(ZONE, TOKEN), SimulatedVelocity(SECRET, LOBBY))
    far.settle_strangers()
    listener = open_listener()
    world.settings |= {
        "ZLH_TECHNITIUM_URL": far.dns.url,
        "ZLH_TECHNITIUM_TOKEN": TOKEN,
        "ZLH_TECHNITIUM_GAME_ADDRESSES": GAMES,
        "ZLH_VELOCITY_URL": f"http://127.0.0.1:{listener.getsockname()[1]}",
        "ZLH_VELOCITY_SECRET": SECRET,
    }
    async with trio.open_nursery() as nursery:
        nursery.start_soon(far.dns.run)
        nursery.start_soon(far.proxy.run, listener)
        try:
            yield far
        finally:
            nursery.cancel_scope.cancel()


def _records_of(hosts: list[Any]) -> set[Row]:
    rows: set[Row] = set()
    for name, _ in hosts:
        rows |= {("A", name, GAMES, 60), ("SRV", f"_minecraft._tcp.{name}", f"0 0 {PORT} {name}", 60)}
    return rows


def _servers_of(hosts: list[Any]) -> set[tuple[str, Place]]:
    return {(name.partition(".")[0], (address, PORT)) for name, address in hosts}


def _claims_of(hosts: list[Any]) -> Claims:
    records = {("technitium", kind, name, value) for kind, name, value, _ in _records_of(hosts)}
    return records | {("velocity", "server", name, f"{ip}:{port}") for name, (ip, port) in _servers_of(hosts)}
