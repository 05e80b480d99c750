"""The restore operation, step by step, with an agent that can be stopped at any word: nothing is restored twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.containers.samples import EPOCH, a_row, an_operation
from tests.containers.scripted import virtual_now
from zlh.containers.cell import Cell
from zlh.containers.options import Options
from zlh.containers.reconcile import Do, Finish, Undo, advance
from zlh.containers.runner import Runner
from zlh.containers.steps import step_names
from zlh.drivers.errors import Conflict, DriverError, Refused, Unreachable
from zlh.model.backups import Backup, Backups, BackupState, Restore, RestoreState
from zlh.model.containers import Desired
from zlh.model.observed import AgentState, Status
from zlh.model.operations import Operation, OperationKind, OperationState, StepState
from zlh.store import journal

READY = Backup("b1", "one", EPOCH, 1, BackupState.READY)
RUNS = {"backup": "b1", "stop": True, "ran": True, "start": True}
RESTS = {"backup": "b1", "stop": False, "ran": False, "start": False}


OPTIONS = Options(restore_seconds=60.0, agent_seconds=20.0)


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Agent:
    """Has one backup, and a game. `done` is what it was told and did; `tells` is false for old ones. `restores` is
    how long a restore takes, `silent` from when until when it does not answer; `fails` names calls that raise, once
    for each exception."""

    state: AgentState = AgentState.RUNNING
    tells: bool = True
    backup: Backup | None = READY
    restores: float = 3.0
    damaged: bool = False
    done: list[str] = field(default_factory=list)
    fails: dict[str, list[BaseException]] = field(default_factory=dict)
    after: dict[str, list[BaseException]] = field(default_factory=dict)
    restore_key: str = ""
    restored_at: float = 0.0
    silent: tuple[float, float] = (0.0, 0.0)

    def close(self) -> None:
        pass

    async def status(self) -> Status:
        await self._meet("status")
        return Status(self.state)

    async def stop(self) -> None:
        await self._meet("stop")
        self.state = AgentState.IDLE
        self._did("stop")

    async def start(self) -> None:
        await self._meet("start")
        if self._restoring() is RestoreState.RESTORING:
            raise Conflict("a backup is being restored")
        self.state = AgentState.RUNNING
        self._did("start")

    async def backups(self) -> Backups:
        await self._meet("backups")
        restore = None
        if self.restore_key:
            error = "the archive is damaged" if self._restoring() is RestoreState.FAILED else None
            restore = Restore("b1", self.restore_key, self._restoring(), error)
        return Backups(() if self.backup is None else (self.backup,), restore if self.tells else None, self.tells)

    async def restore(self, backup_id: str, key: str) -> None:
        await self._meet("restore")
        if self.state is not AgentState.IDLE:
            raise Conflict("not possible while running")
        if self.restore_key != key or not self.tells:
            self.restore_key, self.restored_at = key, trio.current_time() + self.restores
            self._did("restore")
            return
        raise AssertionError("asked twice for the same restore")

    async def _meet(self, name: str) -> None:
        await trio.lowlevel.checkpoint()
        if self.silent[0] <= trio.current_time() < self.silent[1]:
            raise Unreachable("nothing listens")
        if self.fails.get(name):
            raise self.fails[name].pop(0)

    def _did(self, name: str) -> None:
        self.done.append(name)
        if self.after.get(name):
            raise self.after[name].pop(0)

    def _restoring(self) -> RestoreState:
        if trio.current_time() < self.restored_at:
            return RestoreState.RESTORING
        return RestoreState.FAILED if self.damaged else RestoreState.DONE


class Places:
    """Of a turnstile that is never full."""

    def leave(self, vmid: int) -> None:
        pass


class Journal:
    """Keeps the operation in memory, by the store's own rules. `dies_at` names a write that ends the process, before
    or after it was made: "restored.done, before"."""

    def __init__(self, cell: Cell, dies_at: str | None = None) -> None:
        self.cell = cell
        self.dies_at = dies_at
        self.passed: list[str] = []

    @property
    def operation(self) -> Operation:
        assert self.cell.operation is not None
        return self.cell.operation

    async def started(self, step: str) -> None:
        self._moved(step, StepState.STARTED)

    async def done(self, step: str, note: str | None, row: object) -> None:
        self._moved(step, StepState.DONE, note=note)

    async def undoing(self, step: str) -> None:
        self._moved(step, StepState.UNDOING)

    async def undone(self, step: str, row: object) -> None:
        self._moved(step, StepState.UNDONE)

    async def noted(self, step: str, note: str, row: object) -> None:
        self._set(step, journal.told(self.operation, step, note=note))

    async def remember(self, step: str, data: Mapping[str, Any]) -> None:
        self._pass(f"{step}.remember, before")
        self._set(step, journal.told(self.operation, step, data=data))
        self._pass(f"{step}.remember, after")

    async def failed(self, step: str, error: str, *, compensate: bool) -> None:
        self._moved(step, StepState.FAILED, error=error)
        state = OperationState.COMPENSATING if compensate else OperationState.FAILED
        journal.check_operation_move(self.operation, state)
        self.cell.set_operation(replace(self.operation, state=state, error=f"{step}: {error}"))

    def _moved(self, step: str, state: StepState, *, error: str | None = None, note: str | None = None) -> None:
        self._pass(f"{step}.{state}, before")
        now = datetime.fromtimestamp(EPOCH.timestamp() + trio.current_time(), UTC)
        moved = journal.moved(self.operation, step, state, now, error=error)
        self._set(step, replace(moved, note=note or moved.note))
        self._pass(f"{step}.{state}, after")

    def _set(self, name: str, step: Any) -> None:
        steps = tuple(step if one.name == name else one for one in self.operation.steps)
        self.cell.set_operation(replace(self.operation, steps=steps))

    def _pass(self, place: str) -> None:
        self.passed.append(place)
        if place == self.dies_at:
            self.dies_at = None
            raise Killed(place)


@dataclass
class Play:
    """One restore of one agent, carried on after each death, `down` seconds later."""

    agent: Agent
    journal: Journal
    now: Any
    down: float = 0.0

    async def to_its_end(self) -> Operation:
        runner = self._runner()
        with trio.fail_after(600 + self.down):
            while not isinstance(plan := advance(self.journal.operation), Finish):
                assert isinstance(plan, Do | Undo)
                if self.journal.operation.state.final:
                    return self.journal.operation
                try:
                    again = await (runner.do(plan.step) if isinstance(plan, Do) else runner.undo(plan.step))
                except Killed:
                    await trio.sleep(self.down)
                    runner = self._runner()
                    continue
                await trio.sleep(again.seconds)
        return replace(self.journal.operation, state=plan.state)

    def _runner(self) -> Runner:
        site: Any = Site(self.agent)
        found: Any = self.journal
        return Runner(self.journal.cell, site, found, self.now, lambda _running: None)


@dataclass
class Site:
    agent_: Agent
    options: Options = OPTIONS
    clones: Places = field(default_factory=Places)
    mutations: Places = field(default_factory=Places)

    def agent(self, row: object, token: str) -> Agent:
        return self.agent_


def a_play(
    agent: Agent, arguments: Mapping[str, Any] = RUNS, *, dies_at: str | None = None, suspended: bool = False
) -> Play:
    operation = an_operation(OperationKind.RESTORE, id="op-9", arguments=arguments)
    row = a_row(desired=Desired(suspended=suspended))
    return Play(agent, Journal(Cell(row, lambda _cell: None, operation=operation), dies_at), virtual_now())


async def test_a_game_that_runs_is_stopped_restored_and_started(autojump_clock: MockClock) -> None:
    agent = Agent()
    play = a_play(agent)
    assert (await play.to_its_end()).state is OperationState.SUCCEEDED
    assert agent.done == ["stop", "restore", "start"]
    assert trio.current_time() >= agent.restored_at
    assert step_names(OperationKind.RESTORE) == ("stop", "restore", "restored", "start")


async def test_a_game_that_rests_goes_on_resting(autojump_clock: MockClock) -> None:
    agent = Agent(AgentState.IDLE)
    assert (await a_play(agent, RESTS).to_its_end()).state is OperationState.SUCCEEDED
    assert agent.done == ["restore"]


async def test_a_game_that_came_up_meanwhile_is_not_stopped_unasked(autojump_clock: MockClock) -> None:
    agent = Agent()
    ended = await a_play(agent, RESTS).to_its_end()
    assert (ended.state, ended.error) == (OperationState.COMPENSATED, "stop: the game runs; stop it first")
    assert agent.done == []


PLACES = [
    f"{step}.{state}, {when}"
    for step in step_names(OperationKind.RESTORE)
    for state in ("started", "done")
    for when in ("before", "after")
]


@pytest.mark.parametrize("tells", [True, False], ids=["tells", "old"])
@pytest.mark.parametrize("place", [*PLACES, "restore.remember, before", "restore.remember, after"])
async def test_a_death_at_any_write_restores_once(autojump_clock: MockClock, place: str, tells: bool) -> None:
    agent = Agent(tells=tells)
    play = a_play(agent, dies_at=place)
    ended = await play.to_its_end()
    assert place in play.journal.passed, "it was not passed at all"
    assert agent.done.count("restore") <= 1
    if not tells and place in ("restore.remember, after", "restore.done, before"):
        # It may have been asked, and cannot say: a person looks, the game waits.
        assert (ended.state, agent.state) == (OperationState.COMPENSATED, AgentState.IDLE)
        assert "nobody knows" in (ended.error or "")
        return
    assert ended.state is OperationState.SUCCEEDED
    assert agent.done == ["stop", "restore", "start"]
    assert agent.state is AgentState.RUNNING


LOST = Unreachable("the connection broke", may_have_happened=True)


@pytest.mark.parametrize("tells", [True, False], ids=["tells", "old"])
async def test_a_lost_answer_is_looked_for(autojump_clock: MockClock, tells: bool) -> None:
    agent = Agent(tells=tells, after={"restore": [LOST], "stop": [LOST], "start": [LOST]})
    ended = await a_play(agent).to_its_end()
    assert agent.done == (["stop", "restore", "start"] if tells else ["stop", "restore"])
    assert ended.state is (OperationState.SUCCEEDED if tells else OperationState.COMPENSATED)


@pytest.mark.parametrize("tells", [True, False], ids=["tells", "old"])
@pytest.mark.parametrize("call", ["status", "stop", "backups", "restore", "start"])
@pytest.mark.parametrize(
    "error", [Unreachable("nothing listens"), Conflict("not yet")], ids=["unreachable", "conflict"]
)
async def test_what_was_surely_not_done_is_done_again(
    autojump_clock: MockClock, call: str, error: DriverError, tells: bool
) -> None:
    agent = Agent(tells=tells, fails={call: [error, error]})
    assert (await a_play(agent).to_its_end()).state is OperationState.SUCCEEDED
    assert agent.done == ["stop", "restore", "start"]


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (Agent(damaged=True), "restored: the archive is damaged"),
        (Agent(backup=None), "restore: the backup is not there any more"),
        (Agent(backup=replace(READY, state=BackupState.FAILED)), "restore: the backup is not ready"),
        (Agent(fails={"restore": [Refused("no space left", status=507)]}), "restore: no space left"),
    ],
    ids=["damaged", "gone", "failed", "full"],
)
async def test_a_restore_that_fails_gives_the_game_back(autojump_clock: MockClock, agent: Agent, words: str) -> None:
    agent = replace(agent, done=[], fails={name: [*errors] for name, errors in agent.fails.items()})
    ended = await a_play(agent).to_its_end()
    assert (ended.state, ended.error) == (OperationState.COMPENSATED, words)
    assert agent.state is AgentState.RUNNING
    assert agent.done[-1] == "start"


async def test_what_does_not_end_is_given_up_and_the_game_stays(autojump_clock: MockClock) -> None:
    agent = Agent(restores=10_000.0)
    ended = await a_play(agent).to_its_end()
    assert ended.state is OperationState.COMPENSATED
    assert "longer than 60 s" in (ended.error or "")
    assert agent.done == ["stop", "restore"]


async def test_an_agent_that_is_away_keeps_nobody_for_ever(autojump_clock: MockClock) -> None:
    away: list[BaseException] = [Unreachable("nothing listens") for _ in range(1000)]
    agent = Agent(fails={"status": away, "backups": away})
    ended = await a_play(agent).to_its_end()
    assert ended.state is OperationState.COMPENSATED
    assert "longer than 20 s" in (ended.error or "")
    assert trio.current_time() < 120


DOWN = 10 * OPTIONS.restore_seconds


@pytest.mark.parametrize("place", ["restore.done, before", "restored.started, after", "restored.done, before"])
async def test_what_the_agent_did_while_we_were_away_for_long_counts(autojump_clock: MockClock, place: str) -> None:
    agent = Agent()
    play = replace(a_play(agent, dies_at=place), down=DOWN)
    assert (await play.to_its_end()).state is OperationState.SUCCEEDED
    assert place in play.journal.passed
    assert agent.done == ["stop", "restore", "start"]


async def test_after_a_long_absence_an_agent_that_comes_up_is_waited_for(autojump_clock: MockClock) -> None:
    agent = Agent()
    play = replace(a_play(agent, dies_at="restored.started, after"), down=DOWN)
    agent.silent = (DOWN, DOWN + OPTIONS.agent_seconds / 2)
    assert (await play.to_its_end()).state is OperationState.SUCCEEDED


async def test_nothing_is_begun_after_its_time(autojump_clock: MockClock) -> None:
    agent = Agent()
    ended = await replace(a_play(agent, dies_at="restore.started, after"), down=DOWN).to_its_end()
    assert ended.state is OperationState.COMPENSATED
    assert "longer than 20 s, and the agent has not begun" in (ended.error or "")
    assert agent.done == ["stop", "start"]


async def test_a_failure_of_the_agents_is_told_after_a_long_absence_too(autojump_clock: MockClock) -> None:
    agent = Agent(damaged=True)
    ended = await replace(a_play(agent, dies_at="restored.started, after"), down=DOWN).to_its_end()
    assert (ended.state, ended.error) == (OperationState.COMPENSATED, "restored: the archive is damaged")


async def test_where_nobody_can_be_asked_that_is_what_is_told(autojump_clock: MockClock) -> None:
    agent = Agent()
    play = replace(a_play(agent, dies_at="restored.started, after"), down=DOWN)
    agent.silent = (DOWN, 2 * DOWN)
    ended = await play.to_its_end()
    assert ended.state is OperationState.COMPENSATED
    assert "nobody knows how far it came: nothing listens" in (ended.error or "")


async def test_a_game_that_does_not_start_takes_nothing_back(autojump_clock: MockClock) -> None:
    agent = Agent(fails={"start": [Refused("no java", status=500)]})
    ended = await a_play(agent).to_its_end()
    assert (ended.state, ended.error) == (OperationState.FAILED, "start: no java")
    assert agent.done == ["stop", "restore"]


async def test_a_suspended_accounts_game_is_not_started(autojump_clock: MockClock) -> None:
    agent = Agent()
    assert (await a_play(agent, suspended=True).to_its_end()).state is OperationState.SUCCEEDED
    assert agent.done == ["stop", "restore"]
