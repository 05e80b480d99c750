"""/api/operators/edge: where containers are published, and whether that is as it should be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio
from pydantic import Field
from quart import Response

from zlh.api.answers import Answer
from zlh.api.bodies import Body, Label
from zlh.api.call import Call, json_response
from zlh.drivers.errors import DriverError
from zlh.edge import Blocked, Difference, Outlets, Report
from zlh.model.edge import Change, Entry
from zlh.model.servers import rfc3339
from zlh.store import StoreUnavailable

MOST_LISTED = 100
RECONCILE_SECONDS = 30.0


class Reconcile(Body):
    """`target` is one of those that GET names, by default all. A dry run only tells what would be changed."""

    target: Label | None = None
    dry_run: bool = True


class EdgeEntry(Answer):
    vmid: int | None
    kind: str
    name: str
    value: str


class EdgeChange(Answer):
    """`verb` is add, replace or remove."""

    verb: str
    entry: EdgeEntry
    reason: str


class EdgeBlocked(Answer):
    """`holder` is somebody else's, and in the place of `entry`."""

    entry: EdgeEntry
    holder: EdgeEntry


class EdgeRepair(EdgeChange):
    at: str


class EdgeTarget(Answer):
    """`reachable` is null until it was spoken to. `wanted` and `actual` count entries; at most 100 of each list are
    shown, `owedCount` and the like count them all."""

    name: str
    kind: str
    reachable: bool | None
    synced_at: str | None
    wanted: int
    actual: int | None
    owed: list[EdgeEntry]
    owed_count: int
    blocked: list[EdgeBlocked]
    blocked_count: int
    orphans: list[EdgeEntry]
    orphans_count: int
    refused: dict[str, str]
    error: str | None
    error_at: str | None
    calls: int
    repairs: list[EdgeRepair]


class EdgeTargets(Answer):
    targets: list[EdgeTarget]


class Reconciled(Answer):
    """What was, or in a dry run would be, changed at one target; `error` says why nobody knows."""

    target: str
    error: str | None
    changes: list[EdgeChange] = Field(default_factory=list)
    changes_count: int
    blocked: list[EdgeBlocked] = Field(default_factory=list)
    orphans: list[EdgeEntry] = Field(default_factory=list)


class EdgeDifference(Answer):
    dry_run: bool
    targets: list[Reconciled]


async def targets(call: Call) -> Response:
    return json_response({"targets": [_report(report) for report in call.services.edge.reports()]})


async def reconcile(call: Call) -> Response:
    """A target that does not answer says so in its place; the others are none the worse for it."""
    body: Reconcile = call.body
    edge = call.services.edge
    call.audit.details["dry_run"] = body.dry_run
    if body.target is not None:
        call.audit.details["target"] = edge.outlet(body.target).name
    names = edge.names if body.target is None else [body.target]
    found: dict[str, dict[str, Any]] = {}

    async def one(name: str) -> None:
        found[name] = await _reconcile(edge, name, dry_run=body.dry_run)

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(one, name)
    return json_response({"dryRun": body.dry_run, "targets": [found[name] for name in names]})


async def _reconcile(edge: Outlets, name: str, *, dry_run: bool) -> dict[str, Any]:
    error: str | None = None
    difference = Difference()
    try:
        with trio.fail_after(RECONCILE_SECONDS):
            difference = await (edge.preview(name) if dry_run else edge.reconcile(name))
    except (DriverError, StoreUnavailable) as problem:
        error = str(problem)
    except trio.TooSlowError:
        error = f"it is not done within {RECONCILE_SECONDS:g} s, and goes on"
    return {
        "target": name,
        "error": error,
        "changes": [_change(change) for change in difference.changes[:MOST_LISTED]],
        "changesCount": len(difference.changes),
        "blocked": _blocked(difference.blocked),
        "orphans": _entries(difference.orphans),
    }


def _report(report: Report) -> dict[str, Any]:
    return {
        "name": report.name,
        "kind": report.kind,
        "reachable": report.reachable,
        "syncedAt": rfc3339(report.synced_at),
        "wanted": report.wanted,
        "actual": report.actual,
        "owed": _entries(report.owed),
        "owedCount": len(report.owed),
        "blocked": _blocked(report.blocked),
        "blockedCount": len(report.blocked),
        "orphans": _entries(report.orphans),
        "orphansCount": len(report.orphans),
        "refused": dict(list(report.refused.items())[:MOST_LISTED]),
        "error": report.error,
        "errorAt": rfc3339(report.error_at),
        "calls": report.calls,
        "repairs": [{"at": rfc3339(repair.at), **_change(repair.change)} for repair in report.repairs],
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {"vmid": entry.vmid or None, "kind": entry.kind, "name": entry.name, "value": entry.value}


def _entries(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    return [_entry(entry) for entry in entries[:MOST_LISTED]]


def _change(change: Change) -> dict[str, Any]:
    return {"verb": change.verb.value, "entry": _entry(change.entry), "reason": change.reason}


def _blocked(blocked: Sequence[Blocked]) -> list[dict[str, Any]]:
    return [{"entry": _entry(one.entry), "holder": _entry(one.holder)} for one in blocked[:MOST_LISTED]]
