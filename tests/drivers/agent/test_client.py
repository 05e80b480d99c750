"""The client against a simulated agent: the whole contract, and every fault that it can show."""

from __future__ import annotations

import logging

import pytest
import trio

from tests.agents import BOOTSTRAP, DEV, GAME, TOKEN, client_of, start_agent, typed, until
from tests.drivers.agent.peers import Peer, answering, ok
from zlh.drivers.agent import AgentClient
from zlh.drivers.errors import Conflict, DriverError, Invalid, Refused, Unreachable, Unsupported
from zlh.model.observed import AgentState, Players, Update
from zlh.simulators.agent import Durations, Fault, FaultName


async def test_from_bootstrap_to_running_and_back(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path)
    with trio.fail_after(10):
        with client_of(agent, BOOTSTRAP) as client:
            await client.health()
            assert (await client.status()).state is AgentState.IDLE
            assert not (await client.ready()).ready
            with pytest.raises(Conflict, match="not configured"):
                await client.start()
            await client.configure(GAME)
            with pytest.raises(Refused) as caught:
                await client.health()
            assert caught.value.status == 401
        with client_of(agent) as client:
            steps = set()
            while (status := await client.status()).state is not AgentState.RUNNING:
                steps.add(status.install_step)
                await trio.sleep(0.01)
            assert len(steps - {None}) > 1
            assert (await client.ready()).ready
            assert (await client.version()).version == "1.4.2"
            assert await client.update_status() == Update("1.4.2", "1.5.0", True, "idle")
            assert await client.players() == Players(0, 20)
            assert await typed(client, "join alice") == 202
            assert await client.players() == Players(1, 20, ("alice",))
            assert "alice joined the game" in (await client.history(1))[0]
            with pytest.raises(Conflict, match="not possible while running"):
                await client.start()
            await client.stop()
            await until(lambda: agent.state == "idle")
            await client.start()
            await client.restart()
            await until(lambda: agent.state == "running")
            await client.kill()
            await until(lambda: agent.state == "idle")
            await client.kill()


async def test_a_refused_configuration_names_its_fields(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path)
    with client_of(agent, BOOTSTRAP) as client, pytest.raises(Refused) as caught:
        await client.configure(GAME | {"memory_mb": "much", "ports": None})
    assert caught.value.status == 400
    assert caught.value.details == {"memory_mb": "not of type int", "ports": "not of type list"}


async def test_a_dev_container_has_no_players(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path, config=DEV)
    with client_of(agent) as client, pytest.raises(Unsupported):
        await client.players()


async def test_an_update_restarts_the_agent_with_the_new_version(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path, config=GAME)
    with client_of(agent) as client:
        assert (await client.request("POST", "/update")).status == 202
        assert (await client.update_status()).state == "updating"

        async def updated() -> bool:
            try:
                return (await client.version()).version == "1.5.0"
            except Unreachable:
                return False

        await until(updated)
        assert not (await client.update_status()).available
        assert agent.state == "running"


async def test_a_kill_overtakes_a_stop_that_hangs(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path, config=GAME)
    agent.faults.set(Fault(FaultName.HUNG, path="/stop"))
    with client_of(agent) as client, trio.fail_after(5):
        async with trio.open_nursery() as commands:
            commands.start_soon(client.stop)
            await until(lambda: agent.requests == 1)
            await client.kill()
            await until(lambda: agent.state == "idle")
            commands.cancel_scope.cancel()


WIRE_FAULTS = [
    (Fault(FaultName.GARBAGE), Invalid, "not JSON"),
    (Fault(FaultName.NOT_HTTP), Invalid, "does not speak HTTP"),
    (Fault(FaultName.HUGE), Invalid, "answered 10485773 bytes, 65536 allowed"),
    (Fault(FaultName.WRONG_TYPES), Invalid, "`state` is 7, not a string"),
    (Fault(FaultName.DEEP), Invalid, "not JSON"),
    (Fault(FaultName.NOT_A_NUMBER), Invalid, "not JSON"),
    (Fault(FaultName.ABSURD), Invalid, r"`crashCount` is 1e\+40, not a whole number"),
    (Fault(FaultName.HALF_ANSWER), Unreachable, "in the middle of its answer"),
    (Fault(FaultName.WRONG_LENGTH), Invalid, "not JSON"),
    (Fault(FaultName.REFUSING), Unreachable, "refused the connection"),
]


@pytest.mark.parametrize(("fault", "kind", "reason"), WIRE_FAULTS, ids=lambda value: getattr(value, "name", ""))
async def test_a_wire_fault_is_an_error_with_a_reason_and_passes(nursery, tmp_path, fault, kind, reason):
    agent = await start_agent(nursery, tmp_path, config=GAME)
    with client_of(agent) as client:
        await client.status()
        agent.faults.set(fault)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(5), pytest.raises(kind, match=reason):
            await client.status()
        agent.faults.clear()

        async def well() -> bool:
            try:
                return (await client.status()).state is AgentState.RUNNING
            except DriverError:
                return False

        await until(well)


@pytest.mark.parametrize(
    "fault", [Fault(FaultName.HUNG), Fault(FaultName.DRIPPING), Fault(FaultName.SLOW, seconds=60)]
)
async def test_the_callers_scope_ends_what_never_ends(nursery, tmp_path, fault):
    agent = await start_agent(nursery, tmp_path, config=GAME)
    with client_of(agent) as client:
        agent.faults.set(fault)
        with trio.move_on_after(0.1) as scope:
            await client.status()
        assert scope.cancelled_caught
        agent.faults.clear()
        with trio.fail_after(5):
            assert (await client.status()).state is AgentState.RUNNING


async def test_an_old_agent_lacks_features_and_still_works(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path, config=GAME)
    agent.faults.set(FaultName.OLD_VERSION)
    with client_of(agent) as client:
        assert (await client.status()).state is AgentState.RUNNING
        for call in (client.ready, client.version, client.update_status, client.players, client.kill):
            with pytest.raises(Unsupported):
                await call()
        await client.stop()


async def test_a_lying_agent_is_reported_as_it_speaks(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path)
    agent.faults.set(Fault(FaultName.LYING, flip=True))
    with client_of(agent, BOOTSTRAP) as client:
        assert (await client.status()).state is AgentState.RUNNING
        assert [(await client.ready()).ready for _ in range(4)] == [False, True, False, True]


async def test_ready_true_in_a_503_is_a_contradiction(nursery):
    peer = await nursery.start(Peer(answering(ok(b'{"ready": true}', head=b"HTTP/1.1 503 x"))).run)
    with pytest.raises(Invalid, match="status 503"):
        await AgentClient("127.0.0.1", peer.port, "t").ready()


async def test_any_call_can_be_forwarded_with_its_own_status(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path, config=GAME)
    with client_of(agent) as client:
        made = await client.request("POST", "/files/directory", {"path": "a b&c"})
        assert made.status == 201
        found = await client.request("GET", "/files", query={"path": "a b&c"})
        assert (found.status, found.body) == (200, b'{"path":"a b&c","entries":[]}')
        gone = await client.request("DELETE", "/files", query={"path": "nothing"})
        assert gone.status == 404
        odd = await client.request("GET", "/files\r\nX: y")
        assert odd.status == 404
        for method, path in (("HEAD", "/files"), ("get", "/files"), ("GET", "files"), ("GET", "/\ud800")):
            with pytest.raises(Invalid):
                await client.request(method, path)
        with pytest.raises(Invalid):
            await client.request("POST", "/mods", {"id": object()})


async def test_the_token_shows_nowhere(nursery, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    agent = await start_agent(nursery, tmp_path, config=GAME)
    with client_of(agent, "secret-but-wrong") as client:
        with pytest.raises(Refused) as caught:
            await client.status()
        assert "secret" not in repr(client) + repr(caught.value)
    with client_of(agent) as client:
        await client.status()
        assert TOKEN not in repr(client)
    assert "secret" not in caplog.text
    assert TOKEN not in caplog.text


async def test_a_second_connection_is_closed_when_long_idle(nursery, tmp_path, monkeypatch):
    monkeypatch.setattr("zlh.drivers.agent.client.IDLE_SECONDS", 0.1)
    agent = await start_agent(nursery, tmp_path, config=GAME)
    agent.faults.set(Fault(FaultName.SLOW, path="/ready", seconds=0.05))
    with client_of(agent) as client, trio.fail_after(5):
        async with trio.open_nursery() as commands:
            commands.start_soon(client.ready)
            commands.start_soon(client.status)
        assert agent.connections == 2

        async def polled_until_one_is_left() -> bool:
            await client.status()
            return agent.connections == 1

        await until(polled_until_one_is_left)
    await until(lambda: agent.connections == 0)


async def test_thousand_requests_leave_one_connection(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path, config=GAME, durations=Durations(0.1, 0.05))
    with client_of(agent) as client, trio.fail_after(30):
        for _ in range(1000):
            await client.status()
        assert agent.connections == 1
