"""What DNS is told of a container. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from zlh.model.containers import ContainerType
from zlh.model.edge import Entry, Publication
from zlh.model.games import Games

TTL_SECONDS = 60

_LABEL = re.compile(r"(?=.{1,63}$)_?[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_LONGEST = 253
"""Of a name without its last dot (RFC 1035, 2.3.4)."""


@dataclass(frozen=True, slots=True)
class View:
    """Who asks a DNS server: those inside and those outside are led to different addresses, and each server answers
    for one zone. `games`, `minecraft` and `ides` are IP addresses; where `games` or `ides` is empty, those are not
    published in this view, and Minecraft without addresses of its own is found as other games are. `ide_zone` is
    empty without host names for IDEs; `velocity_port` is where players reach Velocity, None where there is none."""

    zone: str
    games: tuple[str, ...]
    minecraft: tuple[str, ...]
    ides: tuple[str, ...]
    ide_zone: str
    velocity_port: int | None
    facts: Games


def behind_velocity(publication: Publication, facts: Games) -> bool:
    """Whether players reach it through Velocity, where there is one."""
    return publication.ctype is ContainerType.GAME and facts.of(publication.software).velocity


def player_port(publication: Publication, facts: Games, velocity_port: int | None) -> int | None:
    """What players connect to; None for a game without ports, or one that waits for a public one."""
    if velocity_port is not None and behind_velocity(publication, facts):
        return velocity_port
    ports = publication.public_ports
    if ports is None:
        ports = publication.ports or facts.of(publication.software).ports
    return next(iter(ports), None)


def dns_entries(publication: Publication, view: View) -> list[Entry]:
    """Names that are not inside the view's zone, or are no names, are left out."""
    return list(dict.fromkeys(entry for entry in _entries(publication, view) if _inside(entry.name, view.zone)))


def leads_to(publication: Publication, name: str, view: View) -> frozenset[str]:
    """The addresses that `dns_entries` has for a name of the container, without making all of them."""
    if not _inside(name, view.zone):
        return frozenset()
    return _spelled(_game_addresses(publication, view) if publication.ctype is ContainerType.GAME else view.ides)


@lru_cache(maxsize=64)
def _spelled(addresses: tuple[str, ...]) -> frozenset[str]:
    return frozenset(str(ipaddress.ip_address(address)) for address in addresses)


def ide_name(vmid: int, ide_zone: str, port: int | None = None) -> str:
    """Of a hosted IDE, or of a forwarded port."""
    return f"{'ide' if port is None else f'p{port}'}-{vmid}.{ide_zone.lower()}"


def _entries(publication: Publication, view: View) -> Iterator[Entry]:
    if publication.ctype is ContainerType.GAME:
        yield from _game(publication, view)
    elif view.ide_zone:
        for port in (None, *publication.forwards):
            name = ide_name(publication.vmid, view.ide_zone, port)
            yield from _addresses(publication.vmid, name, view.ides)


def _game(publication: Publication, view: View) -> Iterator[Entry]:
    name = publication.hostname.lower()
    addresses = _game_addresses(publication, view)
    yield from _addresses(publication.vmid, name, addresses)
    port = player_port(publication, view.facts, view.velocity_port)
    if not addresses or port is None or not _inside(name, view.zone):
        return
    facts = view.facts.of(publication.software)
    service = f"_{facts.service}._{facts.proto}.{name}".lower()
    yield Entry(publication.vmid, "SRV", service, f"0 0 {port} {name}", TTL_SECONDS)


def _game_addresses(publication: Publication, view: View) -> tuple[str, ...]:
    through_velocity = view.velocity_port is not None and behind_velocity(publication, view.facts)
    return (through_velocity and view.minecraft) or view.games


def _addresses(vmid: int, name: str, addresses: Sequence[str]) -> Iterable[Entry]:
    for address in map(ipaddress.ip_address, addresses):
        yield Entry(vmid, "A" if address.version == 4 else "AAAA", name, str(address), TTL_SECONDS)


def _inside(name: str, zone: str) -> bool:
    """A zone's own name is not inside it: nobody's container is the zone."""
    if not name.endswith(f".{zone.lower()}") or len(name) > _LONGEST:
        return False
    return all(_LABEL.fullmatch(label) for label in name.split("."))
