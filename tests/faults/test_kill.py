"""`kill -9` of the API around every journal write and every external call, then a restart: nothing is lost.

A first run without a death records the places. Then every place has its turn: the API dies there, is started again,
and the operation must end, with Proxmox, the database and the agents in agreement. A table of all is printed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.faults.world import World, open_world

pytestmark = pytest.mark.faults

GAME = {
    "ctype": "game",
    "game": "minecraft",
    "variant": "paper",
    "version": "1.21.1",
    "memoryMiB": 1024,
    "cpuCores": 1,
    "diskGiB": 8,
    "name": "kill me",
}

LANES = 2


@dataclass(frozen=True)
class Outcome:
    journey: str
    place: str
    operation: str
    problems: list[str]


class Journey:
    """One kind of operation: how to get there, how to begin it, and what must be true once it ended."""

    def __init__(self, name: str, before: Callable[[World], Awaitable[Any]], states: tuple[str, ...]) -> None:
        self.name = name
        self.before = before
        self.states = states


async def _nothing(world: World) -> None:
    return None


async def _provisioned(world: World) -> None:
    answer = await world.call("POST", "/api/instances", GAME)
    operation = await world.finished(answer["operation"]["id"])
    assert operation["state"] == "succeeded", operation


async def _install_will_fail(world: World) -> None:
    await world.agent_fault(fault="install_fails", vmids=list(range(5000, 6000)))


PROVISION = Journey("provision", _nothing, ("succeeded",))
TEARDOWN = Journey("teardown", _provisioned, ("succeeded",))
COMPENSATION = Journey("compensation", _install_will_fail, ("compensated",))
JOURNEYS = (PROVISION, TEARDOWN, COMPENSATION)


@pytest.mark.parametrize("journey", JOURNEYS, ids=lambda journey: journey.name)
async def test_a_kill_at_any_place_is_survived(journey: Journey, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes: list[Outcome] = []
    async with open_world(0) as world:
        places = await record_places(world, journey)
        todo = iter(places)
        async with trio.open_nursery() as nursery:
            for lane in range(1, LANES):
                nursery.start_soon(_in_own_world, lane, journey, todo, outcomes)
            await _die_everywhere(world, journey, todo, outcomes)
    with capsys.disabled():
        print_table(outcomes)
    assert len(outcomes) == len(places) > 15
    assert [outcome for outcome in outcomes if outcome.problems] == []


async def _in_own_world(lane: int, journey: Journey, todo: Iterator[str], outcomes: list[Outcome]) -> None:
    async with open_world(lane) as world:
        await prepare(world)
        await _die_everywhere(world, journey, todo, outcomes)


async def _die_everywhere(world: World, journey: Journey, todo: Iterator[str], outcomes: list[Outcome]) -> None:
    for place in todo:
        outcome = await die_at(world, journey, place)
        outcomes.append(outcome)


async def prepare(world: World) -> None:
    pid = await world.start()
    await world.register("customer")
    await world.kill(pid)


async def record_places(world: World, journey: Journey) -> list[str]:
    """The places that the journey passes when nothing goes wrong with the API."""
    await prepare(world)
    record = Path(world.folder / "places")
    pid = await world.start(record=record)
    await journey.before(world)
    world.arm(pid)
    operation = await begin(world, journey)
    ended = await world.finished(operation["id"])
    assert ended["state"] in journey.states, ended
    await clean(world)
    await world.kill(pid)
    return (await trio.Path(record).read_text()).splitlines()


async def begin(world: World, journey: Journey) -> dict[str, Any]:
    if journey is not TEARDOWN:
        answer = await world.call("POST", "/api/instances", GAME)
    else:
        (row,) = (await world.call("GET", "/api/instances"))["rows"]
        answer = await world.call("DELETE", f"/api/containers/{row['vmid']}?force=true")
    operation: dict[str, Any] = answer["operation"]
    return operation


async def die_at(world: World, journey: Journey, place: str) -> Outcome:
    """One death at `place`, one restart, and a look at everything."""
    pid = await world.start(target=place)
    await journey.before(world)
    world.arm(pid)
    operation_id = await _begin_or_die(world, journey)
    status = await world.death(pid)
    if status is None:
        await world.kill(pid)
        return Outcome(journey.name, place, "-", ["the API did not die there"])
    again = await world.start()
    try:
        operation = await _carried_on(world, journey, operation_id)
        problems = await disagreements(world, journey, operation)
        state = operation["state"] if operation is not None else "never recorded"
    except (trio.TooSlowError, httpx.HTTPError, AssertionError) as error:
        problems, state = [f"{type(error).__name__}: {error}"], "-"
    await clean(world)
    await world.kill(again)
    return Outcome(journey.name, place, state, problems)


async def _begin_or_die(world: World, journey: Journey) -> str | None:
    try:
        operation_id: str = (await begin(world, journey))["id"]
    except httpx.TransportError:
        return None
    return operation_id


async def _carried_on(world: World, journey: Journey, operation_id: str | None) -> dict[str, Any] | None:
    """The operation once it ended; None where it was never recorded. A client that got no answer looks for itself."""
    if operation_id is None:
        kind = "teardown" if journey is TEARDOWN else "provision"
        listed = (await world.call("GET", "/api/operations"))["operations"]
        found = next((one for one in listed if one["kind"] == kind), None)
        recent = found if found is not None and found["state"] not in ("succeeded", "compensated") else None
        if recent is None and await _as_before(world, journey):
            return None
        operation_id = (recent or found)["id"]
    return await world.finished(operation_id)


async def _as_before(world: World, journey: Journey) -> bool:
    """Nothing of the call was recorded: the world is as it was before it."""
    rows = (await world.call("GET", "/api/instances"))["rows"]
    return len(rows) == (1 if journey is TEARDOWN else 0) and not any(row.get("operation") for row in rows)


async def disagreements(world: World, journey: Journey, operation: dict[str, Any] | None) -> list[str]:
    """What the parts do not agree on; empty is good."""
    problems = []
    if operation is not None and operation["state"] not in journey.states:
        problems.append(f"the operation ended {operation['state']}: {operation['error']}")
    rows = {row["vmid"] for row in (await world.call("GET", "/api/instances"))["rows"]}
    there = await world.cluster.containers()
    if rows != set(there):
        problems.append(f"the database has {sorted(rows)}, Proxmox has {sorted(there)}")
    expected = {PROVISION: 1, TEARDOWN: 0, COMPENSATION: 0}[journey]
    if operation is None:
        expected = 1 if journey is TEARDOWN else 0
    if len(rows) != expected:
        problems.append(f"{len(rows)} containers are left, {expected} expected")
    for vmid in rows:
        server = await _running(world, vmid)
        if server["status"] != "running" or not there[vmid]["running"]:
            problems.append(f"{vmid} is {server['status']}: {server['reason']}")
    unfinished = [
        one["id"]
        for one in (await world.call("GET", "/api/operations"))["operations"]
        if one["state"] in ("running", "compensating")
    ]
    if unfinished:
        problems.append(f"operations are left: {unfinished}")
    return problems


async def _running(world: World, vmid: int) -> dict[str, Any]:
    server: dict[str, Any] = {}
    with trio.move_on_after(10):
        while server.get("status") != "running":
            server = (await world.call("GET", f"/api/servers/{vmid}"))["server"]
            await trio.sleep(0.05)
    return server


async def clean(world: World) -> None:
    """Back to an empty world, by the front door; what a failure left in Proxmox goes by force."""
    for row in (await world.call("GET", "/api/instances"))["rows"]:
        answer = await world.call("DELETE", f"/api/containers/{row['vmid']}?force=true&wait=30")
        await world.finished(answer["operation"]["id"])
    await world.cluster.empty()


def print_table(outcomes: list[Outcome]) -> None:
    print()
    width = max(len(outcome.place) for outcome in outcomes)
    for outcome in outcomes:
        verdict = "; ".join(outcome.problems) or "agrees"
        print(f"{outcome.journey:<13} {outcome.place:<{width}}  {outcome.operation:<14} {verdict}")
