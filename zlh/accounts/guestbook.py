"""Who was at a console and could type there: into the audit record, without anybody waiting for it."""

from __future__ import annotations

from collections.abc import Mapping

from zlh.accounts.access import AccessTable
from zlh.accounts.audit import AuditTrail, credential_of
from zlh.model.accounts import Principal
from zlh.model.audit import Act, Ending, Fact, Outcome
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
        act = Act(
            at=self._trail.now(),
            action=action,
            credential=credential_of(principal),
            actor_id=principal.actor_id,
            subject_id=self._access.owner_of(visit.vmid),
            vmid=visit.vmid,
            address=visit.address,
            agent=visit.agent,
            request_id=visit.request_id,
            details=details,
        )
        self._trail.note(act, Ending(outcome=Outcome.DONE))
