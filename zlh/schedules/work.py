"""One run: what is asked of the container, and what its answer means."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, Protocol

import trio

from zlh.model.access import Permission
from zlh.model.accounts import Account
from zlh.model.agent_calls import AgentAnswer, AgentCall, Feature
from zlh.model.containers import Container
from zlh.model.errors import (
    AbsentError,
    AgentUnreachableError,
    DeadlineError,
    ForbiddenError,
    PaymentRequiredError,
    ProblemError,
    UnavailableError,
)
from zlh.model.schedules import Action, Outcome
from zlh.model.servers import Server
from zlh.schedules.backups import BackupCommands, BackupWork
from zlh.schedules.ledger import Ledger
from zlh.store.schedule_runs import Ending, Taken

CALLS_AT_ONCE: Final = 32

NOTHING_TO_DO: Final = {
    (Action.RESTART, "stopped"): "it is stopped, so there is nothing to restart",
    (Action.START, "running"): "it runs already",
    (Action.START, "starting"): "it is being started already",
    (Action.STOP, "stopped"): "it is stopped already",
    (Action.STOP, "host offline"): "the container is off already",
}
"""By what is to be done, and the server's status."""


class Fleet(Protocol):
    """What a run may ask of the containers; refusals are ProblemErrors."""

    @property
    def backups(self) -> BackupCommands: ...

    def container(self, vmid: int) -> Container: ...

    def server(self, vmid: int) -> Server: ...

    async def start_game(self, vmid: int) -> None: ...

    async def stop_game(self, vmid: int) -> None: ...

    async def restart_game(self, vmid: int) -> None: ...

    async def call(self, vmid: int, call: AgentCall) -> AgentAnswer: ...


NOT_ALLOWED: Final = "whoever set this up may not do it any more; whoever changes the schedule takes it over"

# Raises ForbiddenError or AbsentError where that account may not do that at that container as things stand now.
Check = Callable[[int, int, Permission], None]

# An account by its id.
Accounts = Callable[[int], Awaitable[Account]]


class Worker:
    """Carries runs out; at most `CALLS_AT_ONCE` of them ask something of a container at the same time."""

    def __init__(
        self,
        fleet: Fleet,
        ledger: Ledger,
        *,
        check: Check,
        account: Accounts,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._fleet = fleet
        self._check = check
        self._turns = trio.CapacityLimiter(CALLS_AT_ONCE)

        async def owner_of(vmid: int) -> Account:
            return await account(fleet.container(vmid).owner_id)

        self._backups = BackupWork(fleet.backups, ledger, owner_of, self._turns, now=now)

    async def carry_out(self, taken: Taken) -> Ending:
        schedule = taken.schedule
        try:
            self._check(schedule.author_id, schedule.vmid, schedule.wish.action.permission)
        except ForbiddenError as refusal:
            return Ending(Outcome.REFUSED, refusal.message if refusal.code == "suspended" else NOT_ALLOWED)
        except AbsentError:
            return Ending(Outcome.REFUSED, NOT_ALLOWED)
        try:
            return await self._do(taken)
        except ProblemError as problem:
            return Ending(outcome_of(problem), in_words(problem))

    async def _do(self, taken: Taken) -> Ending:
        vmid, wish = taken.schedule.vmid, taken.schedule.wish
        if wish.action is Action.BACKUP:
            return await self._backups.make(taken)
        nothing = NOTHING_TO_DO.get((wish.action, self._fleet.server(vmid).status))
        if nothing is not None:
            return Ending(Outcome.SKIPPED, nothing)
        async with self._turns:
            match wish.action:
                case Action.START:
                    await self._fleet.start_game(vmid)
                case Action.STOP:
                    await self._fleet.stop_game(vmid)
                case Action.RESTART:
                    await self._fleet.restart_game(vmid)
                case Action.COMMAND:
                    body = {"command": wish.command}
                    await self._fleet.call(vmid, AgentCall(Feature.COMMAND, "POST", "/console/command", body=body))
        return Ending(Outcome.SUCCEEDED)


def outcome_of(problem: ProblemError) -> Outcome:
    """Refused is what the container, its agent, its owner's plan or the account does not allow."""
    if isinstance(problem, AgentUnreachableError | DeadlineError | UnavailableError):
        return Outcome.FAILED
    if isinstance(problem, ForbiddenError | PaymentRequiredError) or problem.status == 501:
        return Outcome.REFUSED
    return Outcome.REFUSED if problem.status < 500 else Outcome.FAILED


def in_words(problem: ProblemError) -> str:
    details = problem.details
    unsure = isinstance(details, dict) and details.get("mayTakeEffect")
    return f"{problem.message}; it may have taken effect" if unsure else problem.message
