"""What is shared with whom, in memory: by container and by account, and who wants to hear of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from zlh.model.access import NOT_SHARED, Permission, Shared


class SharedTable:
    """Says the same at every moment as the shares that it was told last."""

    def __init__(self) -> None:
        self._by_vmid: dict[int, Mapping[int, frozenset[Permission]]] = {}
        self._by_account: dict[int, Shared] = {}
        self._hearing: dict[int, list[Callable[[Shared], None]]] = {}

    def __len__(self) -> int:
        """How many containers are shared."""
        return len(self._by_vmid)

    def vmids(self) -> set[int]:
        return set(self._by_vmid)

    def with_account(self, account_id: int) -> Shared:
        return self._by_account.get(account_id, NOT_SHARED)

    def put(self, vmid: int, shares: Mapping[int, frozenset[Permission]]) -> None:
        """All the shares of one container: account id -> what is held there."""
        before = self._by_vmid.pop(vmid, {})
        if shares:
            self._by_vmid[vmid] = shares
        for account_id in {*before, *shares}:
            if before.get(account_id) != shares.get(account_id):
                self._put(account_id, vmid, shares.get(account_id))

    @contextmanager
    def hearing(self, account_id: int, heard: Callable[[Shared], None]) -> Iterator[None]:
        """Calls `heard` with all that is shared with the account, the moment that it changes."""
        self._hearing.setdefault(account_id, []).append(heard)
        try:
            yield
        finally:
            self._hearing[account_id].remove(heard)
            if not self._hearing[account_id]:
                del self._hearing[account_id]

    def _put(self, account_id: int, vmid: int, held: frozenset[Permission] | None) -> None:
        shared = dict(self._by_account.pop(account_id, NOT_SHARED))
        if held is not None:
            shared[vmid] = held
        else:
            del shared[vmid]
        if shared:
            self._by_account[account_id] = shared
        for heard in tuple(self._hearing.get(account_id, ())):
            heard(shared)
