"""`kill -9` of the API around every call to a target of the edge, and around every record of them, then a restart:
each target has what is wanted and nothing else of ours, what is others' is untouched, and nothing is owed.

As in `test_kill`: a first provisioning and teardown record the places, then the API dies at each of them. One death
in a provisioning is followed by one in the teardown of the same container. Looks (`get`, `list`) change nothing: of
those in a row only the moment before the first is a place to die at.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import trio

from tests.faults.far import ZONE, Far, open_far
from tests.faults.scenes import a_game, provisioned
from tests.faults.world import World, open_world
from tests.stopwatch import Stopwatch
from zlh.simulators.far import FaultName

pytestmark = pytest.mark.faults

LANES = 2
OURS = ("technitium.", "velocity.", "ledger.")
LOOKS = ("get", "list")
PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Outcome:
    kind: str
    place: str
    problems: list[str]
    passed: bool = True


class Stage:
    """A world whose API may die at any moment, and what it publishes to."""

    def __init__(self, world: World, far: Far, pid: int) -> None:
        self.world, self.far, self.pid = world, far, pid

    async def provision(self) -> None:
        await self.world.call("POST", "/api/instances", a_game("published"))

    async def teardown(self) -> None:
        (row,) = (await self.world.call("GET", "/api/instances"))["rows"]
        await self.world.call("DELETE", f"/api/containers/{row['vmid']}?force=true")

    async def record(self, kind: str, act: Callable[[], Awaitable[None]]) -> list[str]:
        """The places that are passed when nothing goes wrong."""
        file = self.world.folder / f"places-{kind}"
        self.world.arm(self.pid, record=file)
        await act()
        assert await self.through(kind) == []
        self.world.arm(self.pid)
        return list(_worth_dying_at((await trio.Path(file).read_text()).splitlines()))

    async def die_at(self, kind: str, act: Callable[[], Awaitable[None]], place: str) -> Outcome:
        """One death there, one restart, and a look at everything."""
        self.world.arm(self.pid, target=place)
        answered = True
        try:
            await act()
        except httpx.TransportError:
            answered = False
        dead = await self._dies(kind)
        if dead:
            self.pid = await self.world.start()
        else:
            self.world.arm(self.pid)
        if not answered and not await self._begun(kind):
            # A target is looked at every few seconds: the API may have died before anybody had asked for anything.
            await act()
        return Outcome(kind, place, await self.through(kind), passed=dead)

    async def through(self, kind: str) -> list[str]:
        """What is wrong once the operation is through and the targets had their time."""
        try:
            with trio.fail_after(30):
                while not await self._calm(kind):  # noqa: ASYNC110 - another process decides
                    await trio.sleep(0.03)
        except (trio.TooSlowError, httpx.HTTPError) as error:
            return [f"{type(error).__name__}: {error}", *await self.far.problems()]
        problems = await self.far.agrees()
        newest = next(one for one in await _operations(self.world) if one["kind"] == kind)
        if newest["state"] != "succeeded":
            problems.append(f"it ended {newest['state']}: {newest['error']}")
        return problems

    async def _dies(self, kind: str) -> bool:
        """Waits for the death, or until everything is through without it."""
        with trio.move_on_after(30):
            while not self.world.dead(self.pid):
                try:
                    calm = await self._calm(kind) and not await self.far.problems()
                except httpx.TransportError:
                    return await self.world.death(self.pid, within=5) is not None
                if calm:
                    return await self.world.death(self.pid, within=0.3) is not None
                await trio.sleep(0.03)
        return self.world.dead(self.pid)

    async def _begun(self, kind: str) -> bool:
        servers = list((await self.world.servers()).values())
        if kind == "teardown":
            return not servers or servers[0]["status"] == "deleting"
        return bool(servers)

    async def _calm(self, kind: str) -> bool:
        servers = list((await self.world.servers()).values())
        if kind == "teardown":
            return not servers
        return [(one["status"], one["operation"]) for one in servers] == [("running", None)]


async def test_a_kill_around_any_call_to_a_target_is_survived(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes: list[Outcome] = []
    todo: list[tuple[str | None, str | None]] = []
    recorded = trio.Event()

    async def lane(number: int) -> None:
        async with open_stage() as stage:
            if number == 0:
                begun = await stage.record("provision", stage.provision)
                ended = await stage.record("teardown", stage.teardown)
                todo.extend(itertools.zip_longest(begun, ended))
                recorded.set()
            await recorded.wait()
            while todo:
                begins, ends = todo.pop(0)
                for kind, act, place in (
                    ("provision", stage.provision, begins),
                    ("teardown", stage.teardown, ends),
                ):
                    outcomes.append(await stage.die_at(kind, act, place or "nowhere"))

    async with trio.open_nursery() as nursery:
        for number in range(LANES):
            nursery.start_soon(lane, number)
    outcomes = [one for one in outcomes if one.place != "nowhere" or one.problems]
    with capsys.disabled():
        print()
        for one in sorted(outcomes, key=lambda one: (one.kind, one.place)):
            print(f"{one.kind:<10} {one.place:<30} {'; '.join(one.problems) or ('holds' if one.passed else '-')}")
    assert [one for one in outcomes if one.problems] == []
    assert {one.kind for one in outcomes} == {"provision", "teardown"}
    assert len(outcomes) > 20
    assert len([one for one in outcomes if not one.passed]) < len(outcomes) / 10


async def _operations(world: World) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = (await world.call("GET", "/api/operations"))["operations"]
    return listed


async def _withdrawn(far: Far, label: str) -> None:
    """Waits until the proxy does not know it any more."""
    with trio.fail_after(20):
        while label in far.proxy.registered:  # noqa: ASYNC110 - another process decides
            await trio.sleep(0.02)


def _worth_dying_at(places: list[str]) -> Iterator[str]:
    looked = False
    for place in places:
        if not place.startswith(OURS):
            continue
        look = place.partition(" ")[0].endswith(LOOKS)
        if not (look and (looked or place.endswith("after"))):
            yield place
        looked = look


@asynccontextmanager
async def open_stage() -> AsyncIterator[Stage]:
    async with open_world() as world, open_far(world) as far:
        pid = await world.start()
        await world.register("customer")
        stage = Stage(world, far, pid)
        yield stage
        await world.kill(stage.pid)


async def test_targets_that_are_away_or_hang_hold_nobody_up_and_hear_of_it_when_they_are_back() -> None:
    """One teardown while the name server hangs, one while nobody answers there, and a restart of the API before it
    is back."""
    async with open_stage() as stage:
        world, far = stage.world, stage.far
        hung, missed = await provisioned(world, "hung"), await provisioned(world, "missed")
        labels = {f"hung-{hung}", f"missed-{missed}"}
        assert await far.agrees() == []

        far.dns.cause(FaultName.SLOW, seconds=3600)
        watch = Stopwatch()
        ended = await world.call("DELETE", f"/api/containers/{hung}?force=true")
        await _withdrawn(far, f"hung-{hung}")
        assert watch.seconds < PATIENCE_SECONDS / 2
        operation = await world.finished(ended["operation"]["id"])
        assert operation["state"] == "succeeded", operation
        assert watch.seconds < PATIENCE_SECONDS + 10

        far.dns.cause(FaultName.DOWN)
        ended = await world.call("DELETE", f"/api/containers/{missed}?force=true")
        operation = await world.finished(ended["operation"]["id"])
        assert operation["state"] == "succeeded", operation
        await world.kill(stage.pid)
        stage.pid = await world.start()
        assert far.proxy.registered.keys() == {"stranger"}
        owed = [(target, kind, name) for target, kind, name, _ in await far.claims()]
        assert [target for target, _, _ in owed] == ["technitium"] * 4
        assert {name.partition(".")[0] for _, kind, name in owed if kind == "A"} == labels

        far.dns.calm()
        assert await far.agrees() == []


async def test_a_teardown_in_the_middle_of_publishing_leaves_nothing() -> None:
    """While the name server takes its time; and whoever wants another name by then is late."""
    async with open_stage() as stage:
        world, far = stage.world, stage.far
        far.dns.cause(FaultName.SLOW, seconds=0.7)
        begun = (await world.call("POST", "/api/instances", a_game("brief")))["operation"]["id"]
        with trio.fail_after(30):
            while not await _publishes(world, begun):  # noqa: ASYNC110 - another process decides
                await trio.sleep(0.02)
        vmid = (await world.operation(begun))["vmid"]
        await world.call("DELETE", f"/api/containers/{vmid}?force=true")
        async with world.client() as client:
            late = await client.put(f"/api/servers/{vmid}/name", json={"name": "castle"})
        assert (late.status_code, late.json()["code"]) == (409, "deleting")
        assert (await world.finished(begun))["state"] == "compensated"
        far.dns.calm()
        assert await far.agrees() == []
        assert await world.servers() == {}


async def _publishes(world: World, operation: str) -> bool:
    steps = (await world.operation(operation))["steps"]
    return any(step["name"] == "publish" and step["startedAt"] for step in steps)


async def test_two_who_want_one_name_and_change_their_minds() -> None:
    async with open_stage() as stage:
        world, far = stage.world, stage.far
        first, second = await provisioned(world, "first"), await provisioned(world, "second")
        far.dns.cause(FaultName.SLOW, seconds=0.2)
        statuses: list[int] = []

        async def want(vmid: int, name: str) -> None:
            async with world.client() as client:
                statuses.append((await client.put(f"/api/servers/{vmid}/name", json={"name": name})).status_code)

        async with trio.open_nursery() as nursery:
            for vmid in (first, second):
                nursery.start_soon(want, vmid, "castle")
        assert sorted(statuses) == [200, 409]
        holder = next(vmid for vmid, one in (await world.servers()).items() if one["dnsName"].startswith("castle."))
        other = second if holder == first else first
        await want(holder, "keep")
        await want(other, "castle")
        await want(other, "tower")
        await want(holder, "castle")
        assert statuses[2:] == [200] * 4
        names = {vmid: one["dnsName"] for vmid, one in (await world.servers()).items()}
        assert names == {holder: f"castle.{ZONE}", other: f"tower.{ZONE}"}
        far.dns.calm()
        assert await far.agrees() == []
