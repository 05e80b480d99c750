"""`zlh demo` without --once: orders or finds the servers, says what to try, and stays until it is told to end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio
from rich.status import Status

from zlh.demo.people import people_of
from zlh.demo.place import write_json
from zlh.demo.plant import Plant
from zlh.demo.portal import Portal, RefusedError
from zlh.demo.screen import Screen
from zlh.demo.summary import summarize
from zlh.demo.wishes import DEV, GAME, TITLES, fulfil, present

WISHES = (GAME, DEV)
BEAT_SECONDS = 2.0
SETTLE_SECONDS = 20.0


async def stay(plant: Plant, screen: Screen, ready_file: Path | None) -> None:
    """Returns only by cancellation. Raises RefusedError, alone or in a group."""
    async with Portal(plant.url, "customer", plant.place.secrets.customer_password) as customer:
        vmids = await _servers(customer, screen)
        shown = [await _settled(customer, vmid) for vmid in vmids.values()]
        screen.say()
        summarize(screen, plant, shown)
        with _announced(plant, vmids, ready_file):
            await _linger(customer, screen)


@contextmanager
def _announced(plant: Plant, vmids: dict[str, int], ready_file: Path | None) -> Iterator[None]:
    """Keeps the ready file true for as long as the block lasts."""
    if ready_file is None:
        yield
        return

    def write() -> None:
        write_json(ready_file, readiness(plant, vmids))

    write()
    plant.restarted = write
    try:
        yield
    finally:
        ready_file.unlink(missing_ok=True)


def readiness(plant: Plant, vmids: dict[str, int]) -> dict[str, Any]:
    """What scripts need to use a running demo."""
    return {
        "url": plant.url,
        "users": {
            person.key: {"identifier": person.username, "password": person.password}
            for person in people_of(plant.place, fleet=plant.has_fleet)
        },
        "proxmoxUrl": plant.place.proxmox_url,
        "proxmoxControl": plant.place.proxmox_control,
        "agentsControl": plant.agents_control,
        "dnsUrl": plant.outside.dns_url,
        "velocityUrl": plant.outside.velocity_url,
        "stripeUrl": plant.payments.url,
        "players": plant.outside.players,
        "routesHost": plant.place.routes_host,
        "mailFolder": str(plant.place.mail),
        "vmids": vmids,
        "zone": plant.zone,
        "pids": plant.pids,
    }


async def _servers(customer: Portal, screen: Screen) -> dict[str, int]:
    """Finds what earlier runs ordered, and orders what is missing."""
    found = await present(customer)
    missing = [wish for wish in WISHES if wish["ctype"] not in found]
    screen.say()
    with screen.checklist() as checklist:
        for ctype, vmid in found.items():
            with checklist.row(f"found: {TITLES[ctype]}") as row:
                row.note = f"vmid {vmid}"
    if missing:
        found |= await fulfil(customer, screen, missing)
    return {wish["ctype"]: found[wish["ctype"]] for wish in WISHES}


async def _settled(customer: Portal, vmid: int) -> dict[str, Any]:
    """The server once its state was observed and nothing is under way, or as it is after a while."""
    server = await customer.server(vmid)
    with trio.move_on_after(SETTLE_SECONDS):
        while server["operation"] or server["status"] in ("unknown", "offline", "starting", "installing"):
            await trio.sleep(0.1)
            server = await customer.server(vmid)
    return server


async def _linger(customer: Portal, screen: Screen) -> None:
    """One line that tells how things are; nothing at all where lines cannot be drawn over."""
    if not screen.live:
        await trio.sleep_forever()
    begun = time.monotonic()
    with Status("running", console=screen.console, spinner_style="green") as status:
        while True:
            status.update(f"[dim]{await status_line(customer)} · up {_clock(time.monotonic() - begun)}")
            await trio.sleep(BEAT_SECONDS)


async def status_line(customer: Portal) -> str:
    """How many servers are in which state, in words; an API that is away is a state too."""
    try:
        servers = (await customer.get("/api/servers"))["servers"]
    except RefusedError:
        return "the API does not answer"
    counts = Counter(server["status"] for server in servers)
    return "servers: " + (", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "none")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
