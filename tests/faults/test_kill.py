"""`kill -9` of the API around every journal write and every external call, then a restart: nothing is lost.

A first run without a death records the places. Then every place has its turn: the API dies there, is started again,
and the operation must end, with Proxmox, the database and the agents in agreement. A table of all is printed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
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
TRIES = 3
LOOK_SECONDS = 0.05
"""Between two questions; each of them costs the machine as much as a step of an operation."""


@dataclass(frozen=True)
class Outcome:
    journey: str
    place: str
    operation: str
    problems: list[str]
    passed: bool = True


class Journey:
    """One kind of operation: how to get there, how to begin it, and what must be true once it ended. `own` is a part
    of the name of its first place that no other journey passes in the same way; empty where all are its own."""

    def __init__(
        self, name: str, before: Callable[[World], Awaitable[Any]], states: tuple[str, ...], own: str = ""
    ) -> None:
        self.name = name
        self.before = before
        self.states = states
        self.own = own

    def chosen(self, places: list[str]) -> list[str]:
        first = next(index for index, place in enumerate(places) if self.own in place)
        return places[first:]


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
# Until its installation fails it is a provisioning, which has its own turn.
COMPENSATION = Journey("compensation", _install_will_fail, ("compensated",), own="journal.failed")
JOURNEYS = (PROVISION, TEARDOWN, COMPENSATION)


@pytest.mark.parametrize("journey", JOURNEYS, ids=lambda journey: journey.name)
async def test_a_kill_at_any_place_is_survived(journey: Journey, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes: list[Outcome] = []
    places: list[str] = []
    recorded = trio.Event()

    async def lane(number: int) -> None:
        async with open_world() as world:
            pid = await world.start()
            await world.register("customer")
            if number == 0:
                places.extend(journey.chosen(await record_places(world, journey, pid)))
                todo.extend(places)
                recorded.set()
            await recorded.wait()
            while todo:
                pid, outcome = await die_at(world, journey, todo.pop(0), pid)
                outcomes.append(outcome)
            await world.kill(pid)

    todo: list[str] = []
    async with trio.open_nursery() as nursery:
        for number in range(LANES):
            nursery.start_soon(lane, number)
    outcomes.sort(key=lambda outcome: places.index(outcome.place))
    with capsys.disabled():
        print_table(outcomes)
    assert len(outcomes) == len(places) > 15
    assert [outcome for outcome in outcomes if outcome.problems] == []
    # A note is only written when a look finds the world in between; every other place is passed every time.
    missed = [outcome.place for outcome in outcomes if not outcome.passed]
    assert all("journal.noted" in place for place in missed), missed


async def record_places(world: World, journey: Journey, pid: int) -> list[str]:
    """The places that the journey passes when nothing goes wrong with the API."""
    record = Path(world.folder / "places")
    await journey.before(world)
    await settled(world)
    world.arm(pid, record=record)
    operation = await begin(world, journey)
    ended = await world.finished(operation["id"])
    assert ended["state"] in journey.states, ended
    await settled(world)
    places = (await trio.Path(record).read_text()).splitlines()
    world.arm(pid)
    await clean(world)
    return places


async def settled(world: World) -> None:
    """Waits until the API is through with every operation: its last place is passed then."""
    with trio.fail_after(30):
        while any(server["operation"] for server in (await world.servers()).values()):  # noqa: ASYNC110
            await trio.sleep(LOOK_SECONDS)


async def begin(world: World, journey: Journey) -> dict[str, Any]:
    if journey is not TEARDOWN:
        answer = await world.call("POST", "/api/instances", GAME)
    else:
        (row,) = (await world.call("GET", "/api/instances"))["rows"]
        answer = await world.call("DELETE", f"/api/containers/{row['vmid']}?force=true")
    operation: dict[str, Any] = answer["operation"]
    return operation


async def die_at(world: World, journey: Journey, place: str, pid: int) -> tuple[int, Outcome]:
    """One death of `pid` at `place`, one restart, and a look at everything; the pid of the API that lives on."""
    for _ in range(TRIES):
        await journey.before(world)
        await settled(world)
        before = await _newest(world, journey)
        world.arm(pid, target=place)
        operation_id = await _begin_or_die(world, journey)
        if await _died(world, pid):
            pid = await world.start()
            outcome = await _look(world, journey, place, operation_id, before)
            if (status := await world.death(pid, within=0.0)) is not None:
                outcome.problems.append(f"the restarted API ended with {status}:\n{world.log()}")
                pid = await world.start()
            break
        world.arm(pid)
        await clean(world)
    else:
        return pid, Outcome(journey.name, place, "not passed this time", [], passed=False)
    await clean(world)
    return pid, outcome


async def _died(world: World, pid: int) -> bool:
    """Waits for the death of `pid`, or until the operation is through without it."""
    with trio.move_on_after(60):
        while not world.dead(pid):
            try:
                await settled(world)
                return await world.death(pid, within=0.1) is not None
            except httpx.TransportError:
                await world.death(pid, within=1.0)
    return world.dead(pid)


async def _look(world: World, journey: Journey, place: str, operation_id: str | None, before: str | None) -> Outcome:
    """`before` is the newest operation of before the journey. A client that got no answer looks for itself."""
    try:
        newest = operation_id or await _begun(world, journey)
        operation = await world.finished(newest) if newest is not None and newest != before else None
        problems = await disagreements(world, journey, operation)
    except (trio.TooSlowError, httpx.HTTPError, AssertionError) as error:
        return Outcome(journey.name, place, "-", [f"{type(error).__name__}: {error}"])
    return Outcome(journey.name, place, operation["state"] if operation is not None else "never recorded", problems)


async def _begun(world: World, journey: Journey) -> str | None:
    """The newest operation, once what is only wanted so far has led to one."""
    with trio.fail_after(10):
        while any(_only_wanted(server) for server in (await world.servers()).values()):  # noqa: ASYNC110
            await trio.sleep(LOOK_SECONDS)
    return await _newest(world, journey)


def _only_wanted(server: dict[str, Any]) -> bool:
    return server["status"] == "deleting" and not server["operation"]


async def _newest(world: World, journey: Journey) -> str | None:
    """The id of the newest operation of the journey's kind."""
    kind = "teardown" if journey is TEARDOWN else "provision"
    listed = (await world.call("GET", "/api/operations"))["operations"]
    return next((one["id"] for one in listed if one["kind"] == kind), None)


async def _begin_or_die(world: World, journey: Journey) -> str | None:
    try:
        operation_id: str = (await begin(world, journey))["id"]
    except httpx.TransportError:
        return None
    return operation_id


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
        verdict = "; ".join(outcome.problems) or ("agrees" if outcome.passed else "")
        print(f"{outcome.journey:<13} {outcome.place:<{width}}  {outcome.operation:<14} {verdict}")
