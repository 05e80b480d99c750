"""Who was at a console and could type there: into the audit record, without anybody waiting for it."""

from __future__ import annotations

from collections.abc import Mapping

from zlh.accounts.access import AccessTable
from zlh.accounts.audit import AuditTrail
from zlh.accounts.visits import note_visit
from zlh.model.accounts import Principal
from zlh.model.audit import Ending, Fact, Outcome
from zlh.model.console import Visit


class ConsoleGuestbook:
    """Implements `zlh.model.console.Guestbook`. What is typed may be a secret; how many lines it was is none."""

    def __init__(self, trail: AuditTrail, access: AccessTable) -> None:
        self._trail = trail
        self._access = access

    def arrived(self, principal: Principal, visit: Visit) -> None:
        self._note("console.open", principal, visit, {})

    def left(self, principal: Principal, visit: Visit, lines: int) -> None:
        self._note("console.close", principal, visit, {"lines": lines})

    def _note(self, action: str, principal: Principal, visit: Visit, details: Mapping[str, Fact]) -> None:
        note_visit(self._trail, self._access, action, principal, visit, Ending(outcome=Outcome.DONE), details)
