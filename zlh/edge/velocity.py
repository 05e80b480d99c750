"""What Velocity is told of a container. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from zlh.edge.dns import behind_velocity
from zlh.model.edge import Entry, Publication, endpoint
from zlh.model.games import Games


def velocity_entries(publication: Publication, facts: Games) -> Sequence[Entry] | None:
    """One server while the game takes players, under the first label of its name; None while nobody knows."""
    if not behind_velocity(publication, facts):
        return ()
    if publication.serving is None:
        return None
    port = next(iter(publication.ports or facts.of(publication.software).ports), None)
    if not publication.serving or publication.address is None or port is None:
        return ()
    name = publication.hostname.partition(".")[0].lower()
    return (Entry(publication.vmid, "server", name, endpoint(publication.address, port)),)
