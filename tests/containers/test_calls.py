"""Calls that are passed on: what each answer of an agent means, and that none of it harms the container."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import orjson
import pytest
import trio

from tests.agents import GAME, TOKEN, client_of, start_agent
from tests.containers.samples import a_row
from tests.drivers.agent.peers import Peer, answering, ok
from tests.stack import Stack, until
from zlh.containers.calls import PLAYERS, carry_out, read_players
from zlh.containers.cell import Cell
from zlh.drivers.agent import AgentClient
from zlh.model.agent_calls import AgentAnswer, AgentCall, Feature
from zlh.model.containers import ContainerType
from zlh.model.errors import (
    AgentProblemError,
    AgentUnreachableError,
    AgentUnsupportedError,
    ProblemError,
    UnavailableError,
)
from zlh.model.observed import AgentObservation, Players, Version
from zlh.model.paths import clean_path
from zlh.simulators.agent import SimulatedAgent
from zlh.simulators.agent.faults import Fault, FaultName

LIST = AgentCall(Feature.FILES, "GET", "/files", query={"path": ""}, changes=False, probe="/files")
MAKE = AgentCall(Feature.FILES, "POST", "/files/directory", body={"path": "new"}, probe="/files")
UPDATES = AgentCall(Feature.MOD_UPDATES, "GET", "/mods/updates", changes=False)
PRINTABLE = [chr(code) for code in range(33, 127) if chr(code) not in "/\\"]
MISSING = replace(LIST, query={"path": "missing"})


@pytest.fixture
def cell() -> Cell:
    cell = Cell(a_row(), lambda _cell: None)
    cell.observe_agent(AgentObservation(version=Version("1.4.2")))
    return cell


@pytest.fixture
async def agent(nursery: trio.Nursery, tmp_path: Path) -> SimulatedAgent:
    return await start_agent(nursery, tmp_path, config=GAME)


async def ask(agent: SimulatedAgent, cell: Cell, call: AgentCall, token: str = TOKEN) -> AgentAnswer:
    with client_of(agent, token) as client:
        return await carry_out(call, client, cell)


@contextmanager
def refused(kind: type[ProblemError], status: int) -> Iterator[pytest.ExceptionInfo[ProblemError]]:
    with pytest.raises(kind) as caught:
        yield caught
    assert caught.value.status == status


async def answered(nursery: trio.Nursery, cell: Cell, call: AgentCall, *raw: bytes) -> AgentAnswer:
    """What becomes of an answer that is exactly so; each connection is given one of them."""
    left = list(raw)

    async def talk(stream: trio.SocketStream) -> None:
        await answering(left.pop(0))(stream)

    peer: Peer = await nursery.start(Peer(talk).run)
    return await carry_out(call, AgentClient("127.0.0.1", peer.port, "t"), cell)


async def test_a_success_is_passed_on_as_it_is(agent: SimulatedAgent, cell: Cell) -> None:
    assert (await ask(agent, cell, MAKE)).status == 201
    listed = await ask(agent, cell, LIST)
    assert (listed.status, [entry["name"] for entry in orjson.loads(listed.body)["entries"]]) == (200, ["new"])
    gone = await ask(agent, cell, replace(LIST, method="DELETE", query={"path": "new"}, changes=True))
    assert gone == AgentAnswer(204, b"")


async def test_every_odd_name_arrives_as_it_is(agent: SimulatedAgent, cell: Cell) -> None:
    odd = [
        "é",
        "e\u0301",
        "👩\u200d🚀",
        "\u202egnp",
        "\u00a0",
        "ß" * 127,
        "...",
        "~",
        "-rf",
        "%41",
        "50%",
        "a%2Bb",
        "~.%~",
    ]
    names = {clean_path(name) for name in [*odd, *(f"a{one}b" for one in PRINTABLE), *(one * 3 for one in PRINTABLE)]}
    for name in names:
        assert (await ask(agent, cell, replace(MAKE, body={"path": name}))).status == 201, name
    listed = orjson.loads((await ask(agent, cell, LIST)).body)["entries"]
    assert {entry["name"] for entry in listed} == names
    for name in names:
        await ask(agent, cell, replace(MAKE, path="/files/rename", body={"from": name, "to": "elsewhere"}))
        gone = replace(LIST, method="DELETE", query={"path": "elsewhere"}, changes=True)
        assert (await ask(agent, cell, gone)).status == 204, name
        assert (await ask(agent, cell, replace(MAKE, body={"path": name}))).status == 201, name
        assert (await ask(agent, cell, replace(gone, query={"path": name}))).status == 204, name
    assert orjson.loads((await ask(agent, cell, LIST)).body)["entries"] == []


async def test_what_is_not_there_is_not_what_the_agent_cannot_do(agent: SimulatedAgent, cell: Cell) -> None:
    with refused(AgentProblemError, 404) as missing:
        await ask(agent, cell, MISSING)
    assert missing.value.message == "no such file or directory"
    assert cell.lacking == frozenset()
    agent.faults.set(FaultName.OLD_VERSION)
    with refused(AgentUnsupportedError, 501) as unsupported:
        await ask(agent, cell, MISSING)
    assert unsupported.value.details == {"feature": "files", "agentVersion": "1.4.2"}
    assert cell.lacking == {Feature.FILES}


async def test_an_old_agent_is_asked_once_and_again_when_it_is_another(agent: SimulatedAgent, cell: Cell) -> None:
    agent.faults.set(FaultName.OLD_VERSION)
    with refused(AgentUnsupportedError, 501):
        await ask(agent, cell, UPDATES)
    asked = agent.requests
    with refused(AgentUnsupportedError, 501):
        await ask(agent, cell, UPDATES)
    assert agent.requests == asked
    agent.faults.clear()
    cell.observe_agent(AgentObservation(version=Version("1.5.0")))
    assert (await ask(agent, cell, UPDATES)).body == b'{"updates":[]}'


@pytest.mark.parametrize(
    ("first", "second", "lacking"),
    [
        (b"404 x", b"200 OK", False),
        (b"404 x", b"400 x", False),
        (b"404 x", b"500 x", False),
        (b"404 x", b"404 x", True),
        (b"405 x", None, True),
        (b"501 x", None, True),
    ],
)
async def test_a_probe_decides(
    nursery: trio.Nursery, cell: Cell, first: bytes, second: bytes | None, lacking: bool
) -> None:
    answers = [ok(b"{}", head=b"HTTP/1.1 " + status) for status in (first, second) if status is not None]
    with pytest.raises(AgentUnsupportedError if lacking else AgentProblemError):
        await answered(nursery, cell, MISSING, *answers)
    assert (Feature.FILES in cell.lacking) is lacking


async def test_a_probe_with_a_huge_answer_is_an_answer(nursery: trio.Nursery, cell: Cell) -> None:
    huge = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"
    with refused(AgentProblemError, 404):
        await answered(nursery, cell, MISSING, ok(b"{}", head=b"HTTP/1.1 404 x"), huge)
    assert cell.lacking == frozenset()


@pytest.mark.parametrize(
    ("said", "status"),
    [(400, 400), (401, 502), (403, 502), (404, 404), (409, 409), (413, 413), (429, 429), (500, 500), (507, 507)],
)
async def test_a_refusal_keeps_its_status_unless_it_is_about_us(
    nursery: trio.Nursery, cell: Cell, said: int, status: int
) -> None:
    answer = ok(b'{"error": "no", "details": {"why": 7}}', head=b"HTTP/1.1 %d x" % said)
    with refused(AgentProblemError, status) as caught:
        await answered(nursery, cell, replace(MAKE, probe="/files"), answer, ok())
    assert (caught.value.message, caught.value.details, caught.value.code) == ("no", {"why": "7"}, "agent_refused")


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b"HTTP/1.1 302 x\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 x\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0\r\n",
        ok(b"not json"),
        ok(b'{"a": NaN}'),
        ok(b"\xff"),
        ok(b"[" * 5000 + b"]" * 5000),
        b"",
    ],
    ids=range(12),
)
@pytest.mark.parametrize("changes", [True, False])
async def test_what_is_no_answer_is_no_answer(nursery: trio.Nursery, cell: Cell, raw: bytes, changes: bool) -> None:
    with refused(AgentUnreachableError, 502) as caught:
        await answered(nursery, cell, replace(MAKE, changes=changes), raw, raw)
    assert caught.value.details == ({"mayTakeEffect": True} if changes else None)
    assert cell.lacking == frozenset()


async def test_an_empty_refusal_has_words_all_the_same(nursery: trio.Nursery, cell: Cell) -> None:
    with refused(AgentProblemError, 500) as caught:
        await answered(nursery, cell, MAKE, b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n")
    assert caught.value.message == "the agent answered with status 500"


async def test_nobody_listens(cell: Cell) -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with refused(AgentUnreachableError, 502) as caught:
        await carry_out(MAKE, AgentClient("127.0.0.1", port, "t"), cell)
    assert caught.value.details is None, "nothing was sent, so nothing can take effect"


@pytest.mark.parametrize("call", [MAKE, LIST], ids=["a change", "a look"])
async def test_an_agent_that_never_answers(agent: SimulatedAgent, cell: Cell, call: AgentCall) -> None:
    agent.faults.set(Fault(FaultName.HUNG, path="/files"))
    with refused(AgentUnreachableError, 502) as caught:
        await ask(agent, cell, replace(call, seconds=0.2))
    assert caught.value.details == {"mayTakeEffect": call.changes}


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"online": -1, "max": 2}', b'{"online": "3", "max": 2}'])
def test_players_are_numbers(body: bytes) -> None:
    with refused(AgentUnreachableError, 502):
        read_players(AgentAnswer(200, body))


async def test_hanging_calls_delay_neither_power_nor_each_other(stack: Stack) -> None:
    vmid = (await stack.provision()).vmid
    await stack.status(vmid, "running")
    fleet, shared = stack.fleet, stack.system.snapshot_of
    await stack.agents.cause("hung", path="/files", vmid=vmid)
    refusals: list[ProblemError] = []

    async def hang() -> None:
        try:
            await fleet.call(vmid, replace(LIST, seconds=60.0))
        except ProblemError as problem:
            refusals.append(problem)

    def lane() -> tuple[int, int]:
        seen = shared(f"fleet/{vmid}/mailbox").lanes["shared"]
        return seen.in_flight, seen.depth

    async def is_so(wanted: tuple[int, int]) -> bool:
        return lane() == wanted

    async with trio.open_nursery() as askers:
        for asking, wanted in ((8, (8, 0)), (64, (8, 64))):
            for _ in range(asking):
                askers.start_soon(hang)
            await until(partial(is_so, wanted), lacking=lane)
        with pytest.raises(UnavailableError) as busy:
            await fleet.call(vmid, LIST)
        assert busy.value.retry_after
        with trio.fail_after(10):
            await fleet.stop_game(vmid)
        await stack.status(vmid, "stopped")
        with trio.fail_after(10):
            await fleet.kill_game(vmid)
        askers.cancel_scope.cancel()
    # Those who went away while they waited are never carried out, and what was being looked at is of no use any more.
    assert lane()[1] == 0
    await until(partial(is_so, (0, 0)), lacking=lane)
    assert refusals == []
    # A change goes on to its end, whoever waits for it.
    async with trio.open_nursery() as askers:
        askers.start_soon(fleet.call, vmid, replace(MAKE, seconds=60.0))
        await until(partial(is_so, (1, 0)), lacking=lane)
        askers.cancel_scope.cancel()
    assert (await fleet.call(vmid, PLAYERS)).status == 200
    assert lane() == (1, 0)
    await stack.agents.calm()
    await until(partial(is_so, (0, 0)), lacking=lane)
    assert orjson.loads((await fleet.call(vmid, LIST)).body)["path"] == ""


async def test_an_old_agents_words_vanish_and_come_back_with_its_update(stack: Stack) -> None:
    vmid = (await stack.provision()).vmid
    fleet = stack.fleet
    players = replace(LIST, feature=Feature.PLAYERS, path="/players", query=None, probe=None)

    def features() -> list[str]:
        told: list[str] = fleet.server(vmid).as_dict()["features"]
        return told

    async def knows(version: str) -> bool:
        return fleet.server(vmid).agent.version == Version(version, "0000000")

    await until(partial(knows, "1.4.2"))
    everything = features()
    await stack.agents.cause("old_version", vmid=vmid)
    for call in (LIST, players, UPDATES):
        with refused(AgentUnsupportedError, 501):
            await fleet.call(vmid, call)
    assert set(everything) - set(features()) >= {"files", "players", "mod-updates"}
    asked = (await stack.agents.list())[vmid]["requests"]
    with refused(AgentUnsupportedError, 501):
        fleet.reach(vmid, Feature.FILES, changes=False)
    await stack.agents.calm()
    # Somebody else updates it; ours would be refused as long as it is believed to be that old.
    await fleet.call(vmid, AgentCall(Feature.UPDATE, "POST", "/update"))
    await until(partial(knows, "1.5.0"))
    assert features() == everything
    assert (await fleet.call(vmid, LIST)).status == 200
    assert (await stack.agents.list())[vmid]["requests"] > asked
    seen, at = await fleet.players(vmid, fresh=True)
    assert (seen.online, at > 0) == (0, True)


async def test_players_are_those_that_were_seen_until_somebody_asks_anew(stack: Stack) -> None:
    vmid = (await stack.provision()).vmid
    await stack.status(vmid, "running")
    cell = stack.fleet.projection.cell(vmid)
    seen_at = time.time() - 60
    cell.observe_agent(replace(cell.observed.agent, players=Players(1, 20, ("ada",)), players_at=seen_at))
    assert await stack.fleet.players(vmid) == (Players(1, 20, ("ada",)), seen_at)
    players, at = await stack.fleet.players(vmid, fresh=True)
    assert (players.online, at > seen_at + 30) == (0, True)


async def test_whoever_switches_an_ide_sees_at_once_what_became_of_it(stack: Stack) -> None:
    vmid = (await stack.provision(ctype=ContainerType.DEV)).vmid
    await stack.status(vmid, "running")
    cell = stack.fleet.projection.cell(vmid)
    cell.commanded_until = 0.0
    await stack.fleet.call(vmid, AgentCall(Feature.CODE_SERVER, "GET", "/dev/code-server", changes=False))
    assert cell.commanded_until == 0.0
    await stack.fleet.call(vmid, AgentCall(Feature.CODE_SERVER, "POST", "/dev/code-server/restart"))
    assert cell.commanded_until > time.time()
    assert not cell.version_asked
