"""What a system that is told entry by entry has to offer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from zlh.edge.difference import Change, Found
from zlh.model.edge import Entry, Publication


class Target(Protocol):
    """`name` is unique among targets and stays: what was published is recorded under it. `batch` changes go into one
    call at most, and `per_second` are made in a second. What it was told can be believed only when it was seen."""

    name: str
    kind: str
    batch: int
    per_second: float

    def entries(self, publication: Publication) -> Sequence[Entry] | None:
        """What is to be there for a container that is published; None where it is to stay as it is. Pure."""

    async def look(self, names: Collection[str] | None) -> Sequence[Found]:
        """Every entry of the kinds that we make (and for DNS every CNAME) at those names, or at all names; others'
        too. `vmid` is 0 where no mark tells it. Raises DriverError."""

    async def apply(self, changes: Sequence[Change]) -> Sequence[str | None]:
        """Makes up to `batch` changes; for each None or why it could not be made. Never touches what is not ours,
        also where that has come since the last look. Raises DriverError where the target as a whole fails: nobody
        knows then which were made."""

    async def aclose(self) -> None: ...
