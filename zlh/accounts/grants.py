"""The right to stay: what an open websocket or event stream holds for as long as its user may be there."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import trio

from zlh.model.access import Permission
from zlh.model.accounts import Principal
from zlh.model.console import EndCallback

SIGNED_OUT = (4401, "signed out")
EXPIRED = (4401, "the sign-in has expired")
SUSPENDED = (4403, "the account is suspended")
NOT_PERMITTED = (4403, "this is not permitted any more")
GONE = (4404, "the container is gone")


class AccessGrant:
    """One principal's presence, at one container or (`vmid` None) anywhere, for as long as it has `permission` there.
    `suspended`: what it is there for, a suspended account may do too. Implements `zlh.model.console.Grant`."""

    def __init__(
        self,
        book: Grants,
        principal: Principal,
        vmid: int | None,
        permission: Permission,
        *,
        may_type: bool,
        suspended: bool,
    ) -> None:
        self.principal = principal
        self.vmid = vmid
        self.permission = permission
        self.may_type = may_type
        self.suspended = suspended
        self.expires_at = principal.expires_at
        self._book = book
        self._callback: EndCallback | None = None
        self._ended: tuple[int, str] | None = None

    def on_end(self, callback: EndCallback) -> None:
        """Calls `callback(code, reason)` once, the moment that access ends; at once where it has ended already."""
        if self._ended is not None:
            callback(*self._ended)
        else:
            self._callback = callback

    def release(self) -> None:
        """The connection is gone; the callback is dropped. May be called more than once."""
        self._callback = None
        self._book.discard(self)

    def end(self, code: int, reason: str) -> None:
        if self._ended is not None:
            return
        self._ended = (code, reason)
        self.may_type = False
        self._book.discard(self)
        callback, self._callback = self._callback, None
        if callback is not None:
            callback(code, reason)


class Grants:
    """Every grant that is held, found by account, session or container; one timer ends them when their token does."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._all: set[AccessGrant] = set()
        self._by_account: defaultdict[int, set[AccessGrant]] = defaultdict(set)
        self._by_vmid: defaultdict[int, set[AccessGrant]] = defaultdict(set)
        self._by_session: defaultdict[str, set[AccessGrant]] = defaultdict(set)
        self._expiry: list[tuple[float, int, AccessGrant]] = []
        self._serial = itertools.count()
        self._sooner = trio.Event()

    def __len__(self) -> int:
        return len(self._all)

    def open(
        self, principal: Principal, vmid: int | None, permission: Permission, *, may_type: bool, suspended: bool
    ) -> AccessGrant:
        grant = AccessGrant(self, principal, vmid, permission, may_type=may_type, suspended=suspended)
        self._all.add(grant)
        for index, name in self._places(grant):
            index[name].add(grant)
        heapq.heappush(self._expiry, (grant.expires_at, next(self._serial), grant))
        if self._expiry[0][2] is grant:
            self._sooner.set()
        return grant

    def discard(self, grant: AccessGrant) -> None:
        self._all.discard(grant)
        for index, name in self._places(grant):
            if name in index:
                index[name].discard(grant)
                if not index[name]:
                    del index[name]
        # A released grant stays in the heap until its time; when most of the heap is such, it is made anew.
        if len(self._expiry) > 2 * len(self._all) + 64:
            self._expiry = [entry for entry in self._expiry if entry[2] in self._all]
            heapq.heapify(self._expiry)

    def of_account(self, account_id: int) -> list[AccessGrant]:
        return list(self._by_account.get(account_id, ()))

    def of_container(self, vmid: int) -> list[AccessGrant]:
        return list(self._by_vmid.get(vmid, ()))

    def of_session(self, session_id: str) -> list[AccessGrant]:
        return list(self._by_session.get(session_id, ()))

    def of_sign_ins(self) -> list[AccessGrant]:
        """Those that no API key opened."""
        return [grant for grant in self._all if grant.principal.scopes is None]

    def _places(self, grant: AccessGrant) -> Iterator[tuple[defaultdict[Any, set[AccessGrant]], int | str]]:
        """Where it is found, and under what."""
        principal = grant.principal
        for account_id in {principal.account_id, principal.actor_id}:
            yield self._by_account, account_id
        yield self._by_session, principal.session_id
        if grant.vmid is not None:
            yield self._by_vmid, grant.vmid

    async def expire(self) -> None:
        """Ends grants at their time, for ever."""
        while True:
            self._sooner = trio.Event()
            now = self._now()
            while self._expiry and self._expiry[0][0] <= now:
                heapq.heappop(self._expiry)[2].end(*EXPIRED)
            wait = self._expiry[0][0] - now if self._expiry else None
            with contextlib.nullcontext() if wait is None else trio.move_on_after(wait):
                await self._sooner.wait()
