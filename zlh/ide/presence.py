"""Who is at customers' programs now: requests and websockets, each of which ends when its right does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from zlh.accounts import AccessGrant
from zlh.ide.condition import Condition
from zlh.ide.places import Place
from zlh.model.accounts import Principal
from zlh.model.console import EndCallback

GOING_AWAY = 1001
NOT_PERMITTED = (4403, "this is not permitted any more")
GONE = (4404, "the container is gone")


class Visit:
    """One request or websocket at a place, or as many `requests`. `principal` None: somebody at a public port."""

    def __init__(self, book: Presence, place: Place, principal: Principal | None, grant: AccessGrant | None) -> None:
        self.place = place
        self.principal = principal
        self.requests = 1
        self._book = book
        self._grant = grant
        self._callback: EndCallback | None = None
        self._ended: tuple[int, str] | None = None

    def on_end(self, callback: EndCallback) -> None:
        """Calls `callback(code, reason)`, a websocket's close code, once, the moment that the right to be here ends;
        at once where it has ended already."""
        self._callback = callback
        if self._ended is not None:
            callback(*self._ended)
        elif self._grant is not None:
            self._grant.on_end(self.end)

    def end(self, code: int, reason: str) -> None:
        if self._ended is None:
            self._ended = (code, reason)
            if self._callback is not None:
                self._callback(code, reason)

    def leave(self) -> None:
        """It is over. May be called more than once."""
        self._callback = None
        self._book.discard(self)
        if self._grant is not None:
            self._grant.release()


class Presence:
    """All visits, by container. `condition_of(vmid)` says how a container is, None for one that is gone; `welcome`
    says whether somebody may be at a place, as far as no grant does."""

    def __init__(
        self, condition_of: Callable[[int], Condition | None], welcome: Callable[[Place, Principal | None], bool]
    ) -> None:
        self._condition_of = condition_of
        self._welcome = welcome
        self._visits: defaultdict[int, set[Visit]] = defaultdict(set)

    def __len__(self) -> int:
        return sum(visit.requests for visits in self._visits.values() for visit in visits)

    def join(self, place: Place, principal: Principal | None, grant: AccessGrant | None) -> Visit:
        visit = Visit(self, place, principal, grant)
        self._visits[place.vmid].add(visit)
        return visit

    def discard(self, visit: Visit) -> None:
        visits = self._visits.get(visit.place.vmid)
        if visits is not None:
            visits.discard(visit)
            if not visits:
                del self._visits[visit.place.vmid]

    def tick(self, _now: float) -> None:
        """A few times a second: who is at a container that was stopped leaves."""
        for vmid, visits in list(self._visits.items()):
            found = self._condition_of(vmid)
            if found is Condition.OPEN:
                continue
            ending = GONE if found is None or found is Condition.DELETING else (GOING_AWAY, f"it is {found.value}")
            for visit in tuple(visits):
                visit.end(*ending)

    def ports_changed(self, vmid: int) -> None:
        for visit in tuple(self._visits.get(vmid, ())):
            if not self._welcome(visit.place, visit.principal):
                visit.end(*NOT_PERMITTED)
