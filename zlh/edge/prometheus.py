"""What Prometheus is told to scrape. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from zlh.model.containers import ContainerType, Power
from zlh.model.edge import Publication, Stage, endpoint


@dataclass(frozen=True, slots=True)
class Exporters:
    """The ports of a container that are scraped. Where `agent_path` is empty, agents have no metrics."""

    node_port: int
    agent_port: int
    agent_path: str

    def places(self) -> list[tuple[str, int, str]]:
        """Name, port and path of each."""
        agent = [("agent", self.agent_port, self.agent_path)] if self.agent_path else []
        return [("node", self.node_port, "/metrics"), *agent]


def groups(
    publications: Iterable[Publication], exporters: Exporters, plans: Mapping[int, str | None]
) -> list[dict[str, Any]]:
    """Target groups of Prometheus' HTTP service discovery, for every published container whose host is on. `plans` by
    owner; what is not known is an empty label, which is none."""
    found = []
    for publication in publications:
        if publication.stage is not Stage.PUBLISHED or publication.address is None or publication.power is Power.OFF:
            continue
        for exporter, port, path in exporters.places():
            labels = _labels(publication, plans.get(publication.owner_id))
            labels |= {"exporter": exporter, "__metrics_path__": path}
            found.append({"targets": [endpoint(publication.address, port)], "labels": labels})
    return found


def _labels(publication: Publication, plan: str | None) -> dict[str, str]:
    game = publication.ctype is ContainerType.GAME
    return {
        "vmid": str(publication.vmid),
        "customerId": str(publication.owner_id),
        "ctype": publication.ctype.value,
        "game": publication.software if game else "",
        "variant": publication.variant if game else "",
        "plan": plan or "",
        "node": publication.node,
    }
