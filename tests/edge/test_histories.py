"""Whatever happens, in the end the target is as wanted: what is ours is what is wanted, and others' is untouched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

import actors
from tests.edge.far import FakeFleet, MemoryClaims, MemoryTarget, NoNumbers, address_entries, publication
from zlh.edge.book import Book
from zlh.edge.edge import Outlets
from zlh.edge.ledger import Ledger
from zlh.edge.sync import BACKOFF_CAP_SECONDS, Sync
from zlh.model.edge import Entry, Found, Stage

VMIDS = st.integers(5001, 5004)
NAMES = st.sampled_from(["one.zlh.test", "two.zlh.test", "three.zlh.test"])
ADDRESSES = st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"])
BEAT = 30.0


@dataclass(frozen=True)
class Put:
    vmid: int
    name: str
    address: str
    stage: Stage
    serving: bool | None


@dataclass(frozen=True)
class Drop:
    vmid: int


@dataclass(frozen=True)
class Fail:
    after: int | None


@dataclass(frozen=True)
class Lose:
    """The answer to what it does next is lost."""


@dataclass(frozen=True)
class Drift:
    which: int


@dataclass(frozen=True)
class Foreign:
    name: str
    address: str


@dataclass(frozen=True)
class Restart:
    pass


@dataclass(frozen=True)
class Pass:
    seconds: float


STEPS = st.one_of(
    st.builds(Put, VMIDS, NAMES, ADDRESSES, st.sampled_from(Stage), st.sampled_from([True, True, None])),
    st.builds(Drop, VMIDS),
    st.builds(Fail, st.sampled_from([0, 1, 2, None])),
    st.builds(Lose),
    st.builds(Drift, st.integers(0, 3)),
    st.builds(Foreign, NAMES, ADDRESSES),
    st.builds(Restart),
    st.builds(Pass, st.sampled_from([0.0, 0.1, 1.0, 40.0])),
)


class World:
    """`theirs` is what others put there: it has to be there in the end."""

    def __init__(self, *, marks: bool) -> None:
        self.fleet = FakeFleet()
        self.target = MemoryTarget(marks=marks)
        self.claims = MemoryClaims()
        self.theirs: list[Entry] = []

    def do(self, step: object) -> None:
        match step:
            case Put(vmid, name, address, stage, serving):
                self.fleet.put(publication(vmid, hostname=name, address=address, stage=stage, serving=serving))
            case Drop(vmid):
                self.fleet.drop(vmid)
            case Fail(after):
                self.target.fail_after = after
            case Lose():
                self.target.lose_answer = True
            case Drift(which):
                ours = [key for key, found in self.target.there.items() if found.entry not in self.theirs]
                if which < len(ours):
                    del self.target.there[ours[which]]
            case Foreign(name, address):
                entry = Entry(0, "A", name, address, 3600)
                if entry.key not in self.target.there and entry.key not in self.claims.rows:
                    self.target.put(entry, mine=False)
                    self.theirs.append(entry)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=25), st.booleans())
def test_every_history_ends_well(steps: list[object], marks: bool) -> None:
    trio.run(_live, steps, marks, clock=trio.testing.MockClock(autojump_threshold=0))


async def _live(steps: list[object], marks: bool) -> None:
    world = World(marks=marks)
    for part in _lives(steps):
        async with AsyncExitStack() as stack:
            book = Book(world.fleet, NoNumbers())
            sync = Sync(
                "far",
                world.target,
                address_entries,
                book,
                Ledger(world.claims),
                beat_seconds=BEAT,
                now=trio.current_time,
            )
            outlets = Outlets(book, [sync])
            await stack.enter_async_context(actors.open_system(outlets.spec()))
            for step in part:
                if isinstance(step, Pass):
                    await trio.sleep(step.seconds)
                world.do(step)
            if part and isinstance(part[-1], Restart):
                continue
            world.target.fail_after = None
            await trio.sleep(2 * BACKOFF_CAP_SECONDS + 2 * BEAT)
            _check(world, outlets, sync)


def _lives(steps: list[object]) -> Iterator[list[object]]:
    part: list[object] = []
    for step in steps:
        part.append(step)
        if isinstance(step, Restart):
            yield part
            part = []
    yield part


def _check(world: World, outlets: Outlets, sync: Sync) -> None:
    there = world.target.there
    for entry in world.theirs:
        assert entry.key in there, f"{entry} was somebody else's"
        assert there[entry.key].entry == replace(entry, vmid=0)
    theirs = {entry.key for entry in world.theirs}
    blocked = {one.entry.key for one in sync.report().blocked}
    rows = world.fleet.rows.values()
    held = {one.vmid for one in rows if one.stage is Stage.MAKING or one.serving is None}
    wanted = {
        entry.key
        for one in rows
        if one.stage is Stage.PUBLISHED and one.vmid not in held
        for entry in address_entries(one) or ()
    }
    ours = {key for key in there if key not in theirs}
    assert sync.report().error is None
    assert wanted - blocked - theirs <= ours
    extra = ours - wanted
    assert all(_held(there[key], key, world, held) for key in extra), f"{extra} is not wanted"
    for one in rows:
        for lag in outlets.lags(one.vmid):
            assert not lag.soon


def _held(found: Found, key: tuple[str, str, str], world: World, held: set[int]) -> bool:
    """Left as it is, because its container is."""
    claimed = world.claims.rows.get(key)
    return (found.entry.vmid or (claimed.vmid if claimed else 0)) in held
