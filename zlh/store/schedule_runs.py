"""What became of schedules: runs that are due are claimed by one process at a time. Every function runs in the
caller's transaction.

A claim has an owner (a name that no other process and no later start of it has) and an end, and is renewed by who
works on it; what was claimed too long ago is lost, and can be ended by its former owner no more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from zlh.model.errors import AbsentError, ConflictError
from zlh.model.schedules import LATEST, Outcome, Run, Schedule, again, newest_due, next_run, too_late
from zlh.store.notify import SCHEDULES, notify
from zlh.store.schedules import RUN_FIELDS, run_of, schedule_of
from zlh.store.tables import schedule_backups, schedule_runs, schedules

KEPT: Final = 50
"""Of each schedule."""

LONGEST_ERROR: Final = 500

LOST: Final = "the process that was at it went away; it may have taken effect"
OVERLAPS: Final = "the run before it was still under way"
MISSED: Final = "nobody was there to do it until a later one was due"
TOO_LATE: Final = f"nobody was there to do it within {LATEST.total_seconds() / 60:g} minutes"

_OPEN: Final = schedule_runs.c.outcome.is_(None)


@dataclass(frozen=True, slots=True)
class Claim:
    """Who claims, from when, and until when if it is not renewed."""

    owner: str
    now: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Taken:
    """A run that is the claimer's now. `resumed`: somebody may have begun with it before."""

    run: Run
    schedule: Schedule
    resumed: bool


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended."""

    outcome: Outcome
    error: str | None = None
    backup_id: str | None = None
    deleted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Round:
    """What `take` found; `look_at` is when there may be more, None where nothing is planned."""

    taken: list[Taken]
    look_at: datetime | None


def of_schedule(connection: sa.Connection, schedule_id: str) -> list[Run]:
    """The newest first."""
    query = sa.select(*RUN_FIELDS).where(schedule_runs.c.schedule_id == schedule_id)
    return [run_of(row._mapping) for row in connection.execute(query.order_by(schedule_runs.c.id.desc()).limit(KEPT))]


def enqueue(connection: sa.Connection, vmid: int, schedule_id: str, now: datetime) -> Run:
    """Has it run now, whether it is switched on or not. Raises AbsentError, ConflictError "running"."""
    query = sa.select(schedules.c.id).where(schedules.c.vmid == vmid, schedules.c.id == schedule_id)
    if connection.execute(query.with_for_update(key_share=True)).first() is None:
        raise AbsentError("there is no such schedule")
    if _open_run(connection, schedule_id):
        raise ConflictError("this schedule is being carried out already", code="running")
    run = _insert(connection, schedule_id, due_at=now, by_hand=True)
    notify(connection, SCHEDULES, schedule_id)
    return run


def take(connection: sa.Connection, claim: Claim, most: int) -> Round:
    """Up to `most` runs: those that were lost and are tried again, those that wait, those that are due."""
    taken = _lost(connection, claim, most)
    taken += _waiting(connection, claim, most - len(taken))
    taken += _due(connection, claim, most - len(taken))
    return Round(taken, _next_look(connection, claim.owner))


def renew(connection: sa.Connection, run_ids: Collection[int], claim: Claim) -> set[int]:
    """Those of the runs that are still the owner's."""
    statement = (
        sa.update(schedule_runs)
        .where(schedule_runs.c.id.in_(run_ids), schedule_runs.c.claimed_by == claim.owner, _OPEN)
        .values(claimed_until=claim.until)
        .returning(schedule_runs.c.id)
    )
    return set(connection.execute(statement).scalars())


def end(connection: sa.Connection, run_id: int, owner: str, ending: Ending, now: datetime) -> bool:
    """False where it is not the owner's any more."""
    values = {
        "outcome": ending.outcome.value,
        "error": ending.error and ending.error[:LONGEST_ERROR].replace("\0", ""),
        "ended_at": now,
        "backup_id": sa.func.coalesce(ending.backup_id, schedule_runs.c.backup_id),
        "deleted": list(ending.deleted),
    }
    statement = sa.update(schedule_runs).where(
        schedule_runs.c.id == run_id, schedule_runs.c.claimed_by == owner, _OPEN
    )
    return connection.execute(statement.values(values)).rowcount == 1


def let_go(connection: sa.Connection, run_ids: Collection[int], owner: str) -> None:
    """Gives runs back that can be begun anew: they wait for the next one who looks."""
    statement = (
        sa.update(schedule_runs)
        .where(schedule_runs.c.id.in_(run_ids), schedule_runs.c.claimed_by == owner, _OPEN)
        .values(claimed_by=None, claimed_until=None)
        .returning(schedule_runs.c.schedule_id)
    )
    for schedule_id in connection.execute(statement).scalars().all():
        notify(connection, SCHEDULES, schedule_id)


def made(connection: sa.Connection, run_id: int, schedule_id: str, backup_id: str) -> None:
    """The run has made that backup, or is at it. No-op where the schedule was deleted."""
    still_there = sa.select(schedules.c.id, sa.literal(backup_id)).where(schedules.c.id == schedule_id)
    statement = insert(schedule_backups).from_select(
        ["schedule_id", "backup_id"], still_there.with_for_update(read=True, key_share=True)
    )
    connection.execute(statement.on_conflict_do_nothing())
    connection.execute(
        sa.update(schedule_runs).where(schedule_runs.c.id == run_id, _OPEN).values(backup_id=backup_id)
    )


def backups_of(connection: sa.Connection, vmid: int) -> dict[str, str]:
    """The schedule that made it, by backup, for all of a container's backups that a schedule has made."""
    query = (
        sa.select(schedule_backups.c.backup_id, schedule_backups.c.schedule_id)
        .join(schedules, schedules.c.id == schedule_backups.c.schedule_id)
        .where(schedules.c.vmid == vmid)
    )
    return {row.backup_id: row.schedule_id for row in connection.execute(query)}


def forget_backups(connection: sa.Connection, schedule_id: str, backup_ids: Iterable[str]) -> None:
    """They are gone."""
    mine = schedule_backups.c.schedule_id == schedule_id, schedule_backups.c.backup_id.in_(list(backup_ids))
    connection.execute(sa.delete(schedule_backups).where(*mine))


def purge(connection: sa.Connection) -> int:
    """Forgets all but the last runs of each schedule; returns how many."""
    place = sa.func.row_number().over(partition_by=schedule_runs.c.schedule_id, order_by=schedule_runs.c.id.desc())
    numbered = sa.select(schedule_runs.c.id, place.label("place")).subquery()
    old = sa.select(numbered.c.id).where(numbered.c.place > KEPT)
    return connection.execute(sa.delete(schedule_runs).where(schedule_runs.c.id.in_(old), ~_OPEN)).rowcount


def _lost(connection: sa.Connection, claim: Claim, most: int) -> list[Taken]:
    """Ends what was claimed too long ago, and claims it anew where it may be tried again."""
    query = (
        sa.select(*RUN_FIELDS)
        # What oneself has claimed one works on, whatever the clock did.
        .where(_OPEN, schedule_runs.c.claimed_until <= claim.now, schedule_runs.c.claimed_by != claim.owner)
        .order_by(schedule_runs.c.claimed_until)
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    taken = []
    for run in [run_of(row._mapping) for row in connection.execute(query)]:
        values = {"outcome": Outcome.LOST.value, "error": LOST, "ended_at": claim.now}
        connection.execute(sa.update(schedule_runs).where(schedule_runs.c.id == run.id).values(values))
        schedule = _schedule(connection, run.schedule_id)
        if again(schedule.wish.action, run, schedule.next_at, claim.now):
            anew = _insert(
                connection,
                schedule.id,
                due_at=run.due_at,
                by_hand=run.by_hand,
                attempt=run.attempt + 1,
                backup_id=run.backup_id,
                **_claimed(claim),
            )
            taken.append(Taken(anew, schedule, resumed=True))
    return taken


def _waiting(connection: sa.Connection, claim: Claim, most: int) -> list[Taken]:
    chosen = (
        sa.select(schedule_runs.c.id)
        .where(_OPEN, schedule_runs.c.claimed_by.is_(None))
        .order_by(schedule_runs.c.id)
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    begun = schedule_runs.c.started_at.is_not(None).label("begun")
    query = sa.select(schedule_runs.c.id, begun).where(schedule_runs.c.id.in_(chosen))
    resumed = {row.id: row.begun for row in connection.execute(query)}
    values = _claimed(claim) | {"started_at": sa.func.coalesce(schedule_runs.c.started_at, claim.now)}
    statement = sa.update(schedule_runs).where(schedule_runs.c.id.in_(resumed)).values(values).returning(*RUN_FIELDS)
    runs = sorted((run_of(row._mapping) for row in connection.execute(statement)), key=lambda run: run.id)
    taken = [Taken(run, _schedule(connection, run.schedule_id), resumed[run.id]) for run in runs]
    late = [each for each in taken if too_late(each.schedule.wish.action, each.run.due_at, claim.now)]
    for each in late:
        end(connection, each.run.id, claim.owner, Ending(Outcome.MISSED, TOO_LATE), claim.now)
    return [each for each in taken if each not in late]


def _due(connection: sa.Connection, claim: Claim, most: int) -> list[Taken]:
    query = (
        sa.select(schedules)
        .where(schedules.c.next_at <= claim.now)
        .order_by(schedules.c.next_at, schedules.c.id)
        .limit(most)
        .with_for_update(skip_locked=True, key_share=True)
    )
    found = [schedule_of(row._mapping) for row in connection.execute(query)]
    taken = []
    for schedule in found:
        run = _begin(connection, schedule, claim)
        if run is not None:
            taken.append(Taken(run, schedule, resumed=False))
    return taken


def _begin(connection: sa.Connection, schedule: Schedule, claim: Claim) -> Run | None:
    """The run that is due, and from when on the next one is; None where that is not to be carried out."""
    wish, due = schedule.wish, schedule.next_at
    assert due is not None
    try:
        newest = newest_due(wish.cron, wish.zone, due, claim.now)
        following = next_run(wish.cron, wish.zone, claim.now)
    except ValueError as error:
        # Time zones are renamed, libraries become stricter: it must not keep the others from running.
        _plan(connection, schedule, None, enabled=False)
        _insert(connection, schedule.id, due_at=due, **_ended(Outcome.FAILED, f"switched off: {error}", claim.now))
        return None
    _plan(connection, schedule, following)
    if _open_run(connection, schedule.id):
        _insert(connection, schedule.id, due_at=newest, **_ended(Outcome.SKIPPED, OVERLAPS, claim.now))
        return None
    if newest > due:
        _insert(connection, schedule.id, due_at=due, **_ended(Outcome.MISSED, MISSED, claim.now))
    if too_late(wish.action, newest, claim.now):
        _insert(connection, schedule.id, due_at=newest, **_ended(Outcome.MISSED, TOO_LATE, claim.now))
        return None
    return _insert(connection, schedule.id, due_at=newest, **_claimed(claim))


def _next_look(connection: sa.Connection, owner: str) -> datetime | None:
    planned = sa.select(sa.func.min(schedules.c.next_at)).scalar_subquery()
    of_others = _OPEN, schedule_runs.c.claimed_by != owner
    claimed = sa.select(sa.func.min(schedule_runs.c.claimed_until)).where(*of_others).scalar_subquery()
    found: datetime | None = connection.execute(sa.select(sa.func.least(planned, claimed))).scalar_one()
    return found


def _plan(connection: sa.Connection, schedule: Schedule, next_at: datetime | None, *, enabled: bool = True) -> None:
    statement = sa.update(schedules).where(schedules.c.id == schedule.id)
    connection.execute(statement.values(next_at=next_at, enabled=enabled))


def _insert(
    connection: sa.Connection,
    schedule_id: str,
    *,
    due_at: datetime,
    by_hand: bool = False,
    attempt: int = 1,
    **values: Any,
) -> Run:
    given = {"schedule_id": schedule_id, "due_at": due_at, "by_hand": by_hand, "attempt": attempt, **values}
    return run_of(connection.execute(sa.insert(schedule_runs).values(given).returning(*RUN_FIELDS)).one()._mapping)


def _claimed(claim: Claim) -> dict[str, Any]:
    return {"claimed_by": claim.owner, "claimed_until": claim.until, "started_at": claim.now}


def _ended(outcome: Outcome, error: str, now: datetime) -> dict[str, Any]:
    return {"outcome": outcome.value, "error": error, "ended_at": now}


def _open_run(connection: sa.Connection, schedule_id: str) -> bool:
    query = sa.select(schedule_runs.c.id).where(schedule_runs.c.schedule_id == schedule_id, _OPEN)
    return connection.execute(query).first() is not None


def _schedule(connection: sa.Connection, schedule_id: str) -> Schedule:
    row = connection.execute(sa.select(schedules).where(schedules.c.id == schedule_id)).one()
    return schedule_of(row._mapping)
