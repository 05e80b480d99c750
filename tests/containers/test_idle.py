"""When the IDE of a dev container is stopped because nobody uses it, and when not."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.containers.samples import NOW, a_row, an_operation
from tests.containers.scripted import supervised, virtual_now
from zlh.containers.activity import Uses
from zlh.containers.idle import ROUND_SECONDS, WARNING_SECONDS, IdleWatch, Watched, judge
from zlh.containers.projection import Projection
from zlh.model.activity import Usage, Use
from zlh.model.agent_calls import AgentAnswer, AgentCall
from zlh.model.audit import Act, Ending, Outcome
from zlh.model.containers import ContainerType, Desired, Lifecycle, Power
from zlh.model.errors import AgentUnreachableError
from zlh.model.observed import AgentObservation, AgentState, HostObservation, Liveness, Presence, Status
from zlh.store import StoreUnavailable

VMID = 6001
ON = HostObservation(Presence.PRESENT, Power.ON, "pve1", at=NOW)
ONLINE = AgentObservation(Liveness.ONLINE, Status(AgentState.RUNNING), at=NOW)


@settings(deadline=None, max_examples=60)
@given(
    minutes=st.integers(10, 120),
    uses=st.lists(st.floats(0, 20_000), max_size=8),
    visits=st.lists(st.tuples(st.floats(0, 20_000), st.floats(1, 5_000)), max_size=3),
    beat=st.floats(15, 200),
)
def test_nobody_loses_an_ide_that_was_used_or_without_a_warning(
    minutes: int, uses: list[float], visits: list[tuple[float, float]], beat: float
) -> None:
    """Judged every `beat` seconds from 0 on, with uses and visits (from, for how long) at any time."""
    watched = Watched(minutes, 0.0)
    warned_since: float | None = None
    now = 0.0
    while now < 40_000:
        now += beat
        seen = [at for at in uses if at <= now] + [min(now, at + long) for at, long in visits if at <= now]
        here = [at for at, long in visits if at <= now < at + long]
        usage = Usage({Use.IDE: len(here)}, {Use.IDE: max(seen)} if seen else {})
        idle = judge(watched, usage, now)
        if idle is None:
            watched, warned_since = dataclasses.replace(watched, warned_at=None), None
            continue
        assert not here
        if now >= idle.stops_at:
            assert now - max(seen, default=0.0) >= minutes * 60
            assert warned_since is not None
            assert now - warned_since >= WARNING_SECONDS
            assert all(at <= warned_since for at in seen)
            return
        if watched.warned_at is None or watched.warned_at < idle.since:
            watched, warned_since = dataclasses.replace(watched, warned_at=now), now
    raise AssertionError("it was never stopped, though nobody came any more")


class Store:
    """A database that has only the wishes."""

    def __init__(self) -> None:
        self.wishes: dict[int, int] | None = {}

    async def run(self, _function: object) -> dict[int, int]:
        await trio.lowlevel.checkpoint()
        if self.wishes is None:
            raise StoreUnavailable("away")
        return dict(self.wishes)


class House:
    """A fleet of one dev container, whose code-server is in `state`."""

    def __init__(self) -> None:
        self.now = virtual_now()
        self.projection = Projection(self.now)
        self.activity = Uses(self.now)
        self.store = Store()
        self.state: str | Exception = "running"
        self.asked: list[str] = []
        self.stopped_at: list[float] = []
        self.notes: list[tuple[Act, Ending]] = []
        self.cell = self.projection.add(a_row(VMID, ctype=ContainerType.DEV))
        self.cell.observe_host(ON)
        self.cell.observe_agent(ONLINE)

    async def call(self, vmid: int, call: AgentCall, *, use: bool = True) -> AgentAnswer:
        assert vmid == VMID
        assert not use, "it is not somebody's"
        await trio.sleep(0.1)
        self.asked.append(f"{call.method} {call.path}")
        if isinstance(self.state, Exception):
            raise self.state
        if call.method == "GET":
            return AgentAnswer(200, b'{"state": "%b", "port": 8443}' % self.state.encode())
        self.state = "stopped"
        self.stopped_at.append(trio.current_time())
        return AgentAnswer(202, b'{"ok": true}')

    def note(self, act: Act, ending: Ending) -> None:
        self.notes.append((act, ending))

    def watch(self) -> IdleWatch:
        return IdleWatch(self.store, self, self.note, self.now)  # type: ignore[arg-type]

    @property
    def told(self) -> dict[str, Any] | None:
        told: dict[str, Any] | None = self.cell.server(self.now()).as_dict()["idle"]
        return told


@asynccontextmanager
async def watching(house: House) -> AsyncIterator[float]:
    """The time at which it began."""
    async with supervised(house.watch().run):
        yield trio.current_time()


async def test_nothing_is_stopped_where_nobody_asked_for_it(autojump_clock: MockClock) -> None:
    house = House()
    async with watching(house):
        await trio.sleep(80_000)
    assert house.asked == []
    assert house.told is None


async def test_it_warns_and_stops_and_says_why(autojump_clock: MockClock) -> None:
    house = House()
    house.store.wishes = {VMID: 60}
    async with watching(house) as began:
        house.activity.touched(VMID, Use.CALL)
        await trio.sleep(3600 - WARNING_SECONDS - 2 * ROUND_SECONDS)
        assert house.told is None
        assert house.asked == []
        await trio.sleep(4 * ROUND_SECONDS)
        told = house.told
        assert told is not None
        assert told["evidence"]["ideConnections"] == 0
        assert told["evidence"]["lastCall"] == told["since"]
        assert house.asked == ["GET /dev/code-server"]
        await trio.sleep(WARNING_SECONDS)
        (at,) = house.stopped_at
        assert 3600 <= at - began <= 3600 + 4 * ROUND_SECONDS
        assert house.told is None
        ((act, ending),) = house.notes
        assert (act.action, act.vmid, act.subject_id, ending.outcome) == (
            "code_server.idle_stop",
            VMID,
            7,
            Outcome.DONE,
        )
        assert "ide not seen" in str(act.details["reason"])
        assert "call last seen 2026-03-01T12:00:00+00:00" in str(act.details["reason"])
        # What is stopped is not stopped again.
        await trio.sleep(80_000)
        assert len(house.stopped_at) == len(house.notes) == 1


@pytest.mark.parametrize("use", list(Use))
async def test_a_use_after_the_warning_keeps_it(autojump_clock: MockClock, use: Use) -> None:
    house = House()
    house.store.wishes = {VMID: 10}
    async with watching(house):
        for _ in range(20):
            await trio.sleep(500)
            assert house.told is not None
            house.activity.touched(VMID, use)
            await trio.sleep(ROUND_SECONDS + 1)
            assert house.told is None
        assert house.stopped_at == []


async def test_an_open_connection_keeps_it_for_as_long_as_it_is_open(autojump_clock: MockClock) -> None:
    house = House()
    house.store.wishes = {VMID: 10}
    async with watching(house):
        house.activity.opened(VMID, Use.IDE)
        house.activity.opened(VMID, Use.CONSOLE)
        await trio.sleep(50_000)
        house.activity.closed(VMID, Use.CONSOLE)
        await trio.sleep(50_000)
        assert house.asked == []
        house.activity.closed(VMID, Use.IDE)
        await trio.sleep(500)
        assert house.stopped_at == []
        await trio.sleep(200)
        assert len(house.stopped_at) == 1


def off(house: House) -> None:
    house.cell.observe_host(dataclasses.replace(ON, power=Power.OFF))


def unknown(house: House) -> None:
    house.cell.observe_host(dataclasses.replace(ON, power=Power.UNKNOWN))


def silent(house: House) -> None:
    house.cell.observe_agent(dataclasses.replace(ONLINE, liveness=Liveness.OFFLINE))


def inherited(house: House) -> None:
    house.cell.observe_agent(dataclasses.replace(ONLINE, stale=True))


def busy(house: House) -> None:
    house.cell.set_operation(an_operation())


def suspended(house: House) -> None:
    row = house.cell.row
    house.cell.set_row(dataclasses.replace(row, desired=Desired(Lifecycle.PRESENT, Power.ON, suspended=True)))


def other_setting(house: House) -> None:
    house.store.wishes = {VMID: 11}


def no_setting(house: House) -> None:
    house.store.wishes = {}


def no_database(house: House) -> None:
    house.store.wishes = None


@pytest.mark.parametrize(
    "trouble", [off, unknown, silent, inherited, busy, suspended, other_setting, no_setting, no_database]
)
async def test_what_nobody_knows_counts_as_use(autojump_clock: MockClock, trouble: Any) -> None:
    house = House()
    house.store.wishes = {VMID: 10}
    async with watching(house):
        await trio.sleep(400)
        assert house.told is not None
        trouble(house)
        await trio.sleep(250)
        if trouble is not no_database:
            assert house.told is None
        assert house.stopped_at == []


async def test_idle_time_begins_anew_with_every_start_of_ours(autojump_clock: MockClock) -> None:
    house = House()
    house.store.wishes = {VMID: 10}
    for _ in range(5):
        async with watching(house):
            await trio.sleep(590)
    assert house.stopped_at == []


async def test_somebody_who_comes_at_the_last_moment_is_in_time(autojump_clock: MockClock) -> None:
    class Late(House):
        async def call(self, vmid: int, call: AgentCall, *, use: bool = True) -> AgentAnswer:
            if self.told is not None:
                self.activity.opened(vmid, Use.IDE)
            return await super().call(vmid, call, use=use)

    late = Late()
    late.store.wishes = {VMID: 10}
    async with watching(late):
        await trio.sleep(5000)
    assert late.asked == ["GET /dev/code-server", "GET /dev/code-server"]
    assert late.stopped_at == []


async def test_an_agent_that_cannot_be_asked_is_not_told_to_stop(autojump_clock: MockClock) -> None:
    house = House()
    house.store.wishes = {VMID: 10}
    house.state = AgentUnreachableError("the agent does not answer")
    async with watching(house):
        await trio.sleep(5000)
    assert set(house.asked) == {"GET /dev/code-server"}
    assert house.notes == []


async def test_a_stop_that_fails_is_on_record_and_tried_again_later(autojump_clock: MockClock) -> None:
    class Deaf(House):
        async def call(self, vmid: int, call: AgentCall, *, use: bool = True) -> AgentAnswer:
            if call.method == "POST":
                self.asked.append("POST")
                raise AgentUnreachableError("the agent does not answer")
            return await super().call(vmid, call, use=use)

    deaf = Deaf()
    deaf.store.wishes = {VMID: 10}
    async with watching(deaf):
        await trio.sleep(1500)
    assert deaf.asked.count("POST") == 2
    assert [ending.outcome for _, ending in deaf.notes] == [Outcome.FAILED] * 2


def test_uses_are_counted_and_forgotten() -> None:
    now = 100.0
    uses = Uses(lambda: now)
    assert uses.of(1) == Usage()
    uses.opened(1, Use.IDE)
    uses.opened(1, Use.IDE)
    uses.closed(1, Use.IDE)
    assert uses.of(1).busy
    assert uses.of(1).last == 100.0
    uses.closed(1, Use.IDE)
    uses.closed(1, Use.IDE)
    assert not uses.of(1).busy
    uses.opened(1, Use.IDE)
    uses.forget(1)
    uses.closed(1, Use.IDE)
    assert not uses.of(1).busy
