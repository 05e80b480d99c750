"""The life of the software in a container, with real child processes where it matters."""

from __future__ import annotations

import os

import pytest
import trio

from tests.agents import BOOTSTRAP, GAME, QUICK, client_of, start_agent, typed, until
from tests.simulators.agent.processes import children_of
from zlh.drivers.errors import Conflict
from zlh.simulators.agent import FaultName, SimulatedAgent


@pytest.mark.parametrize("light", [True, False])
async def test_a_crash_is_counted_and_can_be_started_again(nursery, tmp_path, light):
    agent = await start_agent(nursery, tmp_path, config=GAME, light=light)
    with client_of(agent) as client, trio.fail_after(10):
        assert await typed(client, "crash") == 202
        await until(lambda: agent.state == "crashed")
        status = await client.status()
        assert (status.crash_count, status.error) == (1, "the game exited with code 1")
        with pytest.raises(Conflict):
            await client.stop()
        assert await typed(client, "say anybody?") == 409
        await client.start()
        await until(lambda: agent.state == "running")
        assert (await client.status()).error is None


@pytest.mark.parametrize("light", [True, False])
async def test_crash_on_start(nursery, tmp_path, light):
    agent = await start_agent(nursery, tmp_path, light=light)
    agent.faults.set(FaultName.CRASH_ON_START)
    with client_of(agent, BOOTSTRAP) as client:
        await client.configure(GAME)
    await until(lambda: agent.state == "crashed")


async def test_an_installation_that_fails_is_begun_anew_by_the_same_configuration(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path)
    agent.faults.set(FaultName.INSTALL_FAILS)
    with client_of(agent, BOOTSTRAP) as client:
        await client.configure(GAME)
    await until(lambda: agent.state == "error")
    agent.faults.clear()
    with client_of(agent) as client:
        assert "exited with code 1" in str((await client.status()).error)
        await client.configure(GAME)
        await until(lambda: agent.state == "running")


async def test_an_installation_hangs_until_the_fault_ends(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path)
    agent.faults.set(FaultName.INSTALL_HANGS)
    with client_of(agent, BOOTSTRAP) as client:
        await client.configure(GAME)
    with client_of(agent) as client:
        await client.configure(GAME)
        with pytest.raises(Conflict):
            await client.configure(GAME | {"version": "1.20.4"})
        with trio.fail_after(10):
            while (await client.status()).install_step != "downloading artifact":  # noqa: ASYNC110 - it tells nobody
                await trio.sleep(0.02)
        agent.faults.clear()
        await until(lambda: agent.state == "running")


async def test_settings_change_without_an_installation_and_software_does_not(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path, config=GAME)
    with client_of(agent) as client:
        await client.configure(GAME | {"memory_mb": 4096})
        assert agent.state == "running"
        with pytest.raises(Conflict, match="not possible while running"):
            await client.configure(GAME | {"version": "1.20.4"})


async def test_the_game_is_a_real_process_that_ends_with_its_agent(nursery, tmp_path):
    before = children_of(os.getpid())
    agent = SimulatedAgent("127.0.0.1", tmp_path, BOOTSTRAP, port=0, durations=QUICK)
    async with trio.open_nursery() as container:
        await container.start(agent.run)
        agent.seed(GAME)
        await until(lambda: agent.state == "running")
        assert len(children_of(os.getpid()) - before) == 1
        container.cancel_scope.cancel()
    assert not children_of(os.getpid()) - before


async def test_a_stop_that_the_game_ignores_ends_it_all_the_same(nursery, tmp_path, monkeypatch):
    agent = await start_agent(nursery, tmp_path, config=GAME)
    monkeypatch.setattr("zlh.simulators.agent.child.Game.answer", lambda self, line: [])
    with client_of(agent) as client:
        await client.stop()
        await until(lambda: agent.state == "idle")


@pytest.mark.parametrize("running", [True, False])
async def test_a_restart_of_the_container_remembers(tmp_path, running):
    async with trio.open_nursery() as container:
        agent = await start_agent(container, tmp_path, config=GAME)
        if not running:
            with client_of(agent) as client:
                await client.stop()
            await until(lambda: agent.state == "idle")
        container.cancel_scope.cancel()
    async with trio.open_nursery() as container:
        agent = await start_agent(container, tmp_path)
        with client_of(agent) as client:
            await client.health()
            await until(lambda: agent.state == ("running" if running else "idle"))
        container.cancel_scope.cancel()


async def test_an_installation_goes_on_after_a_restart(tmp_path):
    async with trio.open_nursery() as container:
        agent = await start_agent(container, tmp_path)
        agent.faults.set(FaultName.INSTALL_HANGS)
        with client_of(agent, BOOTSTRAP) as client:
            await client.configure(GAME)
        container.cancel_scope.cancel()
    async with trio.open_nursery() as container:
        agent = await start_agent(container, tmp_path)
        await until(lambda: agent.state == "running")
        container.cancel_scope.cancel()


async def test_a_console_flood_begins_and_ends(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path, config=GAME)
    agent.faults.set(FaultName.CONSOLE_FLOOD)
    await until(lambda: len(agent.console.history(1000)) == 1000)
    agent.faults.clear()
    quiet = 0.0
    with trio.fail_after(10):
        while quiet < 0.2:
            before = agent.console.history(1)
            await trio.sleep(0.05)
            # What was on its way still comes.
            quiet = quiet + 0.05 if agent.console.history(1) == before else 0.0


async def test_a_game_that_runs_answers_at_its_port(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path, config=GAME, light=False)
    with trio.fail_after(10):
        async with await trio.open_tcp_stream(agent.address, GAME["ports"][0]) as stream:
            said = b"".join([data async for data in stream])
    assert said == b"A ZLH server, 0 of 20 players online\n"
    with client_of(agent) as client:
        await client.stop()
    await until(lambda: agent.state == "idle")
    with pytest.raises(OSError, match=r".*"):
        await trio.open_tcp_stream(agent.address, GAME["ports"][0])
