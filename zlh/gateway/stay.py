"""What the guestbook is told of one viewer of a console: that somebody came who may type, and how much was typed."""

from __future__ import annotations

from zlh.model.accounts import Principal
from zlh.model.console import Guestbook, Visit


class Stay:
    """A viewer's time at a console. One who renews the sign-in is the same guest, whoever takes over is another."""

    def __init__(self, guestbook: Guestbook | None, visit: Visit) -> None:
        self._guestbook = guestbook
        self._visit = visit
        self._guest: Principal | None = None
        self._lines = 0

    def hold(self, principal: Principal, may_type: bool) -> None:
        """Who is at the keyboard now."""
        if self._guestbook is None:
            return
        if self._guest is not None and _person(self._guest) != _person(principal):
            self.leave()
        if self._guest is None and may_type:
            self._guest = principal
            self._guestbook.arrived(principal, self._visit)

    def typed(self) -> None:
        self._lines += 1

    def leave(self) -> None:
        """May be called more than once."""
        guest, self._guest = self._guest, None
        lines, self._lines = self._lines, 0
        if guest is not None and self._guestbook is not None:
            self._guestbook.left(guest, self._visit, lines)


def _person(principal: Principal) -> tuple[int, int]:
    return principal.account_id, principal.actor_id
