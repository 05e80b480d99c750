"""The polling loop against a scripted agent, on virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import actors
from tests.containers.samples import NOW, a_row, an_operation
from tests.containers.scripted import HANG, Agent, reached, supervised, virtual_now
from zlh.containers import poller
from zlh.containers.cell import Cell
from zlh.containers.options import Options
from zlh.containers.poller import Poller
from zlh.drivers.errors import Invalid, Refused, Unreachable, Unsupported
from zlh.model.agent_calls import Feature
from zlh.model.containers import Power
from zlh.model.observed import (
    AgentObservation,
    AgentState,
    HostObservation,
    Liveness,
    Observed,
    Players,
    Presence,
    Readiness,
    Status,
    Update,
    Version,
)
from zlh.model.operations import StepState

ON = HostObservation(Presence.PRESENT, Power.ON, "pve1", at=NOW, since=NOW)
OFF = HostObservation(Presence.PRESENT, Power.OFF, "pve1", at=NOW, since=NOW)


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Agent:
    agent = Agent()
    monkeypatch.setattr(poller, "AgentClient", agent.client)
    return agent


class Watch:
    """One cell with its poller; `moved` holds the states that it reported."""

    def __init__(self, **changes: Any) -> None:
        self.cell = Cell(a_row(**changes), self._changed, observed=Observed(host=ON))
        self.most_misses = 0
        self.moved: list[AgentObservation] = []
        self._now = virtual_now()

    def _changed(self, cell: Cell) -> None:
        self.most_misses = max(self.most_misses, cell.observed.agent.misses)

    @property
    def seen(self) -> AgentObservation:
        return self.cell.observed.agent

    async def run(self, ctx: actors.Context) -> None:
        await Poller(self.cell, Options(), self._now, lambda cell: self.moved.append(cell.observed.agent)).run(ctx)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[actors.System]:
        async with supervised(self.run) as system:
            yield system


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


async def test_the_cadence_follows_the_state(autojump_clock: MockClock, agent: Agent) -> None:
    watch = Watch()
    agent.answers["status"] = Status(AgentState.INSTALLING)
    async with watch.running():
        await trio.sleep(20)
        assert all(0.9 <= gap <= 1.16 for gap in gaps(agent.times("status")))
        agent.answers["status"] = Status(AgentState.RUNNING)
        await trio.sleep(2)
        agent.asked.clear()
        await trio.sleep(60)
        assert all(4.5 <= gap <= 5.56 for gap in gaps(agent.times("status")))
        agent.asked.clear()
        watch.cell.commanded_until = watch._now() + 20
        watch.cell.poll_asked.set()
        await trio.sleep(10)
        assert len(agent.times("status")) >= 8
        # All on one grid, so that a thousand pollers share their wake-ups.
        assert all(abs(at / 0.05 - round(at / 0.05)) < 1e-6 for at in agent.times("health")[1:])
    assert [one.status.state for one in watch.moved if one.status] == [AgentState.INSTALLING, AgentState.RUNNING]


async def test_slow_questions_are_asked_on_slow_beats(autojump_clock: MockClock, agent: Agent) -> None:
    async with Watch().running():
        await trio.sleep(300)
    rounds = len(agent.times("status"))
    assert rounds == len(agent.times("ready"))
    assert 4 <= len(agent.times("version")) == len(agent.times("update_status")) <= 6
    assert 13 <= len(agent.times("players")) <= 21


async def test_a_container_that_is_off_or_not_configured_is_not_asked(
    autojump_clock: MockClock, agent: Agent
) -> None:
    watch = Watch(provisioned=False, address=None)
    async with watch.running():
        await trio.sleep(5)
        assert watch.seen.reason == "the container has no address yet"
        watch.cell.set_row(a_row(provisioned=False))
        watch.cell.set_operation(an_operation())
        await trio.sleep(5)
        assert watch.seen.reason == "the agent has no configuration yet"
        assert agent.opened == []
        steps = tuple(
            step if step.name != "config" else type(step)("config", StepState.DONE) for step in an_operation().steps
        )
        watch.cell.set_operation(an_operation(steps=steps))
        await trio.sleep(5)
        assert watch.seen.liveness is Liveness.ONLINE
        watch.cell.set_operation(None)
        watch.cell.observe_host(OFF)
        watch.cell.set_row(a_row())
        watch.cell.poll_asked.set()
        await trio.sleep(5)
        agent.asked.clear()
        assert (watch.seen.liveness, watch.seen.reason) == (Liveness.UNKNOWN, "the container is off")
        await trio.sleep(120)
        assert agent.asked == []
        watch.cell.observe_host(ON)
        watch.cell.poll_asked.set()
        await trio.sleep(1)
        assert watch.seen.liveness is Liveness.ONLINE
    assert agent.open == 0


@pytest.mark.parametrize("answer", [HANG, Unreachable("refused"), Invalid("a body of more than 65536 bytes")])
async def test_three_misses_are_offline_and_one_answer_is_online(
    autojump_clock: MockClock, agent: Agent, answer: object
) -> None:
    watch = Watch()
    async with watch.running():
        await trio.sleep(3)
        assert watch.seen.liveness is Liveness.ONLINE
        heard_at = watch.seen.at
        agent.answers["status"] = answer
        await reached(lambda: watch.seen.misses == 2)
        assert watch.seen.liveness is Liveness.ONLINE
        await trio.sleep(10)
        assert watch.seen.liveness is Liveness.OFFLINE
        assert watch.seen.reason in ("no answer within 2 s", "refused", "a body of more than 65536 bytes")
        assert watch.seen.status is not None
        assert watch.seen.at is not None
        assert heard_at is not None
        assert watch.seen.at - heard_at < 6
        agent.answers["status"] = Status(AgentState.RUNNING)
        await trio.sleep(8)
        assert watch.seen.liveness is Liveness.ONLINE
    assert [one.liveness for one in watch.moved] == [Liveness.ONLINE, Liveness.OFFLINE, Liveness.ONLINE]


@pytest.mark.parametrize("answer", [HANG, Invalid("of a wrong type"), Unreachable("reset")])
async def test_one_bad_endpoint_is_not_an_offline_agent(
    autojump_clock: MockClock, agent: Agent, answer: object
) -> None:
    watch = Watch()
    for name in ("ready", "version", "update_status", "players"):
        agent.answers[name] = answer
    async with watch.running():
        await trio.sleep(60)
        assert (watch.seen.liveness, watch.most_misses) == (Liveness.ONLINE, 0)
        assert watch.seen.readiness is not None
        assert not watch.seen.readiness.ready
        assert watch.seen.readiness.reason
        assert watch.seen.players is None
    assert len(agent.times("version")) == 1, "it is not asked sooner because it failed"


async def test_what_an_old_agent_lacks_is_asked_once(autojump_clock: MockClock, agent: Agent) -> None:
    watch = Watch()
    lacking = ("ready", "version", "update_status", "players")
    for name in lacking:
        agent.answers[name] = Unsupported("this agent does not know the call")
    async with watch.running():
        await trio.sleep(200)
    assert [len(agent.times(name)) for name in ("ready", "update_status", "players")] == [1, 1, 1]
    assert 3 <= len(agent.times("version")) <= 5, "its update is how all that becomes worth asking again"
    assert watch.cell.lacking == {Feature.UPDATE, Feature.PLAYERS}
    assert watch.seen.liveness is Liveness.ONLINE


async def test_an_agent_that_was_away_or_updates_itself_is_asked_for_its_version(
    autojump_clock: MockClock, agent: Agent
) -> None:
    watch = Watch()
    agent.answers["players"] = agent.answers["ready"] = Unsupported("this agent does not know the call")
    async with watch.running():
        await reached(lambda: Feature.PLAYERS in watch.cell.lacking)
        agent.asked.clear()
        agent.answers["update_status"] = Update("1.4.2", "1.5.0", True, "updating")
        watch.cell.version_asked = True
        watch.cell.poll_asked.set()
        await reached(lambda: len(agent.times("version")) >= 3)
        assert trio.current_time() - agent.times("version")[0] < 12, "while it updates itself, in every round"
        agent.answers["update_status"] = Update("1.4.2", "1.5.0", True, "failed")
        await reached(lambda: watch.seen.update == agent.answers["update_status"])
        agent.answers["status"] = Unreachable("refused")
        await reached(lambda: watch.seen.misses == 2)
        del agent.answers["players"], agent.answers["ready"]
        agent.answers |= {
            "status": Status(AgentState.RUNNING),
            "version": Version("1.5.0"),
            "update_status": Update("1.5.0", "1.5.0", False, "idle"),
            "players": Players(1, 20),
            "ready": Readiness(True),
        }
        agent.asked.clear()
        await reached(lambda: watch.seen.version == Version("1.5.0"))
        assert len(agent.times("status")) <= 2, "in the first good round"
        assert watch.cell.lacking == frozenset()
        await reached(lambda: watch.seen.players == Players(1, 20) and watch.seen.readiness == Readiness(True))
        await trio.sleep(30)
    assert len(agent.times("version")) <= 3


async def test_a_crash_leaves_what_was_seen_marked_stale(autojump_clock: MockClock, agent: Agent) -> None:
    watch = Watch()
    async with watch.running() as system:
        await trio.sleep(3)
        before = watch.seen
        agent.answers["status"] = ZeroDivisionError("a planted bug")
        await reached(lambda: watch.seen.stale)
        assert (watch.seen.status, watch.seen.at) == (before.status, before.at)
        agent.answers["status"] = Status(AgentState.RUNNING)
        await trio.sleep(5)
        assert not watch.seen.stale
        assert system.snapshot_of("task").crashes >= 1
        assert agent.open == 1
    assert agent.open == 0, "a client was left open"


async def test_another_address_or_token_is_another_client(autojump_clock: MockClock, agent: Agent) -> None:
    watch = Watch()
    async with watch.running():
        await trio.sleep(3)
        watch.cell.set_row(a_row(address="127.64.0.2"))
        await trio.sleep(10)
        watch.cell.set_row(a_row(address="127.64.0.2", agent_token="another"))
        await trio.sleep(10)
        assert agent.opened == [
            ("127.64.0.1", 18888, "secret-token"),
            ("127.64.0.2", 18888, "secret-token"),
            ("127.64.0.2", 18888, "another"),
        ]
        assert agent.open == 1


async def test_who_refuses_the_token_at_the_address_is_not_the_agent(autojump_clock: MockClock, agent: Agent) -> None:
    watch = Watch(address="10.0.0.5")
    async with watch.running():
        await reached(lambda: watch.seen.met_at == "10.0.0.5")
        # One that is silent for a while may be it still.
        agent.answers["status"] = Unreachable("nothing listens")
        await reached(lambda: watch.seen.misses == 1)
        assert watch.seen.met_at == "10.0.0.5"
        for status in (401, 403):
            agent.answers["status"] = Status(AgentState.RUNNING)
            await reached(lambda: (watch.seen.misses, watch.seen.met_at) == (0, "10.0.0.5"))
            agent.answers["status"] = Refused("/status: no", status=status)
            await reached(lambda: watch.seen.misses == 1)
            assert watch.seen.met_at is None
        agent.answers["status"] = Status(AgentState.RUNNING)
        watch.cell.set_row(a_row(address="10.0.0.6"))
        await reached(lambda: watch.seen.met_at == "10.0.0.6")
