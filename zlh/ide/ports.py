"""Forwarded ports, in memory as the store has them: every request to one asks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import sqlalchemy as sa
import trio

from zlh.accounts.following import follow
from zlh.model.errors import AbsentError, InvalidError
from zlh.model.ports import ForwardedPort, Visibility
from zlh.store import forwarded_ports as rows
from zlh.store.database import Database
from zlh.store.notify import FORWARDED_PORTS

Work = Callable[[sa.Connection], None]


def _now() -> datetime:
    return datetime.now(UTC)


class ForwardedPorts:
    """What is changed here holds in this process when the call returns, in others a moment later. `reserved` are
    never forwarded: the agent's port and the IDE's. `exists(vmid)` tells containers that are there from those that
    are gone. Whoever is in `heard` is called with the vmid when its ports change; `loaded` is set once all were
    read. Everything may raise StoreUnavailable."""

    def __init__(
        self,
        database: Database,
        *,
        reserved: frozenset[int],
        exists: Callable[[int], bool],
        now: Callable[[], datetime] = _now,
    ) -> None:
        self.reserved = reserved
        self.heard: list[Callable[[int], None]] = []
        self.loaded = trio.Event()
        self._database = database
        self._exists = exists
        self._now = now
        self._ports: dict[int, dict[int, ForwardedPort]] = {}
        # What is read later is told later: two changes at the same moment leave the table as the store is.
        self._turn = trio.Lock()

    async def load(self) -> None:
        """Reads all of them: at start, and whenever something may have been missed."""
        async with self._turn:
            present: dict[int, list[ForwardedPort]] = {}
            for port in await self._database.run(rows.all_ports):
                present.setdefault(port.vmid, []).append(port)
            for vmid in self._ports.keys() | present.keys():
                self._put(vmid, present.get(vmid, []))
        self.loaded.set()

    async def follow(self) -> None:
        """Hears of what was changed elsewhere; runs until cancelled."""

        async def look(vmid: str) -> None:
            await self._changing(int(vmid), lambda connection: None)

        await follow(self._database, FORWARDED_PORTS, self.load, look)

    def get(self, vmid: int, port: int) -> ForwardedPort | None:
        """From memory."""
        found = self._ports.get(vmid)
        return found.get(port) if found else None

    def of(self, vmid: int) -> list[ForwardedPort]:
        """From memory, by port."""
        return [port for _, port in sorted(self._ports.get(vmid, {}).items())]

    async def open(self, vmid: int, port: int, visibility: Visibility, label: str) -> ForwardedPort:
        """Raises InvalidError "reserved_port", AbsentError, ConflictError "already_forwarded" and
        "too_many_ports"."""
        if port in self.reserved:
            problem = {"field": "port", "problem": "this port is the agent's or the IDE's"}
            raise InvalidError(f"port {port} cannot be forwarded", code="reserved_port", details=[problem])
        now = self._now()
        await self._changing(vmid, lambda connection: rows.add(connection, vmid, port, visibility, label, now))
        if not self._exists(vmid):
            # It went while this was written; nobody else says so any more.
            self.forget(vmid)
        return self._known(vmid, port)

    async def change(self, vmid: int, port: int, visibility: Visibility | None, label: str | None) -> ForwardedPort:
        """What is None stays. Raises AbsentError; so does `close`."""
        await self._changing(vmid, lambda connection: rows.change(connection, vmid, port, visibility, label))
        return self._known(vmid, port)

    async def close(self, vmid: int, port: int) -> None:
        await self._changing(vmid, lambda connection: rows.remove(connection, vmid, port))

    def forget(self, vmid: int) -> None:
        """The container is gone, and its rows with it."""
        self._put(vmid, [])

    async def _changing(self, vmid: int, work: Work) -> None:
        def write(connection: sa.Connection) -> list[ForwardedPort]:
            work(connection)
            return rows.of_container(connection, vmid)

        async with self._turn:
            self._put(vmid, await self._database.run(write))

    def _put(self, vmid: int, ports: list[ForwardedPort]) -> None:
        self._ports.pop(vmid, None)
        if ports:
            self._ports[vmid] = {port.port: port for port in ports}
        for heard in self.heard:
            heard(vmid)

    def _known(self, vmid: int, port: int) -> ForwardedPort:
        found = self.get(vmid, port)
        if found is None:
            raise AbsentError("that port is not forwarded")
        return found
