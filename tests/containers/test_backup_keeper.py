"""Changes of one container's backups, with an agent that answers as a test says: counted, refused, passed on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.containers.samples import a_row, an_operation
from zlh.containers.backups import BackupKeeper, ChangeBackup, CreateBackup, DeleteBackup, RestoreBackup
from zlh.containers.cell import Cell
from zlh.drivers.agent import Answer
from zlh.drivers.errors import Unreachable
from zlh.model.agent_calls import AgentAnswer, Feature
from zlh.model.containers import Desired, Resources
from zlh.model.errors import ProblemError
from zlh.model.observed import AgentObservation, AgentState, Status, Version
from zlh.model.operations import OperationKind
from zlh.model.plans import Plan

PLAN = Plan("small", 1, 1, 1024, 1, 10, Resources(1024, 1, 10), backups=2)
CREATE, RENAME, LOCK = (
    CreateBackup(None, PLAN),
    ChangeBackup("b1", {"name": "x"}),
    ChangeBackup("b1", {"locked": True}),
)
DELETE = DeleteBackup("b1")
RESTORE = RestoreBackup("b1", stop=True, start=None, actor_id=None)


def a_backup(number: int = 1, **changes: Any) -> dict[str, Any]:
    entry = {
        "id": f"b{number}",
        "name": "one",
        "createdAt": "2026-03-01T12:00:00Z",
        "state": "ready",
        "locked": False,
    }
    return {**entry, **changes}


class Agent:
    """`answers` by method; what is asked takes `seconds`. Backups that are made are listed from then on."""

    def __init__(self, *listed: dict[str, Any]) -> None:
        self.listed = list(listed)
        self.answers: dict[str, Answer | Exception] = {}
        self.asked: list[tuple[str, str, Any]] = []
        self.seconds = 0.1
        self.restore: dict[str, Any] | None = None
        self.state = AgentState.IDLE
        self.then: Callable[[], None] = lambda: None

    def __call__(self, row: object, token: str) -> Agent:
        return self

    def close(self) -> None:
        pass

    async def status(self) -> Status:
        await trio.sleep(self.seconds)
        return Status(self.state)

    async def request(self, method: str, path: str, body: Any = None, **_: Any) -> Answer:
        await trio.sleep(self.seconds)
        if method != "GET":
            self.asked.append((method, path, body))
        if method in self.answers:
            answer = self.answers[method]
            self.then()
            if isinstance(answer, Exception):
                raise answer
            return answer
        if method == "GET":
            return Answer(200, orjson.dumps({"backups": self.listed, "restore": self.restore}))
        if method == "POST":
            self.listed.append(a_backup(len(self.listed) + 1, state="creating"))
            return Answer(202, orjson.dumps({"id": self.listed[-1]["id"]}))
        return Answer(204, b"")


class Crew:
    def __init__(self, agent: Agent) -> None:
        self.site = self
        self.agent = agent


def keeper_of(agent: Agent, **changes: Any) -> tuple[BackupKeeper, Cell]:
    cell = Cell(a_row(**changes), lambda _cell: None)
    cell.observe_agent(AgentObservation(version=Version("1.4.2")))
    crew: Any = Crew(agent)
    return BackupKeeper(cell, crew), cell


async def refusal(work: Any) -> tuple[int, str]:
    with pytest.raises(ProblemError) as refused:
        await work
    return refused.value.status, refused.value.code


async def test_what_counts_against_the_limit(autojump_clock: MockClock) -> None:
    agent = Agent(a_backup(1, state="failed"), a_backup(2, state="creating"))
    keeper, _ = keeper_of(agent)
    assert (await keeper.carry_out(CREATE)).status == 202
    assert await refusal(keeper.carry_out(CREATE)) == (403, "plan_limit")
    assert len(agent.asked) == 1
    # One more may be there for as long as it takes to make it.
    assert (await keeper.carry_out(replace(CREATE, beyond=1))).status == 202
    assert await refusal(keeper.carry_out(replace(CREATE, beyond=1))) == (403, "plan_limit")
    assert len(agent.asked) == 2


async def test_no_two_changes_overlap(autojump_clock: MockClock) -> None:
    agent = Agent()
    keeper, _ = keeper_of(agent)
    agent.seconds = 3.0
    outcomes: list[str] = []

    async def create() -> None:
        try:
            await keeper.carry_out(CREATE)
            outcomes.append("made")
        except ProblemError as error:
            outcomes.append(error.code)

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(create)
        await trio.sleep(1.0)
        assert outcomes == ["unavailable", "unavailable"], "so many do not wait"
        with pytest.raises(ProblemError):
            async with keeper.alone(most_waiting=0):
                pass
    assert sorted(outcomes[2:]) == ["made", "made", "plan_limit", "plan_limit"]
    async with keeper.alone(most_waiting=0):
        pass


@pytest.mark.parametrize("change", [CREATE, RENAME, LOCK, DELETE], ids=["create", "rename", "lock", "delete"])
@pytest.mark.parametrize("way", ["suspended", "restoring", "deleting"])
async def test_nothing_is_asked_of_who_may_not(autojump_clock: MockClock, change: Any, way: str) -> None:
    agent = Agent(a_backup())
    keeper, cell = keeper_of(agent, desired=Desired(suspended=way == "suspended"), provisioned=way != "deleting")
    if way == "restoring":
        cell.set_operation(an_operation(OperationKind.RESTORE))
    status, code = await refusal(keeper.carry_out(change))
    assert (status, code) == {
        "suspended": (403, "suspended"),
        "restoring": (409, "operation_in_flight"),
        "deleting": (409, "not_ready"),
    }[way]
    assert agent.asked == []


async def test_locked_and_unready_ones_are_not_deleted(autojump_clock: MockClock) -> None:
    for entry, expected in (
        (a_backup(locked=True), (409, "locked")),
        (a_backup(state="creating"), (409, "not_ready")),
        (a_backup(2), (404, "not_found")),
    ):
        agent = Agent(entry)
        keeper, _ = keeper_of(agent)
        assert await refusal(keeper.carry_out(DELETE)) == expected
        assert agent.asked == []
    # Of an agent that knows no locks, nothing is locked.
    agent = Agent({key: value for key, value in a_backup().items() if key != "locked"})
    keeper, _ = keeper_of(agent)
    assert await keeper.carry_out(DELETE) == AgentAnswer(204, b"")
    assert agent.asked == [("DELETE", "/backups/b1", None)]


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_an_agent_that_cannot_change_them_is_told_from_one_that_lost_it(
    autojump_clock: MockClock, status: int
) -> None:
    agent = Agent(a_backup())
    keeper, cell = keeper_of(agent)
    agent.answers["PATCH"] = Answer(status, b'{"error": "what?"}')
    assert await refusal(keeper.carry_out(RENAME)) == (501, "agent_unsupported")
    assert cell.lacking == {Feature.BACKUP_CHANGES}
    assert await refusal(keeper.carry_out(LOCK)) == (501, "agent_unsupported")
    assert [method for method, _path, _body in agent.asked] == ["PATCH"], "it is not asked again"
    assert (await keeper.carry_out(CREATE)).status == 202


async def test_one_that_goes_in_that_moment_says_nothing_of_the_agent(autojump_clock: MockClock) -> None:
    agent = Agent(a_backup())
    keeper, cell = keeper_of(agent)
    agent.answers["PATCH"] = Answer(404, b'{"error": "no backup b1"}')
    agent.then = agent.listed.clear
    assert await refusal(keeper.carry_out(RENAME)) == (404, "not_found")
    assert cell.lacking == frozenset()


async def test_the_agents_refusals_are_its_own(autojump_clock: MockClock) -> None:
    agent = Agent(a_backup())
    keeper, _ = keeper_of(agent)
    agent.answers = {
        "POST": Answer(507, b'{"error": "no space left"}'),
        "DELETE": Answer(409, b'{"error": "the backup is locked"}'),
        "PATCH": Answer(401, b"{}"),
    }
    assert await refusal(keeper.carry_out(CREATE)) == (507, "agent_refused")
    assert await refusal(keeper.carry_out(DELETE)) == (409, "agent_refused")
    assert await refusal(keeper.carry_out(RENAME)) == (502, "agent_refused")


@pytest.mark.parametrize("body", [b"[]", b'{"backups": 7}', b'{"backups": [{}]}', b"half"])
async def test_a_list_that_is_none_changes_nothing(autojump_clock: MockClock, body: bytes) -> None:
    agent = Agent()
    agent.answers["GET"] = Answer(200, body)
    keeper, _ = keeper_of(agent)
    for change in (CREATE, RENAME, DELETE):
        assert await refusal(keeper.carry_out(change)) == (502, "agent_unreachable")
    assert await refusal(keeper.to_restore(RESTORE)) == (502, "agent_unreachable")
    assert agent.asked == []


@pytest.mark.parametrize(
    "lost", [Unreachable("it broke", may_have_happened=True), Answer(202, b"half")], ids=["broken", "half"]
)
async def test_one_whose_answer_was_lost_is_found(autojump_clock: MockClock, lost: Any) -> None:
    """Whoever asks again, because nobody knew, would have two."""
    agent = Agent(a_backup())
    keeper, _ = keeper_of(agent)
    agent.answers["POST"] = lost
    agent.then = lambda: agent.listed.append(a_backup(2, state="creating"))
    assert await keeper.carry_out(CREATE) == AgentAnswer(202, b'{"id":"b2"}')
    agent.listed.pop()
    agent.then = lambda: None
    assert await refusal(keeper.carry_out(CREATE)) == (502, "agent_unreachable")
    assert [method for method, _path, _body in agent.asked] == ["POST", "POST"]


async def test_an_agent_that_takes_long_keeps_no_power_command_waiting(autojump_clock: MockClock) -> None:
    agent = Agent(a_backup())
    keeper, _ = keeper_of(agent)
    agent.seconds = 7.0
    assert await refusal(keeper.to_restore(RESTORE)) == (502, "agent_unreachable")
    assert trio.current_time() == 10.0
    agent.answers["GET"] = Unreachable("nothing listens")
    assert await refusal(keeper.to_restore(RESTORE)) == (502, "agent_unreachable")


@pytest.mark.parametrize(
    ("listed", "state", "wish", "code"),
    [
        ([], "idle", RESTORE, "not_found"),
        ([a_backup(state="failed", error="full")], "idle", RESTORE, "backup_failed"),
        ([a_backup(state="creating")], "idle", RESTORE, "not_ready"),
        ([a_backup(), a_backup(2, state="creating")], "idle", RESTORE, "not_ready"),
        ([a_backup()], "installing", RESTORE, "not_ready"),
        *(
            ([a_backup()], state, RestoreBackup("b1", stop=False, start=None, actor_id=None), "running")
            for state in ("starting", "running", "stopping")
        ),
    ],
    ids=["absent", "failed", "unready", "another", "installing", "starting", "running", "stopping"],
)
async def test_what_speaks_against_a_restore(
    autojump_clock: MockClock, listed: list[dict[str, Any]], state: str, wish: RestoreBackup, code: str
) -> None:
    agent = Agent(*listed)
    agent.state = AgentState(state)
    keeper, _ = keeper_of(agent)
    assert (await refusal(keeper.to_restore(wish)))[1] == code


@pytest.mark.parametrize(
    ("state", "start", "expected"),
    [
        ("running", None, (True, True)),
        ("starting", None, (True, True)),
        ("stopping", None, (False, False)),
        ("crashed", None, (False, False)),
        ("running", False, (True, False)),
        ("idle", True, (False, True)),
    ],
)
async def test_what_runs_in_the_end(
    autojump_clock: MockClock, state: str, start: bool | None, expected: tuple[bool, bool]
) -> None:
    agent = Agent(a_backup())
    agent.state = AgentState(state)
    keeper, _ = keeper_of(agent)
    found = await keeper.to_restore(RestoreBackup("b1", stop=True, start=start, actor_id=1))
    assert found == {"backup": "b1", "stop": True, "ran": expected[0], "start": expected[1]}
    agent.restore = {"backup": "b2", "key": "other", "state": "restoring"}
    assert (await refusal(keeper.to_restore(RESTORE)))[1] == "restoring"
