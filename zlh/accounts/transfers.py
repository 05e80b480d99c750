"""What was uploaded, and which backups were downloaded: into the audit record, without anybody waiting for it."""

from __future__ import annotations

from collections.abc import Mapping

from zlh.accounts.access import AccessTable
from zlh.accounts.audit import AuditTrail
from zlh.accounts.visits import note_visit
from zlh.model.accounts import Principal
from zlh.model.audit import Ending, Fact, Outcome
from zlh.model.console import Visit


class TransferLog:
    """Implements `zlh.model.transfers.TransferBook`."""

    def __init__(self, trail: AuditTrail, access: AccessTable) -> None:
        self._trail = trail
        self._access = access

    def uploaded(self, principal: Principal, visit: Visit, path: str, size: int, status: int | None) -> None:
        self._note("file.upload", principal, visit, status, {"path": path, "bytes": size})

    def downloaded(self, principal: Principal, visit: Visit, backup: str, size: int, status: int | None) -> None:
        self._note("backup.download", principal, visit, status, {"backup": backup, "bytes": size})

    def _note(
        self, action: str, principal: Principal, visit: Visit, status: int | None, details: Mapping[str, Fact]
    ) -> None:
        outcome = Outcome.FAILED if status is None else Outcome.of_status(status)
        ending = Ending(outcome=outcome, status=status)
        note_visit(self._trail, self._access, action, principal, visit, ending, details)
