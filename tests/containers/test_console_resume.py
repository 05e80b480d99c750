"""What a viewer sees over reconnects and restarts, on virtual time."""

from __future__ import annotations

import dataclasses

import pytest
import trio
from trio.testing import MockClock

from tests.containers.samples import NOW, a_row
from tests.containers.scripted import Agent, Numbered
from tests.containers.test_console import Watcher, a_console, running, settled
from zlh.containers import console as consoles
from zlh.containers.cell import Cell
from zlh.drivers.errors import Invalid, Unreachable, Unsupported
from zlh.model.agent_calls import Feature
from zlh.model.console import Stretch
from zlh.model.containers import Desired, Lifecycle, Power
from zlh.model.errors import TooManyError
from zlh.model.observed import HostObservation, Presence

EPOCH = int(NOW * 1000) - 3_600_000


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Agent:
    agent = Agent()
    monkeypatch.setattr(consoles, "AgentClient", agent.client)
    return agent


@pytest.fixture
def history(agent: Agent) -> Numbered:
    """The agent numbers its lines."""
    history = Numbered(EPOCH, "one", "two", "three")
    agent.answers["numbered_history"] = lambda: history
    return history


def cell_of(console: consoles.Console) -> Cell:
    return console._cell


async def test_the_agents_numbers_last_over_our_restart(
    autojump_clock: MockClock, agent: Agent, history: Numbered
) -> None:
    before, after = Watcher(), Watcher()
    first = a_console()
    async with running(first):
        first.attach(before)
        await settled()
        assert agent.streams[0].numbered
        assert before.lines == ["one", "two", "three"]
    history.write("four", "five")
    # Nothing is left of the first one: a new process.
    second = a_console()
    async with running(second):
        second.attach(after, after=before.seqs[-1])
        assert after.lines == [], "nobody knows yet what that number was"
        await settled()
        assert after.lines == ["four", "five"]
        assert after.seqs == [before.seqs[-1] + 1, before.seqs[-1] + 2]
        assert after.told == ["connecting", "connected"], "and no gap"


async def test_what_was_written_meanwhile_is_fetched_once(
    autojump_clock: MockClock, agent: Agent, history: Numbered
) -> None:
    console, viewer = a_console(history_lines=2), Watcher()
    async with running(console):
        console.attach(viewer)
        await settled()
        agent.streams[0].tell(history.write("four"))
        await settled()
        agent.streams[0].break_off(Unreachable("reset"))
        known = history.write(*(f"away {number}" for number in range(5)))
        await trio.sleep(3)
        # The stream tells again what the history had told already.
        agent.streams[1].tell(known)
        agent.streams[1].tell(history.write("live"))
        await settled()
        assert viewer.lines == ["two", "three", "four", *(f"away {number}" for number in range(5)), "live"]
        assert viewer.seqs == list(range(viewer.seqs[0], viewer.seqs[0] + 9))
        assert "gap" not in viewer.told


async def test_what_the_agent_has_no_more_is_counted(
    autojump_clock: MockClock, agent: Agent, history: Numbered
) -> None:
    console, viewer = a_console(), Watcher()
    async with running(console):
        console.attach(viewer)
        await settled()
        agent.streams[0].break_off()
        history.write("a", "b", "c", "d")
        history.kept = 1
        await trio.sleep(3)
        assert viewer.events[3:] == [("gap", {"dropped": 3}), ("state", {"upstream": "connected"})]
        assert viewer.lines[-1] == "d"
        agent.streams[1].tell(Stretch(("late",), EPOCH, 10))
        await settled()
        assert viewer.events[-1] == ("gap", {"dropped": 2})
        # Who comes later is told the same.
        late = Watcher()
        console.attach(late, after=viewer.seqs[2])
        assert late.lines == ["d", "late"]
        assert late.events[:2] == [("gap", {"dropped": 3}), ("gap", {"dropped": 2})]


async def test_a_history_that_cannot_be_read_is_a_gap(
    autojump_clock: MockClock, agent: Agent, history: Numbered
) -> None:
    console, viewer = a_console(), Watcher()
    asked = 0

    def answer() -> Numbered:
        nonlocal asked
        asked += 1
        if asked == 5:
            raise Invalid("more than 4 MiB")
        return history

    async with running(console):
        console.attach(viewer)
        await settled()
        # One line of it can be had at the next connection, but no page.
        asked = 3
        agent.answers["numbered_history"] = answer
        agent.streams[0].break_off()
        await trio.sleep(3)
        assert viewer.told[-2:] == ["gap", "connected"]
        history.write("four", "five")
        agent.streams[1].tell(history.write("six"))
        await settled()
        assert viewer.lines == ["one", "two", "three", "six"]
        assert viewer.seqs[-1] == viewer.seqs[0] + 5
        assert viewer.events[-1] == ("gap", {"dropped": 2})
        late = Watcher()
        console.attach(late, after=viewer.seqs[2])
        assert late.events[0] == ("gap", {"dropped": None})
        assert late.lines == ["six"]


async def test_another_epoch_is_no_resume(autojump_clock: MockClock, agent: Agent, history: Numbered) -> None:
    console, viewer = a_console(), Watcher()
    async with running(console):
        console.attach(viewer)
        await settled()
        agent.streams[0].break_off()
        # The agent lost its history, and has written about as many lines since.
        again = Numbered(EPOCH + 5000, "new one", "new two", "new three", "new four")
        agent.answers["numbered_history"] = lambda: again
        await trio.sleep(3)
        assert viewer.told[3:] == ["gap", "connected"]
        assert viewer.events[3] == ("gap", {"dropped": None})
        assert viewer.lines == ["one", "two", "three", "new one", "new two", "new three", "new four"]
        assert viewer.seqs == sorted(viewer.seqs)
    restarted, back = a_console(), Watcher()
    async with running(restarted):
        restarted.attach(back, after=viewer.seqs[2])
        await settled()
        assert back.events[1] == ("gap", {"dropped": None})
        assert back.lines == ["new one", "new two", "new three", "new four"]


async def test_a_long_absence_is_read_in_pages(autojump_clock: MockClock, agent: Agent, history: Numbered) -> None:
    console, viewer = a_console(history_lines=50), Watcher()
    history.write(*(f"line {number}" for number in range(500)))
    async with running(console):
        console.attach(viewer, after=(EPOCH << 11) + 2)
        await settled()
        assert len(viewer.lines) == 501
        assert viewer.lines[:2] == ["three", "line 0"]
        assert "gap" not in viewer.told
        agent.streams[0].break_off()
        history.write(*("much" for _ in range(30_000)))
        await trio.sleep(3)
        dropped = [fields["dropped"] for name, fields in viewer.events if name == "gap"]
        assert dropped == [30_000 - 10_000 - 50], "the newest page, and ten thousand before it"
        assert viewer.seqs[-1] - viewer.seqs[0] == 500 + 30_000


async def test_an_agent_that_is_updated_counts_from_then_on(
    autojump_clock: MockClock, agent: Agent, history: Numbered
) -> None:
    numbered = agent.answers["numbered_history"]
    agent.answers["numbered_history"] = Unsupported("this agent does not number its lines")
    agent.answers["history"] = ("old",)
    console, viewer = a_console(), Watcher()
    async with running(console):
        console.attach(viewer)
        await settled()
        assert Feature.CONSOLE_NUMBERS in cell_of(console).lacking
        assert not agent.streams[0].numbered
        agent.streams[0].break_off()
        history.epoch = int(NOW * 1000) + 3000
        agent.answers["numbered_history"] = numbered
        await trio.sleep(3)
        assert not agent.streams[1].numbered, "not asked again so soon"
        agent.streams[1].break_off()
        cell_of(console)._lacks._until.clear()
        await trio.sleep(3)
        assert agent.streams[2].numbered
        assert viewer.lines == ["old", "one", "two", "three"]
        assert viewer.seqs == sorted(viewer.seqs)
        assert viewer.told[-2:] == ["gap", "connected"]


async def test_old_agents_are_compared_line_by_line(autojump_clock: MockClock, agent: Agent) -> None:
    agent.answers["history"] = ("a", "b", "c", "d")
    console, viewer = a_console(), Watcher()
    async with running(console):
        console.attach(viewer)
        await settled()
        agent.streams[0].say("e")
        await settled()
        agent.answers["history"] = ("c", "d", "e", "f", "g")
        agent.streams[0].break_off()
        await trio.sleep(3)
        assert viewer.lines == list("abcdefg")
        assert viewer.seqs == list(range(viewer.seqs[0], viewer.seqs[0] + 7))
        assert "gap" not in viewer.told
        agent.answers["history"] = ("x", "y")
        agent.streams[1].break_off()
        await trio.sleep(3)
        assert viewer.lines == list("abcdefgxy")
        assert viewer.told[-2:] == ["gap", "connected"]


@pytest.mark.parametrize(
    ("code", "changes", "power"),
    [
        ("host_offline", {}, Power.OFF),
        ("suspended", {"desired": Desired(Lifecycle.PRESENT, Power.ON, suspended=True)}, Power.ON),
        ("deleting", {"desired": Desired(Lifecycle.ABSENT, Power.OFF, suspended=False)}, Power.ON),
        ("not_ready", {"address": None}, Power.ON),
    ],
    ids=["off", "suspended", "deleting", "no address"],
)
async def test_why_nothing_comes_is_told_and_found_out_at_once(
    autojump_clock: MockClock, agent: Agent, code: str, changes: dict[str, object], power: Power
) -> None:
    console, viewer = a_console(), Watcher()
    cell = cell_of(console)

    def become(power: Power, **changes: object) -> None:
        cell.observe_host(HostObservation(Presence.PRESENT, power, "pve1", at=NOW))
        cell.set_row(dataclasses.replace(a_row(), **changes))  # type: ignore[arg-type]

    become(Power.ON)
    async with running(console):
        console.attach(viewer)
        await settled()
        # It says nothing any more, and nobody closed the connection.
        become(power, **changes)
        await trio.sleep(2)
        assert viewer.events[-1][1]["code"] == code
        assert agent.streams[0].closed
        await trio.sleep(600)
        become(Power.ON)
        await trio.sleep(2)
        assert viewer.events[-1] == ("state", {"upstream": "connected"})
        assert len(agent.streams) == 2


async def test_an_agent_that_answers_no_ping_is_gone(autojump_clock: MockClock, agent: Agent) -> None:
    console, viewer = a_console(), Watcher()
    async with running(console):
        console.attach(viewer)
        await trio.sleep(600)
        assert len(agent.streams) == 1, "a quiet one is not"
        agent.streams[0].answers_pings = False
        await trio.sleep(45)
        assert agent.streams[0].closed
        assert any(fields.get("code") == "agent_unreachable" for _, fields in viewer.events)


async def test_there_is_a_most_of_viewers(
    autojump_clock: MockClock, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consoles, "MOST_VIEWERS", 2)
    console = a_console()
    places = [console.attach(Watcher()) for _ in range(2)]
    with pytest.raises(TooManyError):
        console.attach(Watcher())
    places[0].detach()
    console.attach(Watcher())


async def test_one_who_leaves_before_anything_is_known_is_not_told(
    autojump_clock: MockClock, agent: Agent, history: Numbered
) -> None:
    console, gone, stays = a_console(), Watcher(), Watcher()
    async with running(console):
        place = console.attach(gone, after=5)
        console.attach(stays)
        place.detach()
        await settled()
    assert gone.lines == []
    assert stays.lines == ["one", "two", "three"]
