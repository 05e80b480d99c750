"""Where containers are published: what the rest asks of a target, whether it is told or comes to ask."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from actors import Context
from zlh.edge.difference import Difference
from zlh.edge.report import Report
from zlh.model.edge import Entry, Lag


class Outlet(Protocol):
    """A supervised task."""

    @property
    def name(self) -> str: ...

    @property
    def progress(self) -> list[Callable[[int], None]]:
        """Called with the vmid whenever a container's lag may be another."""

    async def run(self, ctx: Context) -> None: ...

    def touch(self, vmid: int) -> None:
        """The container's publication became another."""

    def lag(self, vmid: int) -> Lag | None: ...

    def report(self) -> Report: ...

    async def preview(self) -> Difference:
        """What a reconciliation would change. Raises DriverError."""

    async def reconcile(self) -> Difference:
        """Compares everything now and returns what was changed. Raises DriverError, StoreUnavailable."""

    async def sweep(self, orphans: Collection[Entry]) -> None:
        """Removes what still is an orphan of those. Raises DriverError, StoreUnavailable."""
