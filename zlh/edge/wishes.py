"""What is wanted at one target, by container and by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from zlh.model.edge import Entry, Key


class Wishes:
    def __init__(self) -> None:
        self._by_vmid: dict[int, tuple[Entry, ...]] = {}
        self._by_name: dict[str, set[int]] = {}
        self._holders: Counter[Key] = Counter()

    def __iter__(self) -> Iterator[Entry]:
        return (entry for entries in self._by_vmid.values() for entry in entries)

    def put(self, vmid: int, entries: Sequence[Entry]) -> None:
        for entry in self._by_vmid.pop(vmid, ()):
            self._holders[entry.key] -= 1
            if not self._holders[entry.key]:
                del self._holders[entry.key]
            holders = self._by_name.get(entry.name)
            if holders is not None:
                holders.discard(vmid)
                if not holders:
                    del self._by_name[entry.name]
        if entries:
            self._by_vmid[vmid] = tuple(entries)
        for entry in entries:
            self._holders[entry.key] += 1
            self._by_name.setdefault(entry.name, set()).add(vmid)

    def of(self, vmid: int) -> tuple[Entry, ...]:
        return self._by_vmid.get(vmid, ())

    def at(self, names: Collection[str]) -> Iterator[Entry]:
        """Everybody's, at those names."""
        vmids = {vmid for name in names for vmid in self._by_name.get(name, ())}
        return (entry for vmid in vmids for entry in self._by_vmid[vmid] if entry.name in names)

    @property
    def keys(self) -> Collection[Key]:
        return self._holders.keys()
