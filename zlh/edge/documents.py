"""What is given to targets that ask."""

from __future__ import annotations

from dataclasses import dataclass, field

from zlh.edge.asked import Asked
from zlh.edge.book import Book
from zlh.edge.prometheus import Exporters


@dataclass(frozen=True, slots=True)
class Documents:
    """An empty token means that there is no such document. `traefik` is the outlet that hears of every fetch."""

    book: Book
    traefik: Asked | None = None
    traefik_token: str = field(default="", repr=False)
    exporters: Exporters | None = None
    prometheus_token: str = field(default="", repr=False)
