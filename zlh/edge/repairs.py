"""What was not as it had been left, on record: somebody else changes things that we look after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from zlh.model.audit import Act, Ending, Facts, Outcome
from zlh.model.edge import Change

ACTION = "edge.repaired"


class RepairRecord:
    """Takes the repairs of one look into the audit record, as one entry."""

    def __init__(self, note: Callable[[Act, Ending], None]) -> None:
        self._note = note

    def __call__(self, target: str, changes: Sequence[Change]) -> None:
        facts = Facts()
        facts["target"] = target
        facts["repairs"] = [f"{change.verb} {change.entry}: {change.reason}" for change in changes]
        vmids = {change.entry.vmid for change in changes}
        act = Act(
            at=datetime.now(UTC),
            action=ACTION,
            credential="none",
            vmid=vmids.pop() if len(vmids) == 1 else None,
            details=dict(facts),
        )
        self._note(act, Ending(outcome=Outcome.DONE))
