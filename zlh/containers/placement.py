"""On which node a new container goes, and from which template it is cloned. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zlh.drivers.proxmox import Cluster, Guest, Node

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Placement:
    """`target` is the node to clone to; `template_node` is where the template lies."""

    target: str
    template: int
    template_node: str


def place(
    cluster: Cluster,
    *,
    allowed: Sequence[str],
    templates: Sequence[int],
    memory_mib: int | None,
    pending_mib: Callable[[str], int],
) -> Placement | str:
    """The online node with the most free memory among `allowed` (all when empty), or in words why there is none.

    `pending_mib(node)` is memory already promised there and not used yet; `memory_mib` is None where the promise was
    made before and is one of these. A template on the node itself is preferred,
    because cloning to another node needs shared storage.
    """
    found = [guest for guest in cluster.guests if guest.template and guest.vmid in templates]
    if not found:
        return f"no template of {', '.join(map(str, templates))} exists in Proxmox"
    nodes = [node for node in cluster.nodes if node.online and (not allowed or node.name in allowed)]
    if not nodes:
        return "no allowed node is online"

    def free(node: Node) -> int:
        return (node.memory_total - node.memory_used) // MIB - pending_mib(node.name)

    fitting = [node for node in nodes if memory_mib is None or free(node) >= memory_mib]
    if not fitting:
        return f"no allowed node has {memory_mib} MiB of memory free"
    best = max(fitting, key=lambda node: (_has_template(node, found), free(node), node.name))
    template = next((guest for guest in found if guest.node == best.name), found[0])
    return Placement(target=best.name, template=template.vmid, template_node=template.node)


def _has_template(node: Node, templates: Sequence[Guest]) -> bool:
    return any(guest.node == node.name for guest in templates)
