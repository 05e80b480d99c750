"""Schedules of containers. Every function runs in the caller's transaction; changes nudge the channel "schedules".

Their runs are in `zlh.store.schedule_runs`. A schedule goes with its container, and its runs with it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from zlh.model.backups import Retention
from zlh.model.errors import AbsentError
from zlh.model.plans import Plan, check_schedules
from zlh.model.schedules import Action, Outcome, Run, Schedule, Wish
from zlh.store.notify import SCHEDULES, notify
from zlh.store.tables import containers, schedule_runs, schedules

RUN_FIELDS = (
    schedule_runs.c.id,
    schedule_runs.c.schedule_id,
    schedule_runs.c.due_at,
    schedule_runs.c.by_hand,
    schedule_runs.c.attempt,
    schedule_runs.c.started_at,
    schedule_runs.c.ended_at,
    schedule_runs.c.outcome,
    schedule_runs.c.error,
    schedule_runs.c.backup_id,
    schedule_runs.c.deleted,
)


def create(
    connection: sa.Connection, vmid: int, wish: Wish, *, author_id: int, plan: Plan, now: datetime
) -> Schedule:
    """Raises AbsentError where there is no container, PlanLimitError, and ValueError for a time that cannot be
    read."""
    _hold_container(connection, vmid)
    used = connection.execute(sa.select(sa.func.count()).where(schedules.c.vmid == vmid)).scalar_one()
    check_schedules(plan, used)
    values = {
        "id": secrets.token_hex(8),
        "vmid": vmid,
        "created_at": now,
        **_written(wish, author_id, now),
    }
    row = connection.execute(sa.insert(schedules).values(values).returning(schedules)).one()
    return _changed(connection, schedule_of(row._mapping))


def change(
    connection: sa.Connection,
    vmid: int,
    schedule_id: str,
    edit: Callable[[Wish], Wish],
    *,
    author_id: int,
    now: datetime,
) -> Schedule:
    """Puts what `edit` makes of it in place of what is wanted; from now on it is the author's. The next run is
    counted from now. Raises AbsentError, ValueError."""
    this = schedules.c.vmid == vmid, schedules.c.id == schedule_id
    # Of two who change something at the same moment, the second changes what the first has made of it.
    held = connection.execute(sa.select(schedules).where(*this).with_for_update(key_share=True)).first()
    if held is None:
        raise _absent()
    wish = edit(schedule_of(held._mapping).wish)
    statement = sa.update(schedules).where(*this).values(_written(wish, author_id, now)).returning(schedules)
    (changed,) = with_last_runs(connection, [schedule_of(connection.execute(statement).one()._mapping)])
    return _changed(connection, changed)


def delete(connection: sa.Connection, vmid: int, schedule_id: str) -> None:
    """With all its runs; what it made stays. Raises AbsentError."""
    statement = sa.delete(schedules).where(schedules.c.vmid == vmid, schedules.c.id == schedule_id)
    if connection.execute(statement).rowcount == 0:
        raise _absent()
    notify(connection, SCHEDULES, schedule_id)


def get(connection: sa.Connection, vmid: int, schedule_id: str) -> Schedule:
    """Raises AbsentError where the container has no such schedule."""
    query = sa.select(schedules).where(schedules.c.vmid == vmid, schedules.c.id == schedule_id)
    row = connection.execute(query).first()
    if row is None:
        raise _absent()
    (found,) = with_last_runs(connection, [schedule_of(row._mapping)])
    return found


def of_container(connection: sa.Connection, vmid: int) -> list[Schedule]:
    """The oldest first."""
    query = sa.select(schedules).where(schedules.c.vmid == vmid).order_by(schedules.c.created_at, schedules.c.id)
    return with_last_runs(connection, [schedule_of(row._mapping) for row in connection.execute(query)])


def with_last_runs(connection: sa.Connection, found: Iterable[Schedule]) -> list[Schedule]:
    by_id = {schedule.id: schedule for schedule in found}
    newest = sa.select(sa.func.max(schedule_runs.c.id)).where(schedule_runs.c.schedule_id.in_(by_id))
    query = sa.select(*RUN_FIELDS).where(schedule_runs.c.id.in_(newest.group_by(schedule_runs.c.schedule_id)))
    last = {run.schedule_id: run for run in (run_of(row._mapping) for row in connection.execute(query))}
    return [replace(schedule, last_run=last.get(schedule.id)) for schedule in by_id.values()]


def schedule_of(row: Mapping[Any, Any]) -> Schedule:
    wish = Wish(
        name=row["name"],
        action=Action(row["action"]),
        cron=row["cron"],
        zone=row["zone"],
        command=row["command"],
        enabled=row["enabled"],
        retention=Retention(row["keep_last"], row["keep_daily"], row["keep_weekly"], row["keep_monthly"]),
    )
    return Schedule(
        id=row["id"],
        vmid=row["vmid"],
        wish=wish,
        author_id=row["author_id"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        next_at=row["next_at"],
    )


def run_of(row: Mapping[Any, Any]) -> Run:
    outcome = row["outcome"]
    values = {field.name: row[field.name] for field in RUN_FIELDS}
    return Run(**{**values, "outcome": outcome and Outcome(outcome), "deleted": tuple(row["deleted"])})


def _written(wish: Wish, author_id: int, now: datetime) -> dict[str, Any]:
    return {
        "name": wish.name,
        "action": wish.action.value,
        "command": wish.command,
        "cron": wish.cron,
        "zone": wish.zone,
        "enabled": wish.enabled,
        "keep_last": wish.retention.last,
        "keep_daily": wish.retention.daily,
        "keep_weekly": wish.retention.weekly,
        "keep_monthly": wish.retention.monthly,
        "author_id": author_id,
        "next_at": wish.next_run(now),
        "updated_at": now,
    }


def _hold_container(connection: sa.Connection, vmid: int) -> None:
    """Two requests at once do not both find room for the last one."""
    query = sa.select(containers.c.vmid).where(containers.c.vmid == vmid).with_for_update(key_share=True)
    if connection.execute(query).first() is None:
        raise AbsentError("there is no such server")


def _changed(connection: sa.Connection, schedule: Schedule) -> Schedule:
    notify(connection, SCHEDULES, schedule.id)
    return schedule


def _absent() -> AbsentError:
    return AbsentError("there is no such schedule")
