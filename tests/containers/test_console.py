"""One upstream, many viewers, on virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import actors
from tests.containers.samples import NOW, a_row
from tests.containers.scripted import HANG, Agent, Stream, supervised, virtual_now
from zlh.containers import console as consoles
from zlh.containers.activity import Uses
from zlh.containers.cell import Cell
from zlh.containers.console import Console
from zlh.containers.lacks import Lacks
from zlh.containers.options import Options
from zlh.drivers.errors import Invalid, Unreachable, Unsupported
from zlh.model.console import Batch
from zlh.model.containers import Power
from zlh.model.errors import InvalidError, TooManyError, UnavailableError
from zlh.model.observed import HostObservation, Observed, Presence


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Agent:
    agent = Agent()
    monkeypatch.setattr(consoles, "AgentClient", agent.client)
    return agent


class Watcher:
    """A viewer that keeps all it is told; a broken one raises instead."""

    def __init__(self, *, broken: bool = False) -> None:
        self.lines: list[str] = []
        self.seqs: list[int] = []
        self.batches: list[Batch] = []
        self.events: list[tuple[str, dict[str, object]]] = []
        self.ended: tuple[int, str] | None = None
        self._broken = broken

    def deliver(self, batch: Batch) -> None:
        if self._broken:
            raise ZeroDivisionError("a viewer with a bug")
        self.batches.append(batch)
        self.lines += [line.text for line in batch.lines]
        self.seqs += [line.seq for line in batch.lines]

    def event(self, name: str, fields: dict[str, object]) -> None:
        self.events.append((name, fields))

    def end(self, code: int, reason: str) -> None:
        self.ended = (code, reason)

    @property
    def told(self) -> list[object]:
        return [fields.get("upstream", name) for name, fields in self.events]


def a_console(**options: Any) -> Console:
    now = virtual_now()
    cell = Cell(a_row(), lambda _cell: None, lacks=Lacks(lambda _kind: None, now))
    return Console(cell, Options(**options), now, Uses(now))


@asynccontextmanager
async def running(console: Console) -> AsyncIterator[actors.System]:
    async with supervised(console.run) as system:
        yield system


async def settled(seconds: float = 0.2) -> None:
    await trio.sleep(seconds)


async def test_one_upstream_serves_all(autojump_clock: MockClock, agent: Agent) -> None:
    agent.answers["history"] = ("before",)
    console = a_console()
    viewers = [Watcher() for _ in range(5)]
    async with running(console):
        await settled()
        assert agent.opened == [], "nobody watches"
        for viewer in viewers:
            console.attach(viewer)
        await settled()
        (stream,) = agent.streams
        stream.say("one", "two")
        stream.say("three")
        await settled()
        for viewer in viewers:
            assert viewer.lines == ["before", "one", "two", "three"]
            assert viewer.seqs == list(range(viewer.seqs[0], viewer.seqs[0] + 4))
            assert viewer.batches[1] is viewers[0].batches[1], "frames are built once because batches are shared"
        late = Watcher()
        console.attach(late, after=viewers[0].seqs[1])
        assert late.lines == ["two", "three"]
        assert late.events == [("state", {"upstream": "connected"})]
        everything = Watcher()
        console.attach(everything)
        assert everything.lines == viewers[0].lines
    assert agent.open == 0
    assert stream.closed


async def test_a_replay_says_what_is_retained_no_more(autojump_clock: MockClock, agent: Agent) -> None:
    console = a_console(history_lines=3)
    first = Watcher()
    async with running(console):
        console.attach(first)
        await settled()
        agent.streams[0].say(*"abcdef")
        await settled()
        late = Watcher()
        console.attach(late, after=first.seqs[0])
        assert late.events == [("gap", {"dropped": 2}), ("state", {"upstream": "connected"})]
        assert late.lines == list("def")
        # A number from before our own start: nobody knows how many are missing.
        older = Watcher()
        console.attach(older, after=17)
        assert older.events[0] == ("gap", {"dropped": None})
        assert older.lines == list("def")
        # A number that was never given is no resume either.
        newer = Watcher()
        console.attach(newer, after=first.seqs[-1] + 1000)
        assert newer.events[0] == ("gap", {"dropped": None})
        assert newer.lines == list("def")


async def test_it_reconnects_with_patience_and_marks_the_gap(autojump_clock: MockClock, agent: Agent) -> None:
    console = a_console()
    viewer = Watcher()
    async with running(console):
        console.attach(viewer)
        await settled()
        agent.streams[0].say("one")
        await settled()
        right, agent.answers["open_console"] = agent.answers["open_console"], Unreachable("refused")
        agent.streams[0].break_off(Unreachable("reset"))
        agent.asked.clear()
        await trio.sleep(60)
        tries = agent.times("open_console")
        waits = [later - earlier for earlier, later in pairwise(tries)]
        assert waits[0] < waits[1] < waits[2]
        assert 8 <= waits[-1] <= 12.1
        assert 6 <= len(tries) <= 14
        agent.answers["open_console"] = right
        await trio.sleep(15)
        agent.streams[1].say("two")
        await settled()
        assert viewer.lines == ["one", "two"]
        # What there is to say about it is said once.
        assert viewer.told == ["connecting", "connected", "reconnecting", "reconnecting", "gap", "connected"]
        # What went well is not held against it: the next reconnection is quick again.
        agent.streams[1].break_off()
        await trio.sleep(1.5)
        assert len(agent.streams) == 3
    assert all(stream.closed for stream in agent.streams)
    assert agent.open == 0


async def test_a_console_that_does_not_answer_is_given_up(autojump_clock: MockClock, agent: Agent) -> None:
    console = a_console()
    viewer = Watcher()
    agent.answers["open_console"] = HANG
    async with running(console):
        console.attach(viewer)
        await trio.sleep(8)
        state = {"upstream": "reconnecting", "code": "agent_unreachable", "reason": "no answer within 5 s"}
        assert viewer.events[1] == ("state", state)
        assert agent.open <= 1
    assert agent.open == 0


@pytest.mark.parametrize("error", [Unsupported("this agent does not know the call"), Invalid("4 MiB of it")], ids=str)
async def test_an_agent_without_history_has_a_console(
    autojump_clock: MockClock, agent: Agent, error: Exception
) -> None:
    agent.answers["history"] = error
    console = a_console()
    viewer = Watcher()
    async with running(console):
        console.attach(viewer)
        await settled()
        agent.streams[0].say("one")
        await settled()
        assert viewer.lines == ["one"]


async def test_a_viewer_that_raises_hurts_nobody(autojump_clock: MockClock, agent: Agent) -> None:
    console = a_console()
    broken, well = Watcher(broken=True), Watcher()
    async with running(console) as system:
        for viewer in (broken, well):
            console.attach(viewer)
        await settled()
        agent.streams[0].say("one")
        await settled()
        agent.streams[0].say("two")
        await settled()
        assert well.lines == ["one", "two"]
        assert console.viewers == 1
        assert system.snapshot_of("task").crashes == 0


async def test_the_upstream_lingers_for_a_reload(autojump_clock: MockClock, agent: Agent) -> None:
    console = a_console()
    async with running(console):
        for _ in range(3):
            viewer = Watcher()
            place = console.attach(viewer)
            await settled()
            place.detach()
            place.detach()
            await trio.sleep(20)
        assert len(agent.streams) == 1, "each reload came within the half minute"
        agent.streams[0].say("while nobody watched")
        await trio.sleep(12)
        assert agent.streams[0].closed
        assert agent.open == 0
        back = Watcher()
        console.attach(back)
        assert back.lines == ["while nobody watched"]
        await settled()
        assert len(agent.streams) == 2


async def test_a_container_that_is_off_is_not_connected_to(autojump_clock: MockClock, agent: Agent) -> None:
    console = a_console()
    off = HostObservation(Presence.PRESENT, Power.OFF, "pve1", at=NOW)
    console._cell.observed = Observed(host=off)
    viewer = Watcher()
    async with running(console):
        console.attach(viewer)
        await trio.sleep(30)
        assert agent.opened == []
        assert viewer.events[1][1]["reason"] == "the container is off"


async def test_typing_is_limited_and_needs_an_upstream(autojump_clock: MockClock, agent: Agent) -> None:
    console = a_console(input_per_second=10.0)
    async with running(console):
        place = console.attach(Watcher())
        # Typed before the upstream is open: it waits for that.
        await place.send_line("early")
        stream: Stream = agent.streams[0]
        assert stream.typed == ["early"]
        for bad in ("two\nlines", "a\rb", "nul\0", "x" * 4097):
            with pytest.raises(InvalidError):
                await place.send_line(bad)
        typed = 0
        with pytest.raises(TooManyError) as refused:
            while True:
                await place.send_line("say hello")
                typed += 1
        assert 18 <= typed <= 19
        assert refused.value.retry_after is not None
        await trio.sleep(refused.value.retry_after + 0.001)
        await place.send_line("again")
        # Another viewer has an allowance of its own.
        await console.attach(Watcher()).send_line("mine")
        assert stream.typed[-2:] == ["again", "mine"]
        stream.hangs = True
        before = trio.current_time()
        with pytest.raises(UnavailableError):
            await console.attach(Watcher()).send_line("hangs")
        assert trio.current_time() - before == pytest.approx(5.0)


async def test_typing_without_an_upstream_is_refused_in_time(autojump_clock: MockClock, agent: Agent) -> None:
    console = a_console()
    agent.answers["open_console"] = HANG
    async with running(console):
        place = console.attach(Watcher())
        before = trio.current_time()
        with pytest.raises(UnavailableError):
            await place.send_line("nobody hears it")
        assert trio.current_time() - before == pytest.approx(5.0)


async def test_what_is_typed_waits_over_a_failed_attempt(autojump_clock: MockClock, agent: Agent) -> None:
    console = a_console()
    right, agent.answers["open_console"] = agent.answers["open_console"], Unreachable("refused the connection")
    async with running(console):
        place = console.attach(Watcher())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(place.send_line, "say hello")
            await trio.sleep(0.1)
            agent.answers["open_console"] = right
        assert agent.streams[0].typed == ["say hello"]


async def test_viewers_outlive_a_crash_and_are_told_the_end(
    autojump_clock: MockClock, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = a_console()
    viewer = Watcher()
    async with running(console) as system:
        console.attach(viewer)
        await settled()
        agent.streams[0].say("one")
        await settled()
        agent.streams[0].break_off(ZeroDivisionError("a planted bug"))
        await trio.sleep(2)
        assert system.snapshot_of("task").crashes == 1
        agent.streams[1].say("two")
        await settled()
        assert viewer.lines == ["one", "two"]
        assert "gap" in viewer.told
        console.end(4404, "the container was removed")
        assert viewer.ended == (4404, "the container was removed")
        assert console.viewers == 0
    assert all(stream.closed for stream in agent.streams)
