"""The edge made from settings: its targets, and what they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Protocol

from zlh.containers import Fleet
from zlh.drivers.cloudflare import Cloudflare
from zlh.drivers.technitium import Technitium
from zlh.drivers.velocity import LOOK_SECONDS, VelocityBridge
from zlh.edge import Outlets
from zlh.edge.book import Book, Numbers
from zlh.edge.dns import View, dns_entries
from zlh.edge.ledger import Ledger, StoredClaims
from zlh.edge.outlet import Outlet
from zlh.edge.repairs import RepairRecord
from zlh.edge.sync import Sync
from zlh.edge.velocity import velocity_entries
from zlh.model.audit import Act, Ending
from zlh.model.edge import Entry, Publication, System
from zlh.model.games import Games
from zlh.settings import Settings, SettingsError
from zlh.store import Database


class NoNumbers:
    """Where no public ports are given out."""

    async def assign(self, publication: Publication) -> Publication:
        return publication

    def forget(self, vmid: int) -> None:
        pass


def open_edge(
    settings: Settings,
    stack: AsyncExitStack,
    database: Database,
    fleet: Fleet,
    games: Games,
    note: Callable[[Act, Ending], None],
) -> Outlets:
    """With every target that the settings name; what is to be closed goes on `stack`. `note` takes what is over into
    the audit record. Raises SettingsError."""
    repaired = RepairRecord(note)
    numbers: Numbers = NoNumbers()
    book = Book(fleet, numbers)
    outlets: list[Outlet] = []
    for system, entries, beat in _told(settings, games):
        stack.push_async_callback(system.aclose)
        ledger = Ledger(StoredClaims(database, system.kind))
        outlets.append(Sync(system.kind, system, entries, book, ledger, beat_seconds=beat, repaired=repaired))
    return Outlets(book, outlets)


Entries = Callable[[Publication], Sequence[Entry] | None]


def _told(settings: Settings, games: Games) -> Iterator[tuple[System, Entries, float]]:
    """The systems that are told, what of each container, and the seconds between two looks at everything."""
    beat = settings.edge.beat_seconds
    for system, view in _dns(settings, games):
        yield system, partial(dns_entries, view=view), beat
    velocity = settings.velocity
    if velocity.url:
        if not velocity.secret:
            raise SettingsError(["[velocity] secret is not set: the bridge takes nothing without it"])
        bridge = VelocityBridge(velocity.url, velocity.secret)
        yield bridge, partial(velocity_entries, facts=games), min(beat, LOOK_SECONDS)


def _dns(settings: Settings, games: Games) -> Iterator[tuple[System, View]]:
    """The name servers that are told, and who is led where by each."""
    installation = settings.edge.installation
    technitium, cloudflare = settings.technitium, settings.cloudflare
    if technitium.url:
        if not technitium.token:
            raise SettingsError(["[technitium] token is not set: nobody may change its zone"])
        view = _view(settings, technitium, games)
        yield Technitium(technitium.url, technitium.token, view.zone, installation), view
    if cloudflare.token:
        view = _view(settings, cloudflare, games)
        yield Cloudflare(cloudflare.url, cloudflare.token, view.zone, installation), view


class DnsSection(Protocol):
    """What the settings of all name servers have."""

    @property
    def zone(self) -> str: ...

    @property
    def game_addresses(self) -> tuple[str, ...]: ...

    @property
    def minecraft_addresses(self) -> tuple[str, ...]: ...

    @property
    def ide_addresses(self) -> tuple[str, ...]: ...


def _view(settings: Settings, section: DnsSection, games: Games) -> View:
    return View(
        zone=(section.zone or settings.containers.zone).lower(),
        games=section.game_addresses,
        minecraft=section.minecraft_addresses,
        ides=section.ide_addresses,
        ide_zone=settings.ide.zone.lower(),
        velocity_port=settings.velocity.port if settings.velocity.url else None,
        facts=games,
    )
