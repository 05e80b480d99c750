"""The schedules of containers, as the API asks for them and changes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import sqlalchemy as sa

from zlh.model.accounts import Account
from zlh.model.errors import PaymentRequiredError
from zlh.model.plans import Plan, plan_of
from zlh.model.schedules import Run, Schedule, Wish
from zlh.store import Database, schedule_runs
from zlh.store import schedules as rows


def _now() -> datetime:
    return datetime.now(UTC)


class ScheduleBook:
    """`plans` by name. Whether somebody may do what is asked is the caller's to know. What is changed here, the
    scheduler hears of, in whatever process it is. Everything may raise StoreUnavailable, and AbsentError where the
    container has no such schedule."""

    def __init__(self, database: Database, plans: Mapping[str, Plan], *, now: Callable[[], datetime] = _now) -> None:
        self._database = database
        self._plans = plans
        self._now = now

    async def of_container(self, vmid: int) -> list[Schedule]:
        """The oldest first."""
        return await self._database.run(rows.of_container, vmid)

    async def get(self, vmid: int, schedule_id: str) -> Schedule:
        return await self._database.run(rows.get, vmid, schedule_id)

    async def create(self, owner: Account, vmid: int, wish: Wish, *, author_id: int) -> Schedule:
        """`owner` is the container's. Raises PaymentRequiredError, PlanLimitError, ValueError for a time that cannot
        be read."""
        plan = plan_of(owner, self._plans)
        if plan is None:
            raise PaymentRequiredError("there is no active plan for this account")
        return await self._database.run(rows.create, vmid, wish, author_id=author_id, plan=plan, now=self._now())

    async def change(self, vmid: int, schedule_id: str, edit: Callable[[Wish], Wish], *, author_id: int) -> Schedule:
        """Puts what `edit`, which runs in another thread, makes of it in place of what is wanted; from now on it is
        done in the author's name."""
        now = self._now()
        return await self._database.run(rows.change, vmid, schedule_id, edit, author_id=author_id, now=now)

    async def delete(self, vmid: int, schedule_id: str) -> None:
        """A run that is under way is given up; what it has begun at the agent goes on there."""
        await self._database.run(rows.delete, vmid, schedule_id)

    async def run_now(self, vmid: int, schedule_id: str) -> Run:
        """It waits for its turn. Raises ConflictError "running"."""
        return await self._database.run(schedule_runs.enqueue, vmid, schedule_id, self._now())

    async def runs(self, vmid: int, schedule_id: str) -> list[Run]:
        """The newest first."""

        def read(connection: sa.Connection) -> list[Run]:
            return schedule_runs.of_schedule(connection, rows.get(connection, vmid, schedule_id).id)

        return await self._database.run(read)
