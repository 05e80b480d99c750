"""Regulars: who came to a place with the same pass a moment ago. Where that is is kept, so that the next request
costs little; whether they may come is found out anew at each."""

from __future__ import annotations

from collections.abc import Callable

from zlh.ide.condition import Condition, condition
from zlh.ide.gatekeeper import Admitted
from zlh.ide.house import House
from zlh.ide.places import Place
from zlh.ide.presence import Visit
from zlh.model.accounts import Principal
from zlh.model.activity import Use
from zlh.model.errors import ProblemError
from zlh.model.whereabouts import Whereabouts

REMEMBERED = 1024
FORGOTTEN_SECONDS = 60.0

Address = tuple[str, int]
Cut = Callable[[], None]


class Regular:
    """One pass at one place (`token` None: anybody at a public port), and what it asked for and waits for.

    What is under way when its right ends is cut off, and it is `gone` from then on, as it is when it was not seen for
    a while: find it anew.
    """

    __slots__ = (
        "_address",
        "_found",
        "_house",
        "_under_way",
        "_visit",
        "gone",
        "place",
        "seen",
        "token",
    )

    def __init__(self, house: House, place: Place, token: str | None, principal: Principal | None) -> None:
        self.place = place
        self.token = token
        self.gone = False
        self.seen = False
        self._house = house
        self._under_way: set[Cut] = set()
        # What was looked at last, and what came of it.
        self._found: Whereabouts | None = None
        self._address: Address | None = None
        self._visit: Visit = house.join(place, Admitted(principal))
        self._visit.requests = 0
        self._visit.on_end(self._end)

    @property
    def principal(self) -> Principal | None:
        return self._visit.principal

    def admit(self) -> Address | None:
        """Where its program listens, where it may be asked at this moment. None means that somebody else has to find
        out why not, or to renew the pass. Raises UnavailableError where nothing may be sent there."""
        if self.gone:
            return None
        self.seen = True
        gatekeeper = self._house.gatekeeper
        if self.token is None:
            return self._where() if gatekeeper.is_public(self.place) else None
        return self._where() if gatekeeper.recognise(self.place, self.token) is not None else None

    def begin(self, cut: Cut) -> None:
        """A request is under way; `cut` is called where its right ends before it is finished."""
        self._under_way.add(cut)
        self._visit.requests = len(self._under_way)
        self._house.activity.touched(self.place.vmid, Use.IDE)

    def finish(self, cut: Cut) -> None:
        """May be called more than once."""
        self._under_way.discard(cut)
        self._visit.requests = len(self._under_way)
        if self.gone:
            self.leave()

    def leave(self) -> None:
        """Nothing new is begun; what is under way goes on."""
        self.gone = True
        if not self._under_way:
            self._visit.leave()

    @property
    def waits(self) -> bool:
        return bool(self._under_way)

    def look_again(self) -> None:
        """At where it is, also where nothing has changed: what may be reached does not depend on rows alone."""
        self._found = None

    def _end(self, code: int, reason: str) -> None:
        self.gone = True
        for cut in tuple(self._under_way):
            cut()
        self.leave()

    def _where(self) -> Address | None:
        found = self._house.whereabouts(self.place.vmid)
        if found is None:
            return None
        if found != self._found:
            self._address = None
            if condition(found) is Condition.OPEN:
                self._address = self._house.address(self.place)
            self._found = found
        return self._address


class Regulars:
    """All of them, by pass and place; call `tick` now and then."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._known: dict[tuple[Place, str | None], Regular] = {}
        self._look_again_at = 0.0

    def __len__(self) -> int:
        return len(self._known)

    def find(self, place: Place, offered: list[str]) -> Regular | None:
        """Whose pass is the only one of those offered; None for everybody who is not simply let in."""
        public = self._house.gatekeeper.is_public(place)
        if not public and len(offered) != 1:
            return None
        token = None if public else offered[0]
        known = self._known.get((place, token))
        if known is not None and not known.gone:
            return known
        try:
            made = self._make(place, token)
        except ProblemError:
            return None
        if made is not None:
            self._known.pop((place, token), None)
            self._known[place, token] = made
            if len(self._known) > REMEMBERED:
                self._forget(next(iter(self._known.values())))
        return made

    def tick(self, now: float) -> None:
        """Forgets who was not seen for a while. `now` in seconds, any zero."""
        for regular in self._known.values():
            regular.look_again()
        if now < self._look_again_at:
            return
        self._look_again_at = now + FORGOTTEN_SECONDS
        for regular in list(self._known.values()):
            if regular.gone or not (regular.seen or regular.waits):
                self._forget(regular)
            regular.seen = False

    def _make(self, place: Place, token: str | None) -> Regular | None:
        """Raises ProblemError."""
        if token is None:
            return Regular(self._house, place, None, None)
        principal = self._house.gatekeeper.recognise(place, token)
        return None if principal is None else Regular(self._house, place, token, principal)

    def _forget(self, regular: Regular) -> None:
        del self._known[regular.place, regular.token]
        regular.leave()
