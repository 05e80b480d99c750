"""Whether what this process needs answers, in words that strangers may read: what a driver says may name addresses,
users and files, and goes to the log."""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from zlh.store import Database, StoreUnavailable

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 2.0


class Readiness:
    """`proxmox` says what is wrong with Proxmox, None where nothing is; whoever watches it has logged that."""

    def __init__(self, database: Database, proxmox: Callable[[], str | None]) -> None:
        self._database = database
        self._proxmox = proxmox
        self._logged: str | None = None

    async def __call__(self) -> dict[str, str | None]:
        """Each part, with what is wrong with it. Answers within four seconds."""
        return {"database": await self._database_problem(), "proxmox": self._proxmox()}

    async def _database_problem(self) -> str | None:
        with trio.move_on_after(PATIENCE_SECONDS):
            try:
                await self._database.ready()
            except StoreUnavailable as error:
                self._log(str(error.__cause__ or error).partition("\n")[0])
                return "does not answer"
            self._log(None)
            return None
        self._log(f"no answer within {PATIENCE_SECONDS:g} s")
        return "does not answer"

    def _log(self, problem: str | None) -> None:
        """Once for each problem, however often anybody asks."""
        if problem is not None and problem != self._logged:
            log.warning("the database does not answer: %s", problem)
        elif problem is None and self._logged is not None:
            log.info("the database answers again")
        self._logged = problem
