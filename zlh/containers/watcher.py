"""Asks each Proxmox cluster for everything it has, and hands every container its part."""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from actors import Context
from zlh.containers.cell import Cell
from zlh.containers.observe import fold_failure, fold_guest, fold_look, own
from zlh.containers.projection import Projection
from zlh.drivers.errors import DriverError, Unreachable
from zlh.drivers.proxmox import Cluster, ProxmoxDriver
from zlh.model.observed import HostObservation

log = logging.getLogger("zlh.proxmox")

ANSWER_SECONDS = 10.0
AT_A_STRETCH = 100


class Watcher:
    """One request every `interval` seconds, however many containers there are; sooner when asked to `look`.

    `cluster` is the last complete answer, None until there was one. `moved` is called for a container whose
    presence, power, node or lock changed. An answer may be `lag` seconds old when it comes, as nodes report power
    every ten seconds: what an operation `looked` at meanwhile holds against it. Runs as a supervised task; the state
    outlives a crash of it.
    """

    def __init__(
        self,
        proxmox: ProxmoxDriver,
        projection: Projection,
        interval: float,
        now: Callable[[], float],
        moved: Callable[[Cell], None],
        *,
        lag: float = 0.0,
    ) -> None:
        self._proxmox = proxmox
        self._projection = projection
        self._interval = interval
        self._lag = lag
        self._now = now
        self._moved = moved
        self._wake = trio.Event()
        self.cluster: Cluster | None = None
        self.answered_at: float | None = None
        self.error: str | None = None

    def look(self) -> None:
        """Asks for an answer now."""
        self._wake.set()

    def looked(self, cell: Cell, running: bool) -> None:
        """An operation has just asked Proxmox about this container alone."""
        self._observe(cell, fold_look(cell.observed.host, cell.row.node, running, self._now()))

    async def run(self, ctx: Context) -> None:
        ctx.started()
        while True:
            await self._watch()
            ctx.annotate(answered_at=self.answered_at, error=self.error)
            with trio.move_on_after(self._interval):
                await self._wake.wait()
            self._wake = trio.Event()

    async def _watch(self) -> None:
        asked_at = self._now()
        try:
            with trio.fail_after(ANSWER_SECONDS):
                cluster = await self._proxmox.resources()
        except trio.TooSlowError:
            await self._failed(Unreachable(f"no answer within {ANSWER_SECONDS:g} s"))
        except DriverError as error:
            await self._failed(error)
        else:
            await self._answered(cluster, asked_at)

    async def _answered(self, cluster: Cluster, asked_at: float) -> None:
        if self.error is not None:
            log.info("Proxmox answers again")
        self.cluster, self.error, self.answered_at = cluster, None, self._now()
        guests = {guest.vmid: guest for guest in cluster.guests}
        now, as_of = self._now(), asked_at - self._lag
        await self._observe_all(lambda cell: fold_guest(cell.observed.host, own(guests, cell.row), now, as_of))

    async def _failed(self, error: DriverError) -> None:
        if self.error is None:
            log.warning("Proxmox does not answer: %s", error)
        self.error = str(error)
        now = self._now()
        await self._observe_all(lambda cell: fold_failure(cell.observed.host, error, now))

    async def _observe_all(self, fold: Callable[[Cell], HostObservation]) -> None:
        """With room for others now and then: thousands at a stretch would be a pause that everybody feels."""
        for number, cell in enumerate(self._projection.cells(), 1):
            self._observe(cell, fold(cell))
            if number % AT_A_STRETCH == 0:
                await trio.lowlevel.checkpoint()

    def _observe(self, cell: Cell, after: HostObservation) -> None:
        before = cell.observed.host
        cell.observe_host(after)
        if _key(before) != _key(after):
            self._moved(cell)


def _key(host: HostObservation) -> tuple[object, ...]:
    return host.presence, host.power, host.node, host.lock
