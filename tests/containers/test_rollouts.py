"""The task that carries a rollout out, on virtual time, with agents that do as they are told and a real database."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
import trio
from trio.testing import MockClock

from tests.containers.samples import a_row
from tests.containers.scripted import reached, supervised, virtual_now
from tests.stack import PATIENCE, Stack, until
from zlh.containers.agent_updates import TELL, VERSIONS
from zlh.containers.cell import Cell
from zlh.containers.rollouts import Rollouts, Wish
from zlh.model.access import Sight
from zlh.model.agent_calls import AgentAnswer, AgentCall
from zlh.model.containers import Container, ContainerType, Desired, Power
from zlh.model.errors import (
    AbsentError,
    AgentProblemError,
    AgentUnreachableError,
    AgentUnsupportedError,
    ConflictError,
    InvalidError,
)
from zlh.model.observed import AgentObservation, HostObservation, Presence, Update
from zlh.model.rollouts import ItemState, Rollout, RolloutState
from zlh.model.servers import Server
from zlh.store import Database, StoreUnavailable
from zlh.store.urls import sqlalchemy_url

NEWEST = "1.5.0"


class Blocking(Database):
    """A real database that is asked without a thread: virtual time stands still meanwhile. `away` makes it fail;
    `watch` hears the name of each write right before it is made (False) and right after it was committed (True)."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.engine = sa.create_engine(sqlalchemy_url(url))
        self.away = False
        self.watch: Callable[[str, bool], None] = lambda name, committed: None

    async def run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.watch(fn.__name__, False)
        await trio.lowlevel.checkpoint()
        if self.away:
            raise StoreUnavailable("away")
        with self.engine.begin() as connection:
            answer = fn(connection, *args, **kwargs)
        self.watch(fn.__name__, True)
        await trio.lowlevel.checkpoint()
        return answer


@dataclass
class Agent:
    """`ends` says what an update comes to: "well", "never", "failed", "unready", "unchanged", "other"."""

    ends: str = "well"
    version: str = "1.4.2"
    state: str = "idle"
    ready: bool = True
    away: bool = False
    told: int = 0
    refusal: Exception | None = None
    lost_answers: int = 0

    async def update(self, seconds: float) -> None:
        await trio.sleep(seconds)
        self.away = True
        await trio.sleep(5)
        self.away = self.ends == "never"
        self.ready = self.ends != "unready" and self.ready
        if self.ends in ("well", "unready"):
            self.version = NEWEST
        if self.ends == "other":
            self.version = "1.4.9"
        self.state = "failed" if self.ends == "failed" else "idle"


class Agents:
    """A fleet of them. `log` holds who was told, in order; `most` how many were under way at once."""

    def __init__(self, nursery: trio.Nursery, now: Callable[[], float], agents: dict[int, Agent]) -> None:
        self._nursery = nursery
        self._now = now
        self.agents = agents
        host = HostObservation(Presence.PRESENT, Power.ON, "pve1")
        self.cells = {vmid: Cell(a_row(vmid), lambda cell: None) for vmid in agents}
        for cell in self.cells.values():
            cell.observe_host(host)
        self.log: list[int] = []
        self.most = 0

    def server(self, vmid: int) -> Server:
        if vmid not in self.cells:
            raise AbsentError(f"there is no container {vmid}")
        return self.cells[vmid].server(self._now())

    def containers(self, sight: Sight) -> list[Container]:
        return [cell.row for cell in self.cells.values()]

    def touch(self, vmid: int, **changes: Any) -> None:
        self.cells[vmid].set_row(replace(self.cells[vmid].row, **changes))

    async def call(self, vmid: int, call: AgentCall) -> AgentAnswer:
        self.server(vmid)
        agent = self.agents[vmid]
        await trio.sleep(0.1)
        if agent.away:
            raise AgentUnreachableError("the agent does not answer: connection refused")
        if call is TELL:
            return self._tell(vmid, agent)
        if call is VERSIONS:
            return _answer(current=agent.version, latest=NEWEST, available=agent.version != NEWEST, state=agent.state)
        if not agent.ready:
            raise AgentProblemError(503, "the agent answered with status 503")
        return _answer(ready=True)

    def _tell(self, vmid: int, agent: Agent) -> AgentAnswer:
        if agent.refusal is not None:
            raise agent.refusal
        agent.told += 1
        self.log.append(vmid)
        agent.state = "updating"
        self._nursery.start_soon(agent.update, 10 + vmid % 3)
        self.most = max(self.most, sum(agent.state == "updating" for agent in self.agents.values()))
        if agent.lost_answers:
            agent.lost_answers -= 1
            raise AgentUnreachableError("the agent did not answer within 10 s", details={"mayTakeEffect": True})
        return _answer(ok=True)


def _answer(**fields: Any) -> AgentAnswer:
    return AgentAnswer(200, orjson.dumps(fields))


@dataclass
class Place:
    agents: Agents
    db: Blocking
    rollouts: Rollouts

    async def ended(self, rollout: Rollout, *, within: float = 3600) -> Rollout:
        known = rollout
        with trio.fail_after(within):
            while not known.state.final:
                await trio.sleep(1)
                known = await self.rollouts.get(rollout.id)
        return known

    async def run(self, **wish: Any) -> Rollout:
        """One rollout from its beginning to its end."""
        async with supervised(self.rollouts.run):
            return await self.ended(await self.rollouts.begin(Wish(**wish)))


@asynccontextmanager
async def open_place(url: str, *agents: Agent) -> AsyncIterator[Place]:
    """Agents from 5001 on."""
    now = virtual_now()
    async with trio.open_nursery() as nursery:
        db = Blocking(url)
        fleet = Agents(nursery, now, {5001 + number: agent for number, agent in enumerate(agents)})
        yield Place(fleet, db, Rollouts(db, fleet, now))
        nursery.cancel_scope.cancel()
        db.engine.dispose()


def states(rollout: Rollout) -> list[str]:
    return [item.state.value for item in rollout.items]


def reasons(rollout: Rollout) -> list[str | None]:
    return [item.reason for item in rollout.items]


async def test_all_of_them_batch_by_batch(postgres_url: str, autojump_clock: MockClock) -> None:
    async with open_place(postgres_url, *(Agent() for _ in range(7))) as place:
        rollout = await place.run(batch=3)
        assert rollout.state is RolloutState.SUCCEEDED
        assert set(states(rollout)) == {"succeeded"}
        assert {(item.current, item.target) for item in rollout.items} == {("1.4.2", NEWEST)}
        assert place.agents.most == 3
        assert [agent.told for agent in place.agents.agents.values()] == [1] * 7
        first, second = rollout.items[:3], rollout.items[3:6]
        ends = [item.ended_at for item in first if item.ended_at]
        assert all(item.started_at and item.started_at >= max(ends) for item in second)


async def test_too_many_failures_end_it_and_the_others_of_the_batch_finish(
    postgres_url: str, autojump_clock: MockClock
) -> None:
    agents = [Agent("never"), Agent("failed"), Agent(), Agent("other"), *(Agent() for _ in range(4))]
    async with open_place(postgres_url, *agents) as place:
        rollout = await place.run(batch=3, max_failures=1)
        assert (rollout.state, rollout.error) == (RolloutState.FAILED, "2 updates failed, 1 may")
        assert states(rollout) == ["failed", "failed", "succeeded", *["pending"] * 5]
        assert reasons(rollout)[:2] == [
            "not within 300 s: the agent did not come back: the agent does not answer: connection refused",
            "the agent says that its update failed",
        ]
        assert sorted(place.agents.log) == [5001, 5002, 5003]


async def test_failures_that_are_allowed(postgres_url: str, autojump_clock: MockClock) -> None:
    agents = [Agent("unready"), Agent("unchanged"), Agent(), Agent(refusal=AgentProblemError(507, "no space left"))]
    async with open_place(postgres_url, *agents) as place:
        rollout = await place.run(batch=2, max_failures=3)
        assert rollout.state is RolloutState.SUCCEEDED
        assert states(rollout) == ["failed", "failed", "succeeded", "failed"]
        assert reasons(rollout) == [
            "not within 300 s: it is not ready: it says that it is not",
            "not within 300 s: the agent is still version 1.4.2",
            None,
            "it was refused: no space left",
        ]


async def test_a_game_that_was_stopped_need_not_be_ready(postgres_url: str, autojump_clock: MockClock) -> None:
    async with open_place(postgres_url, Agent(ready=False)) as place:
        rollout = await place.run()
        assert states(rollout) == ["succeeded"]


async def test_who_is_skipped_and_why(postgres_url: str, autojump_clock: MockClock) -> None:
    current, old = Agent(version=NEWEST), Agent(refusal=AgentUnsupportedError("too old for that"))
    async with open_place(postgres_url, current, Agent(), Agent(), Agent(), Agent(away=True), old, Agent()) as place:
        place.agents.touch(5002, desired=Desired(suspended=True))
        place.agents.cells[5003].observe_host(HostObservation(Presence.PRESENT, Power.OFF, "pve1"))
        place.agents.touch(5004, provisioned=False)
        rollout = await place.run(batch=7, max_failures=1)
        assert states(rollout) == [*["skipped"] * 5, "failed", "succeeded"]
        assert reasons(rollout) == [
            "up to date",
            "its account is suspended",
            "it is off",
            "it is not ready yet",
            "its agent does not answer",
            "it was refused: too old for that",
            None,
        ]
        assert place.agents.log == [5007]


async def test_only_some(postgres_url: str, autojump_clock: MockClock) -> None:
    async with open_place(postgres_url, Agent(), Agent(), Agent()) as place:
        place.agents.touch(5002, ctype=ContainerType.DEV)
        with pytest.raises(InvalidError, match="there is no container 5999"):
            await place.rollouts.begin(Wish(vmids=[5001, 5999]))
        with pytest.raises(InvalidError, match="no container of that kind"):
            await place.rollouts.begin(Wish(vmids=[5001], ctype=ContainerType.DEV))
        rollout = await place.run(vmids=[5003, 5001, 5002, 5001], ctype=ContainerType.GAME)
        assert [item.vmid for item in rollout.items] == [5001, 5003]
        elsewhere = await place.run(version="1.6.0")
        assert reasons(elsewhere) == [
            "it knows of no version 1.6.0",
            "it would become 1.5.0, not 1.6.0",
            "it knows of no version 1.6.0",
        ]


async def test_a_plan_asks_and_changes_nothing(postgres_url: str, autojump_clock: MockClock) -> None:
    async with open_place(postgres_url, Agent(), Agent(), Agent()) as place:
        told = Update("1.4.2", NEWEST, available=True, state="idle")
        place.agents.cells[5001].observe_agent(AgentObservation(update=told))
        place.agents.cells[5002].observe_agent(
            AgentObservation(update=replace(told, current=NEWEST, available=False))
        )
        planned = place.rollouts.plan(Wish())
        assert [(item.state, item.current, item.target, item.reason) for item in planned] == [
            (ItemState.PENDING, "1.4.2", NEWEST, None),
            (ItemState.SKIPPED, NEWEST, None, "up to date"),
            (ItemState.PENDING, None, None, "its agent has not told its version yet"),
        ]
        assert await place.rollouts.page() == []


async def test_a_pause_a_resumption_and_a_cancellation(postgres_url: str, autojump_clock: MockClock) -> None:
    async with open_place(postgres_url, *(Agent() for _ in range(6))) as place, supervised(place.rollouts.run):
        rollout = await place.rollouts.begin(Wish(batch=2))
        await reached(lambda: len(place.agents.log) == 2)
        paused = await place.rollouts.pause(rollout.id)
        assert paused.state is RolloutState.PAUSED
        await trio.sleep(1000)
        known = await place.rollouts.get(rollout.id)
        assert (known.state, states(known)) == (RolloutState.PAUSED, [*["succeeded"] * 2, *["pending"] * 4])
        await place.rollouts.resume(rollout.id)
        await reached(lambda: len(place.agents.log) == 4)
        await place.rollouts.cancel(rollout.id)
        ended = await place.ended(rollout)
        assert ended.state is RolloutState.CANCELLED
        assert states(ended) == [*["succeeded"] * 4, *["pending"] * 2]
        with pytest.raises(ConflictError):
            await place.rollouts.cancel(rollout.id)


async def test_a_paused_one_is_cancelled_at_once(postgres_url: str, autojump_clock: MockClock) -> None:
    async with open_place(postgres_url, Agent()) as place:
        rollout = await place.rollouts.begin(Wish())
        await place.rollouts.pause(rollout.id)
        async with supervised(place.rollouts.run):
            await trio.sleep(10)
            await place.rollouts.cancel(rollout.id)
            assert (await place.ended(rollout, within=5)).state is RolloutState.CANCELLED
        assert place.agents.log == []


KILLS = ("begin_item", "told", "end_item")


@pytest.mark.parametrize("at", KILLS)
@pytest.mark.parametrize("committed", [True, False])
async def test_killed_at_a_write_and_carried_on_without_telling_anybody_twice(
    postgres_url: str, autojump_clock: MockClock, at: str, committed: bool
) -> None:
    """Right after the write was committed, or right before it was made."""
    async with open_place(postgres_url, Agent(), Agent("failed"), Agent()) as place:
        rollout = await place.rollouts.begin(Wish(batch=2, max_failures=1))

        def kill(name: str, done: bool) -> None:
            if (name, done) == (at, committed):
                scope.cancel()

        with trio.CancelScope() as scope:
            place.db.watch = kill
            async with supervised(place.rollouts.run):
                await trio.sleep(3600)
        assert scope.cancelled_caught
        place.db.watch = lambda name, done: None
        async with supervised(Rollouts(place.db, place.agents, virtual_now()).run):
            ended = await place.ended(rollout)
        assert ended.state is RolloutState.SUCCEEDED
        assert states(ended) == ["succeeded", "failed", "succeeded"]
        assert [agent.told for agent in place.agents.agents.values()] == [1, 1, 1]


async def test_a_lost_answer_is_looked_after(postgres_url: str, autojump_clock: MockClock) -> None:
    async with open_place(postgres_url, Agent(lost_answers=1)) as place:
        rollout = await place.run()
        assert states(rollout) == ["succeeded"]
        assert place.agents.agents[5001].told == 1


async def test_a_container_that_is_deleted_meanwhile(postgres_url: str, autojump_clock: MockClock) -> None:
    async with open_place(postgres_url, Agent(), Agent()) as place, supervised(place.rollouts.run):
        rollout = await place.rollouts.begin(Wish(batch=1, max_failures=0))
        await reached(lambda: place.agents.log == [5001])
        del place.agents.cells[5001], place.agents.cells[5002]
        ended = await place.ended(rollout)
        assert ended.state is RolloutState.SUCCEEDED
        assert reasons(ended) == ["the container is gone", "there is no container 5002"]


async def test_a_database_that_is_away_for_a_while(postgres_url: str, autojump_clock: MockClock) -> None:
    async with open_place(postgres_url, Agent(), Agent()) as place, supervised(place.rollouts.run) as system:
        rollout = await place.rollouts.begin(Wish(batch=1))
        await reached(lambda: place.agents.log == [5001])
        place.db.away = True
        await trio.sleep(100)
        place.db.away = False
        ended = await place.ended(rollout)
        assert states(ended) == ["succeeded"] * 2
        assert place.agents.log == [5001, 5002]
        assert system.snapshot_of("task").restarts == 0


async def test_real_agents(stack: Stack) -> None:
    """Simulated ones behind a real fleet: two are updated, one is up to date by then."""
    vmids = [(await stack.provision(f"Server {number}")).vmid for number in range(2)]
    for vmid in vmids:
        await stack.status(vmid, "running")
    rollouts = Rollouts(stack.db, stack.fleet, time.time)

    async def carried_out() -> Rollout:
        begun = await rollouts.begin(Wish(batch=1))

        async def over() -> bool:
            return (await rollouts.get(begun.id)).state.final

        await until(over, within=2 * PATIENCE)
        return await rollouts.get(begun.id)

    async with supervised(rollouts.run):
        updated = await carried_out()
        again = await carried_out()
    assert states(updated) == ["succeeded"] * 2, reasons(updated)
    assert reasons(again) == ["up to date"] * 2
    assert {item.current for item in again.items} == {NEWEST}
