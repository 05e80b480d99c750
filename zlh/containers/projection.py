"""The read model: every container's cell, by vmid and by owner. Reads are answered from here and wait for nobody."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import trio

from zlh.containers.cell import Cell
from zlh.containers.lacks import AgentKind, Lacks
from zlh.model.access import Shared, Sight, told
from zlh.model.containers import Container
from zlh.model.errors import AbsentError
from zlh.model.observed import Observed
from zlh.model.operations import Operation


class Changes:
    """The vmids in sight that changed since the last look, coalesced: a slow reader misses no container, only
    repetitions."""

    def __init__(self, sight: Sight) -> None:
        self.owner_id = sight.owner_id
        self.shared = sight.shared
        self._vmids: set[int] = set()
        self._wake = trio.Event()

    def add(self, vmid: int) -> None:
        self._vmids.add(vmid)
        self._wake.set()

    def share(self, shared: Shared) -> None:
        """What others share from now on; what is different about that counts as a change."""
        for vmid in self.shared.keys() | shared.keys():
            if self.shared.get(vmid) != shared.get(vmid):
                self.add(vmid)
        self.shared = shared

    def __aiter__(self) -> AsyncIterator[set[int]]:
        return self

    async def __anext__(self) -> set[int]:
        await self._wake.wait()
        self._wake = trio.Event()
        vmids, self._vmids = self._vmids, set()
        return vmids


class Projection:
    """`now` gives Unix seconds. A body is rendered once per owner, state version and second."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._cells: dict[int, Cell] = {}
        self._owned: dict[int | None, dict[int, Cell]] = {None: {}}
        self._versions: dict[int | None, int] = {None: 0}
        self._bodies: dict[int | None, tuple[int, int, bytes]] = {}
        self._watchers: set[Changes] = set()
        self.lacks = Lacks(self._on_learned, now)

    def add(self, row: Container, *, operation: Operation | None = None, observed: Observed | None = None) -> Cell:
        cell = Cell(row, self._on_change, lacks=self.lacks, operation=operation, observed=observed)
        self._cells[row.vmid] = cell
        self._owned[None][row.vmid] = cell
        self._owned.setdefault(row.owner_id, {})[row.vmid] = cell
        self._on_change(cell)
        return cell

    def remove(self, vmid: int) -> None:
        """Forgets the container; no-op where it is not known."""
        cell = self._cells.pop(vmid, None)
        if cell is None:
            return
        del self._owned[None][vmid]
        owner_id = cell.row.owner_id
        self._owned[owner_id].pop(vmid, None)
        self._forget_lacks(owner_id)
        self._on_change(cell)
        if not self._owned[owner_id]:
            # Owners come and go too: of those without a container nothing is kept.
            del self._owned[owner_id], self._versions[owner_id]
            self._bodies.pop(owner_id, None)

    def cell(self, vmid: int) -> Cell:
        """Raises AbsentError."""
        cell = self._cells.get(vmid)
        if cell is None:
            raise AbsentError(f"there is no container {vmid}")
        return cell

    def get(self, vmid: int) -> Cell | None:
        return self._cells.get(vmid)

    def cells(self, owner_id: int | None = None) -> Iterable[Cell]:
        """A snapshot, so that the caller may wait between two of them."""
        return list(self._owned.get(owner_id, {}).values())

    def __len__(self) -> int:
        return len(self._cells)

    def __contains__(self, vmid: object) -> bool:
        return vmid in self._cells

    def servers_json(self, sight: Sight) -> bytes:
        """The whole body of GET /api/servers: one's own, and after them what others share, where there is any."""
        body = self._owned_json(sight.owner_id)
        return self._with_shared(body, sight.shared) if sight.shared else body

    def _owned_json(self, owner_id: int | None) -> bytes:
        second = math.floor(self._now())
        version = self._versions.get(owner_id, 0)
        cached = self._bodies.get(owner_id)
        if cached is not None and cached[0] == version and cached[1] == second:
            return cached[2]
        if not self._owned.get(owner_id):
            return b'{"servers":[]}'
        cells = sorted(self._owned[owner_id].values(), key=_vmid)
        body = b'{"servers":[' + b",".join(cell.render(second) for cell in cells) + b"]}"
        self._bodies[owner_id] = (version, second, body)
        return body

    def _with_shared(self, owned: bytes, shared: Shared) -> bytes:
        """`owned` with what others share spliced in: the bodies of owners stay cached as they are."""
        cells = [cell for vmid in sorted(shared) if (cell := self._cells.get(vmid)) is not None]
        if not cells:
            return owned
        second = math.floor(self._now())
        before = owned.removesuffix(b"]}")
        between = b"" if before.endswith(b"[") else b","
        permissions = {str(cell.vmid): told(shared[cell.vmid]) for cell in cells}
        servers = b",".join(cell.render(second) for cell in cells)
        return b"".join((before, between, servers, b'],"shared":', orjson.dumps(permissions), b"}"))

    @asynccontextmanager
    async def changes(self, sight: Sight) -> AsyncIterator[Changes]:
        """Follows the containers in sight."""
        changes = Changes(sight)
        self._watchers.add(changes)
        try:
            yield changes
        finally:
            self._watchers.discard(changes)

    def _on_learned(self, kind: AgentKind) -> None:
        for cell in self.cells(kind.owner_id):
            if cell.agent_kind == kind:
                cell.learned()
        self._forget_lacks(kind.owner_id)

    def _forget_lacks(self, owner_id: int) -> None:
        self.lacks.keep(owner_id, {cell.agent_kind for cell in self.cells(owner_id)})

    def _on_change(self, cell: Cell) -> None:
        owner_id, vmid = cell.row.owner_id, cell.row.vmid
        versions = self._versions
        versions[None] += 1
        versions[owner_id] = versions.get(owner_id, 0) + 1
        for changes in self._watchers:
            if changes.owner_id is None or changes.owner_id == owner_id or vmid in changes.shared:
                changes.add(vmid)


def _vmid(cell: Cell) -> Any:
    return cell.row.vmid
