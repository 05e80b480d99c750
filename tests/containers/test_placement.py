"""Where a new container goes, and what exists without a counterpart."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.containers.samples import NOW, a_row, an_operation
from zlh.containers.cell import Cell
from zlh.containers.options import Options
from zlh.containers.orphans import find_orphans
from zlh.containers.placement import MIB, Placement, place
from zlh.drivers.proxmox import Cluster, Guest, Node
from zlh.model.observed import HostObservation, Observed, Presence
from zlh.model.operations import OperationKind

GIB = 1024 * MIB


def node(name: str, free_gib: int, online: bool = True) -> Node:
    return Node(name, online, 64 * GIB, (64 - free_gib) * GIB, 16, 0.1)


def template(vmid: int = 9000, on: str = "pve1") -> Guest:
    return Guest(vmid, on, "template", "lxc", False, True, "", (), GIB, 0)


def guest(vmid: int, tags: tuple[str, ...] = ("zlh",), kind: str = "lxc") -> Guest:
    return Guest(vmid, "pve1", f"guest-{vmid}", kind, True, False, "", tags, GIB, 60)


nodes = st.lists(
    st.builds(node, st.sampled_from(["pve1", "pve2", "pve3"]), st.integers(0, 64), st.booleans()),
    unique_by=lambda one: one.name,
)


@given(nodes, st.lists(st.sampled_from(["pve1", "pve2"]), unique=True), st.integers(1, 65536), st.integers(0, 4096))
def test_it_goes_to_an_allowed_online_node_with_room(
    found: list[Node], allowed: list[str], memory: int, pending: int
) -> None:
    placed = place(
        Cluster(tuple(found), (template(),)),
        allowed=allowed,
        templates=(9000,),
        memory_mib=memory,
        pending_mib=lambda _node: pending,
    )
    room = {
        one.name: (one.memory_total - one.memory_used) // MIB - pending
        for one in found
        if one.online and (not allowed or one.name in allowed)
    }
    fitting = {name for name, free in room.items() if free >= memory}
    if isinstance(placed, str):
        assert not fitting
    else:
        assert placed.target in fitting
        # The template's own node, or else the one with the most room.
        assert placed.target == "pve1" or ("pve1" not in fitting and room[placed.target] == max(room.values()))


def test_a_node_that_was_chosen_is_not_asked_for_memory_again() -> None:
    full = Cluster((node("pve1", 0),), (template(),))
    words = place(full, allowed=(), templates=(9000,), memory_mib=1, pending_mib=lambda _node: 0)
    assert words == "no allowed node has 1 MiB of memory free"
    chosen = place(full, allowed=("pve1",), templates=(9000,), memory_mib=None, pending_mib=lambda _node: 4096)
    assert chosen == Placement("pve1", 9000, "pve1")


def test_it_says_what_is_missing() -> None:
    nowhere = Cluster((node("pve1", 9, online=False),), (template(),))
    wish = {"allowed": (), "memory_mib": 1, "pending_mib": lambda _node: 0}
    assert place(nowhere, templates=(9000,), **wish) == "no allowed node is online"
    assert "9001" in str(place(nowhere, templates=(9001,), **wish))


def cell(vmid: int, presence: Presence, **changes: object) -> Cell:
    observed = Observed(host=HostObservation(presence=presence, at=NOW))
    return Cell(a_row(vmid, **changes), lambda _cell: None, observed=observed)


def test_orphans_are_ours_alone() -> None:
    cluster = Cluster(
        (node("pve1", 9),),
        (guest(5001), guest(5002), guest(5003, tags=()), guest(5004, kind="qemu"), guest(4999), template()),
    )
    busy = cell(5012, Presence.ABSENT)
    busy.set_operation(an_operation(OperationKind.TEARDOWN))
    cells = [
        cell(5001, Presence.PRESENT),
        cell(5010, Presence.ABSENT),
        cell(5011, Presence.UNKNOWN),
        busy,
        cell(5013, Presence.ABSENT, provisioned=False),
    ]
    found = {(one.vmid, one.where): bool(one.sweep) for one in find_orphans(cluster, cells, Options())}
    assert found == {(5002, "proxmox"): True, (5003, "proxmox"): False, (5010, "database"): True}
    hidden = replace(cluster, guests=())
    assert [one.vmid for one in find_orphans(hidden, cells, Options())] == [5010]
