"""The backups of a schedule: one is made, and when it is ready, those that are no longer wanted go.

Only what the schedule has made itself is deleted, never a locked one, and never the last that is ready.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import Final, Protocol
from weakref import WeakValueDictionary
from zoneinfo import ZoneInfo

import orjson
import trio

from zlh.model.accounts import Account
from zlh.model.agent_calls import AgentAnswer
from zlh.model.backups import Backup, Backups, BackupState, expired
from zlh.model.errors import (
    AbsentError,
    AgentUnreachableError,
    ConflictError,
    DeadlineError,
    PlanLimitError,
    ProblemError,
)
from zlh.model.schedules import Outcome, Schedule
from zlh.schedules.ledger import Ledger, patiently
from zlh.store.schedule_runs import Ending, Taken

MOST_SECONDS: Final = 2 * 3600.0
"""How long a backup may take."""

PATIENCE_SECONDS: Final = 600.0
"""How long an agent that makes one may say nothing."""

AT_ONCE: Final = 64
"""Backups under way: each is work for the machine that its container shares with others."""

FIRST_LOOK_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 15.0

_ID: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")


class BackupCommands(Protocol):
    """See `zlh.containers.backups.BackupCommands`."""

    async def all(self, vmid: int) -> Backups: ...

    async def create(self, vmid: int, owner: Account, name: str | None = None, *, beyond: int = 0) -> AgentAnswer: ...

    async def delete(self, vmid: int, backup_id: str) -> AgentAnswer: ...


class BackupWork:
    def __init__(
        self,
        commands: BackupCommands,
        ledger: Ledger,
        owner_of: Callable[[int], Awaitable[Account]],
        turns: trio.CapacityLimiter,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._commands = commands
        self._ledger = ledger
        self._owner_of = owner_of
        self._turns = turns
        self._now = now
        self._places = trio.CapacityLimiter(AT_ONCE)
        self._containers: WeakValueDictionary[int, trio.Lock] = WeakValueDictionary()

    async def make(self, taken: Taken) -> Ending:
        """Raises ProblemError where it could not be begun."""
        # One at a time of each container: an agent that is never done has one place, and leaves the others theirs.
        alone = self._containers.setdefault(taken.schedule.vmid, trio.Lock())
        async with alone, self._places:
            return await self._make(taken)

    async def _make(self, taken: Taken) -> Ending:
        schedule = taken.schedule
        gone: list[str] = []
        backup_id = await self._begun(taken) if taken.resumed else None
        if backup_id is None:
            try:
                backup_id = await self._begin(taken)
            except PlanLimitError as full:
                backup_id = await self._begin(taken, beyond=await self._beyond(schedule, full))
        await self._ledger.made(taken.run.id, schedule.id, backup_id)
        backup = await self._follow(schedule.vmid, backup_id)
        if isinstance(backup, str):
            return Ending(Outcome.FAILED, backup, backup_id, tuple(gone))
        if backup.state is BackupState.FAILED:
            return Ending(Outcome.FAILED, backup.error or "the agent gives no reason", backup_id, tuple(gone))
        problem = await self._tidy_up(schedule, backup_id, gone)
        return Ending(Outcome.SUCCEEDED, problem, backup_id, tuple(gone))

    # Beginning

    async def _begin(self, taken: Taken, *, beyond: int = 0) -> str:
        schedule, name = taken.schedule, name_of(taken)
        owner = await patiently(lambda: self._owner_of(schedule.vmid))
        try:
            async with self._turns:
                return _id_in(await self._commands.create(schedule.vmid, owner, name, beyond=beyond))
        except (AgentUnreachableError, DeadlineError):
            # It may have begun all the same: two would be one too many.
            found = await self._begun_all_the_same(taken)
            if found is None:
                raise
            return found

    async def _begun(self, taken: Taken) -> str | None:
        """The backup of this run that somebody began before."""
        vmid = taken.schedule.vmid
        async with self._turns:
            there = await self._commands.all(vmid)
        if taken.run.backup_id is not None:
            return taken.run.backup_id if there.find(taken.run.backup_id) is not None else None
        known = await self._ledger.backups_of(vmid)
        name = name_of(taken)
        found = [backup.id for backup in there.backups if backup.name == name and backup.id not in known]
        return found[-1] if found else None

    async def _begun_all_the_same(self, taken: Taken) -> str | None:
        try:
            return await self._begun(taken)
        except ProblemError:
            return None

    async def _beyond(self, schedule: Schedule, full: PlanLimitError) -> int:
        """How many more than the plan has may be there until the new one is ready, because retention deletes as many
        then: whoever deleted first would have one less if the new one failed. Raises `full` where that is not
        enough."""
        makers, there = await self._look(schedule)
        coming = Backup("", "", self._now(), 0, BackupState.READY)
        makers[coming.id] = schedule.id
        needed = _needed(full)
        if len(self._expired(schedule, makers, (*there.backups, coming))) < needed:
            raise full
        return needed

    # Following

    async def _follow(self, vmid: int, backup_id: str) -> Backup | str:
        """The backup once it is ready or failed, or why that will not be known."""
        heard, pause = trio.current_time(), FIRST_LOOK_SECONDS
        silence = ""
        with trio.move_on_after(MOST_SECONDS):
            while trio.current_time() - heard < PATIENCE_SECONDS:
                await trio.sleep(pause)
                pause = min(1.5 * pause, LONGEST_PAUSE_SECONDS)
                try:
                    there = await self._commands.all(vmid)
                except AbsentError:
                    return "the container is gone"
                except ProblemError as problem:
                    silence = problem.message
                    continue
                heard = trio.current_time()
                backup = there.find(backup_id)
                if backup is None:
                    return "the agent does not know of the backup any more"
                if backup.state is not BackupState.CREATING:
                    return backup
            return f"nothing was heard of the backup for {PATIENCE_SECONDS / 60:g} minutes: {silence}"
        return f"the backup was not ready within {MOST_SECONDS / 3600:g} hours"

    # Retention

    async def _tidy_up(self, schedule: Schedule, newest: str, gone: list[str]) -> str | None:
        """Why not all was deleted that should have been. `newest` stays, however old its agent's clock makes it."""
        try:
            makers, there = await self._look(schedule)
            mine = {backup_id for backup_id, maker in makers.items() if maker == schedule.id}
            await self._ledger.forget_backups(schedule.id, mine - {backup.id for backup in there.backups})
            unwanted = [found for found in self._expired(schedule, makers, there.backups) if found.id != newest]
            await self._delete(schedule, unwanted, gone)
        except ProblemError as problem:
            return f"the backup is ready, but not all that is no longer wanted was deleted: {problem.message}"
        return None

    async def _look(self, schedule: Schedule) -> tuple[dict[str, str], Backups]:
        """Which schedule made which backup, and what is there."""
        makers = await self._ledger.backups_of(schedule.vmid)
        async with self._turns:
            return makers, await self._commands.all(schedule.vmid)

    def _expired(self, schedule: Schedule, makers: Mapping[str, str], there: Iterable[Backup]) -> list[Backup]:
        return expired(
            there,
            schedule.wish.retention,
            self._now(),
            zone=ZoneInfo(schedule.wish.zone),
            ours=lambda backup: makers.get(backup.id) == schedule.id,
        )

    async def _delete(self, schedule: Schedule, unwanted: Iterable[Backup], gone: list[str]) -> None:
        """Adds the ids of those that are gone to `gone`."""
        for backup in unwanted:
            try:
                async with self._turns:
                    await self._commands.delete(schedule.vmid, backup.id)
            except AbsentError:
                pass  # somebody else was quicker
            except ConflictError:
                continue  # it was locked in this moment
            await self._ledger.forget_backups(schedule.id, [backup.id])
            gone.append(backup.id)


def name_of(taken: Taken) -> str:
    """By which a backup is found again that was begun by somebody who is gone."""
    local = taken.run.due_at.astimezone(ZoneInfo(taken.schedule.wish.zone))
    return f"{taken.schedule.wish.name} {local:%Y-%m-%d %H:%M}"


def _id_in(answer: AgentAnswer) -> str:
    """Raises AgentUnreachableError."""
    told = orjson.loads(answer.body or b"null")
    backup_id = told.get("id") if isinstance(told, dict) else None
    if not isinstance(backup_id, str) or _ID.fullmatch(backup_id) is None:
        raise AgentUnreachableError(
            "the agent did not say which backup it has begun", details={"mayTakeEffect": True}
        )
    return backup_id


def _needed(full: PlanLimitError) -> int:
    """How many are too many with one more."""
    (exceeded,) = full.details["exceeded"]
    used, allowed = exceeded["used"], exceeded["allowed"]
    assert isinstance(used, int)
    assert isinstance(allowed, int)
    return used - allowed + 1
