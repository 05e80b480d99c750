"""The edge made from settings: its targets, and what they are told."""

from __future__ import annotations

from contextlib import AsyncExitStack

from zlh.containers import Fleet
from zlh.edge import Outlets
from zlh.edge.book import Book, Numbers
from zlh.edge.outlet import Outlet
from zlh.model.edge import Publication
from zlh.model.games import Games
from zlh.settings import Settings
from zlh.store import Database


class NoNumbers:
    """Where no public ports are given out."""

    async def assign(self, publication: Publication) -> Publication:
        return publication

    def forget(self, vmid: int) -> None:
        pass


def open_edge(settings: Settings, stack: AsyncExitStack, database: Database, fleet: Fleet, games: Games) -> Outlets:
    """With every target that the settings name; what is to be closed goes on `stack`. Raises SettingsError."""
    numbers: Numbers = NoNumbers()
    book = Book(fleet, numbers)
    outlets: list[Outlet] = []
    return Outlets(book, outlets)
