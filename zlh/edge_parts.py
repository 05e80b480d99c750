"""The edge made from settings: its targets, and what they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from urllib.parse import urlsplit

from zlh.containers import Fleet
from zlh.drivers.cloudflare import Cloudflare
from zlh.drivers.resolver import NameServer
from zlh.drivers.rfc2136 import Rfc2136, Server, tsig_key
from zlh.drivers.technitium import Technitium
from zlh.drivers.velocity import LOOK_SECONDS, VelocityBridge
from zlh.edge import Outlets
from zlh.edge.addresses import Addresses, typed
from zlh.edge.asked import Asked
from zlh.edge.book import Book, Forwards
from zlh.edge.dns import View, dns_entries
from zlh.edge.documents import Documents
from zlh.edge.ledger import Ledger, StoredClaims
from zlh.edge.outlet import Outlet
from zlh.edge.ports import PublicPorts
from zlh.edge.prometheus import Exporters
from zlh.edge.repairs import RepairRecord
from zlh.edge.sync import Sync
from zlh.edge.traefik import Routing, document, routes
from zlh.edge.velocity import velocity_entries
from zlh.model.audit import Act, Ending
from zlh.model.edge import Entry, Publication, System
from zlh.model.games import Games
from zlh.settings import Settings, SettingsError
from zlh.settings.tree import Cloudflare as CloudflareSettings
from zlh.settings.tree import Rfc2136 as Rfc2136Settings
from zlh.settings.tree import Technitium as TechnitiumSettings
from zlh.store import Database

DNS_PORT = 53
DnsSection = TechnitiumSettings | CloudflareSettings | Rfc2136Settings

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


def open_edge(
    settings: Settings,
    stack: AsyncExitStack,
    database: Database,
    fleet: Fleet,
    games: Games,
    forwards: Forwards,
    note: Callable[[Act, Ending], None],
) -> tuple[Outlets, Documents]:
    """With every target that the settings name, and what is given to those that ask; what is to be closed goes on
    `stack`. `note` takes what is over into the audit record. Raises SettingsError."""
    repaired = RepairRecord(note)
    book = Book(fleet, _public_ports(settings, database, games), forwards)
    outlets: list[Outlet] = []
    for system, entries, beat in _told(settings, games):
        stack.push_async_callback(system.aclose)
        ledger = Ledger(StoredClaims(database, system.kind))
        outlets.append(Sync(system.kind, system, entries, book, ledger, beat_seconds=beat, repaired=repaired))
    traefik = _traefik(settings, book, games) if settings.traefik.token else None
    if traefik is not None:
        outlets.append(traefik)
    documents = Documents(
        book,
        traefik=traefik,
        traefik_token=settings.traefik.token,
        exporters=_exporters(settings),
        prometheus_token=settings.prometheus.token,
    )
    edge = Outlets(book, outlets)
    views = [_view(settings, section, games) for section in _name_servers(settings)]
    if views:
        place = urlsplit(f"//{settings.edge.resolver}")
        resolver = NameServer(place.hostname, place.port or DNS_PORT) if place.hostname else None
        shown = partial(typed, views=views)
        edge.tell_addresses(Addresses(book, edge.lags, shown, fleet.set_reachability, resolver))
    return edge, documents


def _public_ports(settings: Settings, database: Database, games: Games) -> PublicPorts:
    """None are given out where nothing routes them."""
    chosen = settings.traefik
    pools = {"tcp": _ports(chosen.tcp_ports), "udp": _ports(chosen.udp_ports)} if chosen.token else {}
    return PublicPorts(database, games, pools, velocity=bool(settings.velocity.url))


def _ports(pool: str) -> range:
    """Of "30000-30999"; none of an empty one."""
    first, _, last = pool.partition("-")
    return range(int(first), int(last) + 1) if pool else range(0)


def _traefik(settings: Settings, book: Book, games: Games) -> Asked:
    chosen, server = settings.traefik, settings.server
    if not chosen.gateway_url and (server.host in EVERYWHERE or not server.port):
        raise SettingsError(["[traefik] gateway_url is not set: Traefik would not know where this API is"])
    host = f"[{server.host}]" if ":" in server.host else server.host
    routing = Routing(
        facts=games,
        ide_zone=settings.ide.zone.lower(),
        gateway_url=chosen.gateway_url or f"http://{host}:{server.port}",
        http_entry_points=chosen.http_entry_points,
        cert_resolver=chosen.cert_resolver,
        velocity=bool(settings.velocity.url),
    )
    return Asked(
        "traefik",
        book,
        partial(routes, routing=routing),
        partial(document, routing=routing),
        poll_seconds=chosen.poll_seconds,
        settle_seconds=chosen.settle_seconds,
    )


def _exporters(settings: Settings) -> Exporters:
    chosen = settings.prometheus
    return Exporters(chosen.node_exporter_port, settings.containers.agent_port, chosen.agent_path)


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


def _name_servers(settings: Settings) -> list[DnsSection]:
    """Those that are told."""
    technitium, cloudflare, rfc2136 = settings.technitium, settings.cloudflare, settings.rfc2136
    told = ((technitium, technitium.url), (cloudflare, cloudflare.token), (rfc2136, rfc2136.server))
    return [section for section, there in told if there]


def _dns(settings: Settings, games: Games) -> Iterator[tuple[System, View]]:
    """The name servers that are told, and who is led where by each."""
    for section in _name_servers(settings):
        view = _view(settings, section, games)
        yield _name_server(section, view.zone, settings.edge.installation), view


def _name_server(section: DnsSection, zone: str, installation: str) -> System:
    match section:
        case TechnitiumSettings():
            if not section.token:
                raise SettingsError(["[technitium] token is not set: nobody may change its zone"])
            return Technitium(section.url, section.token, zone, installation)
        case CloudflareSettings():
            return Cloudflare(section.url, section.token, zone, installation)
        case Rfc2136Settings():
            return Rfc2136(_update_server(section), zone, installation)


def _update_server(chosen: Rfc2136Settings) -> Server:
    """Raises SettingsError for a key that is none."""
    place = urlsplit(f"//{chosen.server}")
    try:
        key = tsig_key(chosen.key_name, chosen.key_secret, chosen.key_algorithm)
    except ValueError as error:
        raise SettingsError([f"[rfc2136] key_name, key_secret: {error}"]) from None
    return Server(place.hostname or "", place.port or DNS_PORT, key)


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
