"""What exists without a counterpart. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from zlh.containers.cell import Cell
from zlh.containers.observe import own
from zlh.containers.options import Options
from zlh.containers.steps.base import TAG
from zlh.drivers.proxmox import Cluster, Guest
from zlh.model.observed import Presence


@dataclass(frozen=True, slots=True)
class Orphan:
    """`where` is "proxmox" (a container of ours without a row) or "database" (a row without a container).

    `sweep` says in words what a sweep does about it, or is empty where a person has to decide.
    """

    vmid: int
    where: str
    name: str
    node: str
    reason: str
    sweep: str

    def as_dict(self) -> dict[str, object]:
        return {
            "vmid": self.vmid,
            "where": self.where,
            "name": self.name,
            "node": self.node,
            "reason": self.reason,
            "sweep": self.sweep or None,
        }


def find_orphans(cluster: Cluster, cells: Iterable[Cell], options: Options) -> list[Orphan]:
    """Containers in our ranges that Proxmox has and we do not know, and the other way round. Nothing without our tag
    is ever swept; nothing that an operation is working on is an orphan."""
    known = {cell.vmid: cell for cell in cells}
    guests = {guest.vmid: guest for guest in cluster.guests}
    found = [_guest(guest) for guest in cluster.guests if _ours(guest, options) and guest.vmid not in known]
    return sorted(
        found + [_row(cell) for cell in known.values() if _missing(cell, guests)], key=lambda orphan: orphan.vmid
    )


def _ours(guest: Guest, options: Options) -> bool:
    in_range = any(guest.vmid in vmids for vmids in options.vmids.values())
    return in_range and guest.kind == "lxc" and not guest.template


def _guest(guest: Guest) -> Orphan:
    tagged = TAG in guest.tags
    return Orphan(
        vmid=guest.vmid,
        where="proxmox",
        name=guest.name,
        node=guest.node,
        reason="it is in our vmid range and has no row" + ("" if tagged else "; it does not bear our tag"),
        sweep="stop and destroy it" if tagged else "",
    )


def _missing(cell: Cell, guests: Mapping[int, Guest]) -> bool:
    """The watcher saw it missing more than once, and it still is."""
    confirmed = cell.observed.host.presence is Presence.ABSENT and own(guests, cell.row) is None
    return confirmed and cell.operation is None and cell.row.provisioned


def _row(cell: Cell) -> Orphan:
    return Orphan(
        vmid=cell.vmid,
        where="database",
        name=cell.row.hostname,
        node=cell.row.node,
        reason="its container does not exist in Proxmox",
        sweep="tear down what is left of it",
    )
