"""What we made at one target, or were about to, and what became of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from zlh.model.edge import Entry, Key
from zlh.store import Database, edge_entries

T = TypeVar("T", int, str)


class Claims(Protocol):
    """Where a target's claims are kept. All raise StoreUnavailable."""

    async def load(self) -> list[Entry]: ...

    async def claim(self, entries: Sequence[Entry]) -> None: ...

    async def release(self, keys: Sequence[Key]) -> None: ...


class StoredClaims:
    def __init__(self, db: Database, target: str) -> None:
        self._db = db
        self._target = target

    async def load(self) -> list[Entry]:
        return await self._db.run(edge_entries.of_target, self._target)

    async def claim(self, entries: Sequence[Entry]) -> None:
        await self._db.run(edge_entries.claim, self._target, entries, datetime.now(UTC))

    async def release(self, keys: Sequence[Key]) -> None:
        await self._db.run(edge_entries.release, self._target, keys)


class Ledger:
    """In memory as in the store, where it is written first. While it is not `sure`, it has to be loaded: it never
    was, or a write broke off and nobody knows what came of it."""

    def __init__(self, claims: Claims) -> None:
        self.sure = False
        self._claims = claims
        self._entries: dict[Key, Entry] = {}
        self._by_vmid: dict[int, set[Key]] = {}
        self._by_name: dict[str, set[Key]] = {}

    async def load(self) -> None:
        """Raises StoreUnavailable."""
        entries = await self._claims.load()
        self._entries.clear()
        self._by_vmid.clear()
        self._by_name.clear()
        for entry in entries:
            self._put(entry)
        self.sure = True

    @property
    def keys(self) -> Collection[Key]:
        return self._entries.keys()

    def entries(self) -> list[Entry]:
        return list(self._entries.values())

    def get(self, key: Key) -> Entry | None:
        return self._entries.get(key)

    def of(self, vmid: int) -> list[Entry]:
        return [self._entries[key] for key in self._by_vmid.get(vmid, ())]

    def at(self, names: Collection[str]) -> list[Entry]:
        return [self._entries[key] for name in names for key in self._by_name.get(name, ())]

    async def claim(self, entries: Iterable[Entry]) -> None:
        """Before they are made. Raises StoreUnavailable."""
        new = [entry for entry in entries if self._owner(entry) != entry.vmid]
        if not new:
            return
        self.sure = False
        await self._claims.claim(new)
        self.sure = True
        for entry in new:
            self._put(entry)

    async def release(self, keys: Iterable[Key]) -> None:
        """After they were seen to be gone. Raises StoreUnavailable."""
        old = [key for key in keys if key in self._entries]
        if not old:
            return
        self.sure = False
        await self._claims.release(old)
        self.sure = True
        for key in old:
            self._drop(key)

    def _owner(self, entry: Entry) -> int | None:
        claimed = self._entries.get(entry.key)
        return claimed.vmid if claimed is not None else None

    def _put(self, entry: Entry) -> None:
        if entry.key in self._entries:
            self._drop(entry.key)
        self._entries[entry.key] = entry
        self._by_vmid.setdefault(entry.vmid, set()).add(entry.key)
        self._by_name.setdefault(entry.name, set()).add(entry.key)

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key)
        _discard(self._by_vmid, entry.vmid, key)
        _discard(self._by_name, entry.name, key)


def _discard(index: dict[T, set[Key]], place: T, key: Key) -> None:
    keys = index[place]
    keys.discard(key)
    if not keys:
        del index[place]
