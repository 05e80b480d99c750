"""A ledger in memory, a fleet with agents that make backups in virtual time, and a clock that goes with Trio's."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import orjson
import trio

from zlh.model.accounts import Account, Role
from zlh.model.agent_calls import AgentAnswer, AgentCall
from zlh.model.backups import Backup, Backups, BackupState, Retention
from zlh.model.errors import AbsentError, ConflictError
from zlh.model.plans import Plan, check_backups
from zlh.model.schedules import Action, Run, Schedule, Wish
from zlh.store import StoreUnavailable
from zlh.store.schedule_runs import Claim, Ending, Round, Taken

NOW = datetime(2026, 6, 1, 4, tzinfo=UTC)
VMID = 5001
PLAN = Plan("test", 1, 1, 1, 1, 1, defaults=None, backups=3)  # type: ignore[arg-type]  # no container is sized here
OWNER = Account(7, "ada@example.com", "ada", "hash", Role.CUSTOMER, NOW, plan="test")


def now() -> datetime:
    """Trio's clock, from `NOW` on."""
    return NOW + timedelta(seconds=trio.current_time())


def a_run(action: Action = Action.RESTART, number: int = 1, vmid: int = VMID, **fields: Any) -> Taken:
    wish = Wish(name="nightly", action=action, cron="0 4 * * *", command="say hi" * (action is Action.COMMAND))
    wish = replace(wish, **{name: fields.pop(name) for name in ("retention", "zone") if name in fields})
    schedule = Schedule(
        id=f"s{number}", vmid=vmid, wish=wish, author_id=OWNER.id, created_at=NOW, updated_at=NOW, next_at=None
    )
    resumed = fields.pop("resumed", False)
    run = Run(id=number, schedule_id=schedule.id, **{"due_at": NOW, "by_hand": False, "attempt": 1, **fields})
    return Taken(run, schedule, resumed)


@dataclass
class FakeLedger:
    """Gives out what a test puts into `due` at its time. While `away`, nothing is answered."""

    due: list[tuple[datetime, Taken]] = field(default_factory=list)
    endings: dict[int, Ending] = field(default_factory=dict)
    makers: dict[str, str] = field(default_factory=dict)
    claims: dict[int, Claim] = field(default_factory=dict)
    given_back: list[int] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)
    away: bool = False
    nudge: Callable[[], None] = lambda: None

    async def hear(self, nudge: Callable[[], None]) -> None:
        self.nudge = nudge
        await trio.sleep_forever()

    async def take(self, claim: Claim, most: int) -> Round:
        await self._answer()
        self.looks.append(trio.current_time())
        self.due.sort(key=lambda entry: entry[0])
        ripe = [entry for entry in self.due if entry[0] <= claim.now][:most]
        for entry in ripe:
            self.due.remove(entry)
            self.claims[entry[1].run.id] = claim
        return Round([taken for _, taken in ripe], self.due[0][0] if self.due else None)

    async def renew(self, run_ids: Collection[int], claim: Claim) -> set[int]:
        await self._answer()
        ours = {run_id for run_id in run_ids if run_id in self.claims}
        self.claims |= dict.fromkeys(ours, claim)
        return ours

    async def end(self, run_id: int, owner: str, ending: Ending, now: datetime) -> bool:
        await self._answer()
        claim = self.claims.pop(run_id, None)
        if claim is None or claim.owner != owner:
            return False
        self.endings[run_id] = ending
        return True

    async def let_go(self, run_ids: Collection[int], owner: str) -> None:
        await self._answer()
        self.given_back += run_ids

    async def made(self, run_id: int, schedule_id: str, backup_id: str) -> None:
        await self._answer()
        self.makers[backup_id] = schedule_id

    async def backups_of(self, vmid: int) -> dict[str, str]:
        await self._answer()
        return dict(self.makers)

    async def forget_backups(self, schedule_id: str, backup_ids: Iterable[str]) -> None:
        await self._answer()
        for backup_id in backup_ids:
            self.makers.pop(backup_id, None)

    async def _answer(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise StoreUnavailable("the database is not reachable")


class FakeFleet:
    """One container; `calls` records every command. What is in `answers` is done by a command of that name first: it
    may raise, or wait."""

    def __init__(self, status: str = "running", plan: Plan = PLAN) -> None:
        self.status = status
        self.calls: list[tuple[Any, ...]] = []
        self.answers: dict[str, Callable[[], Awaitable[None]]] = {}
        self.backups = FakeBackups(self, plan)

    def container(self, vmid: int) -> Any:
        return SimpleNamespace(owner_id=OWNER.id)

    def server(self, vmid: int) -> Any:
        return SimpleNamespace(status=self.status)

    async def start_game(self, vmid: int) -> None:
        await self.called("start", vmid)

    async def stop_game(self, vmid: int) -> None:
        await self.called("stop", vmid)

    async def restart_game(self, vmid: int) -> None:
        await self.called("restart", vmid)

    async def call(self, vmid: int, call: AgentCall) -> AgentAnswer:
        await self.called("call", vmid, call.method, call.path, call.body)
        return AgentAnswer(202, b"")

    async def called(self, name: str, *arguments: Any) -> None:
        await trio.lowlevel.checkpoint()
        self.calls.append((name, *arguments))
        if name in self.answers:
            await self.answers[name]()

    def did(self) -> list[str]:
        """What was asked, but for looking."""
        return [name for name, *_ in self.calls if name != "all"]


class FakeBackups:
    """Takes `seconds` for each, and then says `state`; its clock is `behind`."""

    def __init__(self, fleet: FakeFleet, plan: Plan) -> None:
        self._fleet = fleet
        self._plan = plan
        self._numbers = itertools.count(1)
        self.seconds = 60.0
        self.state = BackupState.READY
        self.behind = timedelta()
        self._made: list[tuple[float, Backup]] = []

    def add(self, created_at: datetime, name: str = "by hand", **fields: Any) -> str:
        """One that is ready."""
        backup = Backup(f"b{next(self._numbers)}", name, created_at, 1, BackupState.READY, **fields)
        self._made.append((trio.current_time(), backup))
        return backup.id

    def there(self) -> tuple[Backup, ...]:
        present = trio.current_time()
        return tuple(
            backup if ready_at <= present else replace(backup, state=BackupState.CREATING, error=None)
            for ready_at, backup in self._made
        )

    def ids(self) -> list[str]:
        return [backup.id for backup in self.there()]

    def begin(self, name: str) -> str:
        error = "no room" if self.state is BackupState.FAILED else None
        backup = Backup(f"b{next(self._numbers)}", name, now() - self.behind, 1, self.state, error=error)
        self._made.append((trio.current_time() + self.seconds, backup))
        return backup.id

    async def all(self, vmid: int) -> Backups:
        await self._fleet.called("all", vmid)
        return Backups(self.there())

    async def create(self, vmid: int, owner: Account, name: str | None = None, *, beyond: int = 0) -> AgentAnswer:
        check_backups(self._plan, self.there(), beyond=beyond)
        await self._fleet.called("create", vmid, owner.id, name)
        return AgentAnswer(202, orjson.dumps({"id": self.begin(name or "")}))

    async def delete(self, vmid: int, backup_id: str) -> AgentAnswer:
        await self._fleet.called("delete", vmid, backup_id)
        found = Backups(self.there()).find(backup_id)
        if found is None:
            raise AbsentError("there is no such backup")
        if found.locked:
            raise ConflictError("the backup is locked; unlock it first", code="locked")
        self._made = [(ready_at, backup) for ready_at, backup in self._made if backup.id != backup_id]
        return AgentAnswer(204, b"")


KEEP_TWO = Retention(last=2)
