"""The dynamic configuration that Traefik's HTTP provider reads. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from zlh.edge.dns import behind_velocity, ide_name
from zlh.model.containers import ContainerType
from zlh.model.edge import Entry, Publication, Stage, endpoint
from zlh.model.games import Games

GATEWAY = "zlh-gateway"


@dataclass(frozen=True, slots=True)
class Routing:
    """`ide_zone` is empty without host names for IDEs; `gateway_url` is how Traefik reaches our gateway, which serves
    those itself. Routers of IDEs use TLS where there is a `cert_resolver`. `velocity`: games behind it have no routes
    here."""

    facts: Games
    ide_zone: str
    gateway_url: str
    http_entry_points: tuple[str, ...]
    cert_resolver: str = ""
    velocity: bool = False


def routes(publication: Publication, routing: Routing) -> list[Entry]:
    """What leads to a published container: "tcp" or "udp" entries named by entry point, with the address behind it,
    and "http" entries named by host."""
    if publication.stage is not Stage.PUBLISHED:
        return []
    if publication.ctype is ContainerType.DEV:
        return _ide_routes(publication, routing)
    if publication.address is None or (routing.velocity and behind_velocity(publication, routing.facts)):
        return []
    proto = routing.facts.of(publication.software).proto
    pairs = zip(publication.public_ports or (), publication.ports, strict=False)
    return [
        Entry(publication.vmid, proto, f"{proto}-{public}", endpoint(publication.address, port))
        for public, port in pairs
    ]


def _ide_routes(publication: Publication, routing: Routing) -> list[Entry]:
    if not routing.ide_zone:
        return []
    vmid = publication.vmid
    names = [
        ide_name(vmid, routing.ide_zone),
        *(ide_name(vmid, routing.ide_zone, port) for port in publication.forwards),
    ]
    return [Entry(vmid, "http", name, routing.gateway_url) for name in names]


def document(entries: Iterable[Entry], routing: Routing) -> dict[str, Any]:
    """Sections without a router are left out: Traefik refuses what is empty, but for the whole."""
    sections: dict[str, dict[str, dict[str, Any]]] = {}
    for entry in entries:
        section = sections.setdefault(entry.kind, {"routers": {}, "services": {}})
        if entry.kind == "http":
            name = entry.name.partition(".")[0]
            section["routers"][name] = _http_router(entry, routing)
            section["services"][GATEWAY] = {"loadBalancer": {"servers": [{"url": routing.gateway_url}]}}
        else:
            name = f"game-{entry.vmid}-{entry.name}"
            router: dict[str, Any] = {"entryPoints": [entry.name], "service": name}
            if entry.kind == "tcp":
                router["rule"] = "HostSNI(`*`)"
            section["routers"][name] = router
            section["services"][name] = {"loadBalancer": {"servers": [{"address": entry.value}]}}
    return sections


def _http_router(entry: Entry, routing: Routing) -> dict[str, Any]:
    router: dict[str, Any] = {
        "entryPoints": list(routing.http_entry_points),
        "rule": f"Host(`{entry.name}`)",
        "service": GATEWAY,
    }
    if routing.cert_resolver:
        router["tls"] = {"certResolver": routing.cert_resolver}
    return router
