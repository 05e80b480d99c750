"""What a run asks of a container, and what becomes of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.schedules.fakes import OWNER, VMID, FakeFleet, FakeLedger, a_run, now
from zlh.model.access import Permission
from zlh.model.accounts import Account
from zlh.model.errors import (
    AbsentError,
    AgentProblemError,
    AgentUnreachableError,
    AgentUnsupportedError,
    ConflictError,
    DeadlineError,
    ForbiddenError,
    PaymentRequiredError,
    ProblemError,
    UnavailableError,
)
from zlh.model.schedules import Action, Outcome
from zlh.schedules import Worker
from zlh.schedules.work import NOT_ALLOWED
from zlh.store.schedule_runs import Ending


class Desk:
    """A worker, whose author may everything until `refusal` is set."""

    def __init__(self, fleet: FakeFleet, ledger: FakeLedger | None = None) -> None:
        self.refusal: ProblemError | None = None
        self.asked: list[tuple[int, int, Permission]] = []
        self.worker = Worker(fleet, ledger or FakeLedger(), check=self._check, account=self._account, now=now)

    def _check(self, account_id: int, vmid: int, permission: Permission) -> None:
        self.asked.append((account_id, vmid, permission))
        if self.refusal is not None:
            raise self.refusal

    async def _account(self, account_id: int) -> Account:
        assert account_id == OWNER.id
        return OWNER

    async def do(self, *arguments: Any, **fields: Any) -> Ending:
        return await self.worker.carry_out(a_run(*arguments, **fields))


@pytest.mark.parametrize(
    ("action", "status", "asked"),
    [
        (Action.START, "stopped", [("start", VMID)]),
        (Action.START, "crashed", [("start", VMID)]),
        (Action.STOP, "running", [("stop", VMID)]),
        (Action.RESTART, "running", [("restart", VMID)]),
        (Action.RESTART, "unknown", [("restart", VMID)]),
        (Action.COMMAND, "running", [("call", VMID, "POST", "/console/command", {"command": "say hi"})]),
    ],
)
async def test_it_is_asked_of_the_container(action: Action, status: str, asked: list[Any]) -> None:
    fleet = FakeFleet(status)
    desk = Desk(fleet)
    assert await desk.do(action) == Ending(Outcome.SUCCEEDED)
    assert fleet.calls == asked
    assert desk.asked == [(OWNER.id, VMID, action.permission)]


@pytest.mark.parametrize(
    ("action", "status"),
    [
        (Action.RESTART, "stopped"),
        (Action.START, "running"),
        (Action.START, "starting"),
        (Action.STOP, "stopped"),
        (Action.STOP, "host offline"),
    ],
)
async def test_where_there_is_nothing_to_do_it_is_skipped_with_a_reason(action: Action, status: str) -> None:
    fleet = FakeFleet(status)
    ending = await Desk(fleet).do(action)
    assert ending.outcome is Outcome.SKIPPED
    assert ending.error
    assert fleet.calls == []


@pytest.mark.parametrize(
    ("problem", "outcome"),
    [
        (ConflictError("the container is off; start it first", code="host_offline"), Outcome.REFUSED),
        (ConflictError("an upgrade is under way", code="operation_in_flight"), Outcome.REFUSED),
        (ForbiddenError("the account is suspended", code="suspended"), Outcome.REFUSED),
        (PaymentRequiredError("there is no active plan for this account"), Outcome.REFUSED),
        (AgentProblemError(409, "not in this state"), Outcome.REFUSED),
        (AgentUnsupportedError("too old for that"), Outcome.REFUSED),
        (AbsentError("there is no container 5001"), Outcome.REFUSED),
        (AgentProblemError(500, "a bug of the agent"), Outcome.FAILED),
        (AgentUnreachableError("the agent does not answer"), Outcome.FAILED),
        (UnavailableError("too many commands wait"), Outcome.FAILED),
    ],
)
async def test_a_refusal_is_the_outcome_with_its_reason(problem: ProblemError, outcome: Outcome) -> None:
    async def refuse() -> None:
        raise problem

    fleet = FakeFleet()
    fleet.answers = {"restart": refuse}
    assert await Desk(fleet).do(Action.RESTART) == Ending(outcome, problem.message)


async def test_what_may_have_happened_all_the_same_is_said() -> None:
    async def too_late() -> None:
        raise DeadlineError("the container did not answer within 15 s", details={"mayTakeEffect": True})

    fleet = FakeFleet()
    fleet.answers = {"call": too_late}
    ending = await Desk(fleet).do(Action.COMMAND)
    expected = "the container did not answer within 15 s; it may have taken effect"
    assert ending == Ending(Outcome.FAILED, expected)


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (ForbiddenError("the account is suspended", code="suspended"), "the account is suspended"),
        (ForbiddenError("you may not do that with this server", code="not_permitted"), NOT_ALLOWED),
        (AbsentError("there is no such server"), NOT_ALLOWED),
    ],
)
async def test_who_may_not_any_more_has_nothing_done(refusal: ProblemError, words: str) -> None:
    fleet = FakeFleet()
    desk = Desk(fleet)
    desk.refusal = refusal
    for action in Action:
        assert await desk.do(action) == Ending(Outcome.REFUSED, words)
    assert fleet.calls == []
