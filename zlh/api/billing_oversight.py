"""Billing in operators' hands: whether money and machines agree, plans that are given, the ledger of hours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AwareDatetime, ConfigDict, Field
from quart import Response
from quart_trio.wrappers import TrioResponse

from zlh.api.accounts import overseen
from zlh.api.answers import Answer
from zlh.api.billing import PlanName
from zlh.api.bodies import Body, Query, Reason
from zlh.api.call import Call, json_response
from zlh.billing import Kind
from zlh.model.errors import InvalidError
from zlh.model.servers import rfc3339_of
from zlh.store.billing_reports import Report

LONGEST_EXPORT = timedelta(days=400)
MOST_LISTED = 500

Limit = Annotated[int, Field(ge=0, le=1_000_000_000)]


class Exceptions(Body):
    """Limits for this customer alone."""

    # A limit that is misspelled would be none.
    model_config = ConfigDict(extra="forbid")

    games: Limit | None = None
    devs: Limit | None = None
    memory_mib: Annotated[Limit | None, Field(alias="memoryMib")] = None
    cpu_cores: Limit | None = None
    disk_gib: Annotated[Limit | None, Field(alias="diskGib")] = None
    backups: Limit | None = None
    schedules: Limit | None = None


class GivePlan(Body):
    """`plan` null takes back what was given: then what the customer pays for counts alone."""

    plan: PlanName | None
    until: AwareDatetime | None = None
    exceptions: Exceptions = Exceptions()
    reason: Reason


class Compare(Body):
    """Unless `dryRun` is false it only tells what it would repair."""

    dry_run: bool = True


class HoursQuery(Query):
    """Intervals that began from `since` on and before `until`; the last 31 days where they are not given. `account`
    is for operators."""

    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    account: Annotated[int | None, Field(ge=1, lt=1 << 62)] = None


class FindingAnswer(Answer):
    kind: Kind
    detail: str
    account_id: int | None
    customer_id: str | None
    subscription_id: str | None
    vmid: int | None
    repair: str | None


class Invariants(Answer):
    """`green` where nothing disagrees. `proposals` are for a person to decide. At most 500 of each are listed."""

    green: bool
    checked_at: str
    compared_at: str | None
    findings: list[FindingAnswer]
    findings_count: int
    proposals: list[FindingAnswer]


class Compared(Answer):
    """`error` says that Stripe could not be asked; what is here was compared all the same."""

    dry_run: bool
    error: str | None
    started_at: str
    ended_at: str
    findings: list[FindingAnswer]
    findings_count: int


async def invariants(call: Call) -> Response:
    books, found = await call.services.billing.reconciler.judged()
    wrong = [finding.as_dict() for finding in found if not finding.kind.proposal]
    proposed = [finding.as_dict() for finding in found if finding.kind.proposal]
    return json_response(
        {
            "green": not wrong,
            "checkedAt": rfc3339_of(books.now),
            "comparedAt": rfc3339_of(books.compared_at),
            "findings": _shown(wrong),
            "findingsCount": len(wrong),
            "proposals": _shown(proposed),
        }
    )


async def reconcile(call: Call) -> Response:
    body: Compare = call.body
    call.audit.details["dry_run"] = body.dry_run
    report: Report = await call.services.billing.reconciler.reconcile("asked", dry_run=body.dry_run)
    return json_response(
        {
            "dryRun": body.dry_run,
            "error": report.error,
            "startedAt": rfc3339_of(report.started_at),
            "endedAt": rfc3339_of(report.ended_at),
            "findings": _shown([dict(finding) for finding in report.findings]),
            "findingsCount": len(report.findings),
        }
    )


async def give_plan(call: Call, account_id: int) -> Response:
    body: GivePlan = call.body
    exceptions = {name: value for name, value in body.exceptions.model_dump().items() if value is not None}
    call.audit.details["reason"] = body.reason
    call.audit.details["plan"] = body.plan or ""
    call.audit.details["exceptions"] = [f"{name}={value}" for name, value in exceptions.items()]
    if body.until is not None:
        call.audit.details["until"] = body.until.isoformat()
    account = await call.services.billing.grants.give(
        account_id, plan=body.plan, until=body.until, because=body.reason, exceptions=exceptions
    )
    return json_response({"account": overseen(account)})


async def all_hours(call: Call) -> Response:
    query: HoursQuery = call.query
    return _export(call, query, query.account)


async def own_hours(call: Call) -> Response:
    return _export(call, call.query, call.principal.account_id)


def _export(call: Call, query: HoursQuery, account_id: int | None) -> Response:
    until = query.until or datetime.now(UTC)
    since = query.since or until - timedelta(days=31)
    if not timedelta() < until - since <= LONGEST_EXPORT:
        raise InvalidError.of(("since", f"lies before until, by {LONGEST_EXPORT.days} days at most"))
    lines = call.services.billing.ledger.export(since, until, account_id=account_id)
    name = f"container-hours-{since:%Y%m%d}-{until:%Y%m%d}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return TrioResponse(lines, 200, headers, content_type="text/csv; charset=utf-8")


def _shown(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "kind": finding["kind"],
            "detail": finding["detail"],
            "accountId": finding["account_id"],
            "customerId": finding["customer_id"],
            "subscriptionId": finding["subscription_id"],
            "vmid": finding["vmid"],
            "repair": finding["repair"],
        }
        for finding in found[:MOST_LISTED]
    ]
