"""What is done over a connection of its own, past the routes, as the audit record has it."""

from __future__ import annotations

from collections.abc import Mapping

from zlh.accounts.access import AccessTable
from zlh.accounts.audit import AuditTrail, credential_of
from zlh.model.accounts import Principal
from zlh.model.audit import Act, Ending, Fact
from zlh.model.console import Visit


def note_visit(
    trail: AuditTrail,
    access: AccessTable,
    action: str,
    principal: Principal,
    visit: Visit,
    ending: Ending,
    details: Mapping[str, Fact] | None = None,
) -> None:
    """Into the record, without anybody waiting for it."""
    act = Act(
        at=trail.now(),
        action=action,
        credential=credential_of(principal),
        actor_id=principal.actor_id,
        subject_id=access.owner_of(visit.vmid),
        vmid=visit.vmid,
        address=visit.address,
        agent=visit.agent,
        request_id=visit.request_id,
        details=details or {},
    )
    trail.note(act, ending)
