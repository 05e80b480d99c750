"""What the gateway counts, for /metrics and for operators."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Totals since the start; the gateway alone writes them. `refusals` counts by the refusal's code."""

    accepted: int = 0
    requests: int = 0
    disconnects: int = 0  # clients that went away before their answer was complete
    shed: int = 0
    crashes: int = 0  # connections that ended with an error of ours
    bytes_in: int = 0
    bytes_out: int = 0
    lines_dropped: int = 0
    refusals: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Stats:
    """One look at the gateway. `half_open` clients never sent a whole head, `idle` ones are kept alive. `transfers`
    are the uploads and downloads that are under way, `ide_visits` the requests and websockets at IDEs and ports."""

    connections: int
    half_open: int
    idle: int
    websockets: int
    upstream_connections: int
    transfers: int
    ide_visits: int
    accepted: int
    requests: int
    disconnects: int
    shed: int
    crashes: int
    bytes_in: int
    bytes_out: int
    lines_dropped: int
    refusals: dict[str, int]
