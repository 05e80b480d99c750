"""Public ports of games that share the routing edge."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from zlh.model.containers import ContainerType
from zlh.model.edge import Publication
from zlh.model.errors import AbsentError
from zlh.model.games import Games
from zlh.store import Database, public_ports
from zlh.store.public_ports import Given

log = logging.getLogger("zlh.edge")


@dataclass(frozen=True, slots=True)
class Need:
    proto: str
    count: int


class PublicPorts:
    """`pools` are the ports by protocol that the edge has entry points for; games of a protocol without a pool have
    no public ports. Where there is a `velocity`, games behind it need none. A container keeps what it was given for
    as long as its row is there, whoever runs this."""

    def __init__(self, database: Database, facts: Games, pools: Mapping[str, range], *, velocity: bool) -> None:
        self._database = database
        self._facts = facts
        self._pools = {proto: pool for proto, pool in pools.items() if pool}
        self._velocity = velocity
        self._given: dict[int, Given] | None = None
        self._without: dict[int, str] = {}
        self._some_freed = False

    def problem(self, vmid: int) -> str | None:
        """Why the container has no public ports though it needs them."""
        return self._without.get(vmid)

    def need(self, publication: Publication) -> Need | None:
        facts = self._facts.of(publication.software)
        if publication.ctype is not ContainerType.GAME or not publication.ports or facts.proto not in self._pools:
            return None
        if self._velocity and facts.velocity:
            return None
        return Need(facts.proto, len(publication.ports))

    async def assign(self, publication: Publication) -> Publication:
        """With its public ports, with an empty tuple where none are free. Raises StoreUnavailable."""
        if self._given is None:
            self._given = await self._database.run(public_ports.everybodys)
        need = self.need(publication)
        if need is None:
            await self._release(publication.vmid)
            return publication
        return replace(publication, public_ports=await self._take(publication.vmid, need))

    def forget(self, vmid: int) -> None:
        """The container's row is gone, and what it had is free."""
        self._without.pop(vmid, None)
        self._keep(vmid, None)

    def hopeful(self) -> Iterable[int]:
        """Those that went without, where something was freed since the last call."""
        freed, self._some_freed = self._some_freed, False
        return list(self._without) if freed else ()

    async def _take(self, vmid: int, need: Need) -> tuple[int, ...]:
        given, pool = self._known(vmid), self._pools[need.proto]
        if given is not None and public_ports.fits(given, need.proto, need.count, pool):
            return given[1]
        try:
            ports = await self._database.run(public_ports.assign, vmid, need.proto, need.count, pool)
        except AbsentError:
            return ()
        if ports is None:
            # What it had did not fit any more, and was given up for others.
            self._keep(vmid, None)
            if vmid not in self._without:
                log.error("container %d has no public ports: %s", vmid, _none_free(need, pool))
            self._without[vmid] = _none_free(need, pool)
            return ()
        self._without.pop(vmid, None)
        self._keep(vmid, (need.proto, ports))
        return ports

    async def _release(self, vmid: int) -> None:
        """Those of a game that has come to be reached in another way."""
        self._without.pop(vmid, None)
        if self._known(vmid) is not None:
            await self._database.run(public_ports.release, vmid)
            self._keep(vmid, None)

    def _known(self, vmid: int) -> Given | None:
        return self._given.get(vmid) if self._given is not None else None

    def _keep(self, vmid: int, given: Given | None) -> None:
        if self._given is None:
            return
        before = self._given.pop(vmid, None)
        self._some_freed |= before is not None and before != given
        if given is not None:
            self._given[vmid] = given


def _none_free(need: Need, pool: range) -> str:
    wanted = "no port is" if need.count == 1 else f"no {need.count} ports in a row are"
    return f"{wanted} free in [traefik] {need.proto}_ports, {pool.start}-{pool.stop - 1}"
