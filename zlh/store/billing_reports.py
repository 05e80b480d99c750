"""What comparing money and machines found, and payments that were disputed. Every function runs in the caller's
transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from zlh.model.billing import Dispute
from zlh.store.billing_tables import billing_disputes as disputes
from zlh.store.billing_tables import billing_reports as reports


@dataclass(frozen=True, slots=True)
class Report:
    """`error` says what could not be compared; None where everything was."""

    why: str
    started_at: datetime
    ended_at: datetime
    error: str | None
    findings: Sequence[Mapping[str, Any]]


def add(connection: sa.Connection, report: Report) -> None:
    values = {
        "why": report.why,
        "started_at": report.started_at,
        "ended_at": report.ended_at,
        "error": report.error,
        "findings": list(report.findings),
    }
    connection.execute(sa.insert(reports).values(values))


def last(connection: sa.Connection, *, complete: bool = False) -> Report | None:
    """The newest; `complete`: of those in which everything was compared."""
    columns = (reports.c.why, reports.c.started_at, reports.c.ended_at, reports.c.error, reports.c.findings)
    query = sa.select(*columns).order_by(reports.c.id.desc()).limit(1)
    if complete:
        query = query.where(reports.c.error.is_(None))
    row = connection.execute(query).first()
    return None if row is None else Report(*row)


def put_dispute(connection: sa.Connection, dispute: Dispute) -> None:
    values = {
        "id": dispute.id,
        "customer_id": dispute.customer_id,
        "amount": dispute.amount,
        "currency": dispute.currency,
        "status": dispute.status,
        "reason": dispute.reason,
        "created_at": dispute.created_at,
    }
    statement = insert(disputes).values(values)
    connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))


def all_disputes(connection: sa.Connection) -> list[Dispute]:
    columns = [disputes.c[name] for name in Dispute.__dataclass_fields__]
    return [Dispute(*row) for row in connection.execute(sa.select(*columns).order_by(disputes.c.created_at))]


def purge(connection: sa.Connection, before: datetime) -> int:
    """Forgets reports from before then; returns how many."""
    return connection.execute(sa.delete(reports).where(reports.c.ended_at < before)).rowcount
