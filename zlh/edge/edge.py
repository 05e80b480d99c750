"""The edge's face to the rest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import trio

import actors
from actors import ChildSpec
from zlh.drivers.errors import DriverError
from zlh.edge.addresses import Addresses
from zlh.edge.book import Book
from zlh.edge.difference import Difference
from zlh.edge.outlet import Outlet
from zlh.edge.report import Report
from zlh.model.edge import Entry, Lag
from zlh.model.errors import AbsentError
from zlh.store import StoreUnavailable

SWEEP_SECONDS = 30.0
"""So long somebody who sweeps waits for a target."""


class Outlets:
    """All targets; an `Edge` for operations."""

    def __init__(self, book: Book, outlets: Sequence[Outlet]) -> None:
        self._book = book
        self._addresses: Addresses | None = None
        self._outlets = {outlet.name: outlet for outlet in outlets}

    def tell_addresses(self, addresses: Addresses) -> None:
        """`addresses` hears of all progress, and runs with the targets. To be called before the tree starts."""
        self._addresses = addresses
        self.on_progress(addresses.touch)

    def spec(self) -> ChildSpec:
        """The edge's part of the tree: a target that fails is restarted alone."""
        children = [actors.task(name, outlet.run) for name, outlet in self._outlets.items()]
        if self._addresses is not None:
            children.append(actors.task("addresses", self._addresses.run))
        return actors.supervisor("edge", [actors.task("book", self._book.run), *children])

    def lags(self, vmid: int) -> Collection[Lag]:
        if not self._outlets:
            return ()
        if not self._book.up_to_date(vmid):
            return (Lag("edge", "targets are being told", soon=True),)
        lags = [lag for outlet in self._outlets.values() if (lag := outlet.lag(vmid)) is not None]
        problem = self._book.problem(vmid)
        return lags if problem is None else [*lags, Lag("edge", problem, soon=False)]

    def on_progress(self, nudge: Callable[[int], None]) -> None:
        for outlet in self._outlets.values():
            outlet.progress.append(nudge)

    def reports(self) -> list[Report]:
        return [outlet.report() for outlet in self._outlets.values()]

    def outlet(self, name: str) -> Outlet:
        """Raises AbsentError."""
        outlet = self._outlets.get(name)
        if outlet is None:
            raise AbsentError(f"there is no target {name}")
        return outlet

    @property
    def names(self) -> list[str]:
        return list(self._outlets)

    async def preview(self, name: str) -> Difference:
        """Raises AbsentError, DriverError."""
        return await self.outlet(name).preview()

    async def reconcile(self, name: str) -> Difference:
        """What was changed. Raises AbsentError, DriverError, StoreUnavailable."""
        return await self.outlet(name).reconcile()

    def orphans(self) -> list[tuple[str, Entry]]:
        """With the names of their targets, as they were found last."""
        return [(report.name, entry) for report in self.reports() for entry in report.orphans]

    async def sweep(self) -> list[tuple[str, Entry, str]]:
        """Removes the orphans that were found last, at all targets at once, and says of each what became of it."""
        reports = [report for report in self.reports() if report.orphans]
        outcomes: dict[str, str] = {}

        async def one(report: Report) -> None:
            outcomes[report.name] = await self._swept(report)

        async with trio.open_nursery() as nursery:
            for report in reports:
                nursery.start_soon(one, report)
        return [(report.name, entry, outcomes[report.name]) for report in reports for entry in report.orphans]

    async def _swept(self, report: Report) -> str:
        try:
            with trio.fail_after(SWEEP_SECONDS):
                await self._outlets[report.name].sweep(report.orphans)
        except (DriverError, StoreUnavailable) as error:
            return f"not swept: {error}"
        except trio.TooSlowError:
            return f"not known to be swept within {SWEEP_SECONDS:g} s"
        return "removed"
