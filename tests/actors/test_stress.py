"""Random lives of a random tree: every ask is answered, no task is left, the healthy stay healthy."""

import logging
import random

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import (
    Actor,
    ActorError,
    ChildExists,
    Intensity,
    Restart,
    State,
    Strategy,
    UnknownPath,
    actor,
    dynamic,
    open_system,
    supervisor,
    task,
)
from actors.testing import settle, wait_until


class Moody(Actor):
    """Does what the message says."""

    async def started(self, ctx):
        await trio.sleep(0.05)

    async def handle(self, message):
        mood, seconds = message
        await trio.sleep(seconds)
        if mood == "crash":
            raise ValueError("mood")
        return mood

    async def stopping(self):
        await trio.sleep(0.1)


async def moody_loop(ctx):
    dice = random.Random(ctx.path)
    ctx.started()
    await trio.sleep(dice.uniform(1, 60))
    raise ValueError("loop")


def member(name, strategy):
    quick = Intensity(crashes=2, period=5.0, retry=20.0)
    children = [
        actor("mailbox", Moody, intensity=quick, shutdown=0.5),
        task("poller", moody_loop, intensity=quick),
        actor("console", Moody, intensity=quick, restart=Restart.TRANSIENT),
        actor("vital", Moody, intensity=quick, essential=True),
    ]
    return supervisor(name, children, strategy=strategy, intensity=quick)


NAMES = ["1", "2", "3"]
OPERATION = st.tuples(
    st.sampled_from(["ask", "ask", "ask", "tell", "restart", "release", "start", "stop", "wait"]),
    st.sampled_from(NAMES),
    st.sampled_from(["", "/mailbox", "/poller", "/console", "/vital"]),
    st.sampled_from(["crash", "reply"]),
    st.sampled_from([0.0, 0.3, 2.0]),
    st.sampled_from(["urgent", "exclusive", "shared"]),
)


class Storm:
    """Applies operations, and counts the asks that were made and those that got an answer of any kind."""

    def __init__(self, system, nursery, strategy):
        self.system = system
        self.nursery = nursery
        self.strategy = strategy
        self.asked = self.answered = 0

    async def apply(self, kind, name, below, mood, seconds, lane):
        path = f"fleet/{name}{below}"
        try:
            match kind:
                case "ask":
                    self.nursery.start_soon(self.ask, self.system.ref(path), (mood, seconds), lane)
                case "tell":
                    self.system.ref(path).tell((mood, seconds), lane=lane)
                case "restart":
                    self.system.restart(path)
                case "release":
                    self.system.release(path)
                case "start":
                    self.system.dynamic("fleet").start_child(member(name, self.strategy))
                case "stop":
                    self.nursery.start_soon(self.stop, name)
                case "wait":
                    await trio.sleep(seconds)
        except (ActorError, ChildExists, UnknownPath):
            pass

    async def ask(self, ref, message, lane):
        self.asked += 1
        try:
            await ref.ask(message, within=30, lane=lane)
        except ActorError:
            pass
        self.answered += 1

    async def stop(self, name):
        try:
            await self.system.dynamic("fleet").stop_child(name)
        except UnknownPath:
            pass


async def ride_out(operations, strategy):
    tasks = trio.lowlevel.current_statistics().tasks_living
    root = supervisor("root", [actor("healthy", Moody), dynamic("fleet", concurrent_starts=2)])
    with trio.fail_after(10_000):
        async with trio.open_nursery() as nursery:
            async with open_system(root, rng=random.Random(0)) as system:
                for name in NAMES[:2]:
                    system.dynamic("fleet").start_child(member(name, strategy))
                storm = Storm(system, nursery, strategy)
                for operation in operations:
                    await storm.apply(*operation)
                assert await system.ref("healthy").ask(("reply", 0), within=0.001) == "reply"
                await whole_again(system)
                await settle()
            # Stopped: whoever still waited was answered, without the clock's help.
            await settle()
            assert storm.answered == storm.asked
    assert trio.lowlevel.current_statistics().tasks_living == tasks


async def whole_again(system):
    """Left alone and released, every member's actors come up again."""
    await trio.sleep(40)
    for name in system.dynamic("fleet").names():
        system.release(f"fleet/{name}")
        await wait_until(system, f"fleet/{name}/mailbox", State.RUNNING)


@pytest.fixture(autouse=True)
def _quiet():
    logging.getLogger("actors").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("actors").setLevel(logging.NOTSET)


@settings(max_examples=120, deadline=None)
@given(operations=st.lists(OPERATION, max_size=60), strategy=st.sampled_from(Strategy))
def test_whatever_happens_every_ask_is_answered_and_no_task_is_left(operations, strategy):
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(ride_out, operations, strategy, clock=clock)


@settings(max_examples=40, deadline=None)
@given(operations=st.lists(OPERATION, max_size=30), strategy=st.sampled_from(Strategy), after=st.floats(0, 5))
def test_cancelling_the_whole_at_any_moment_leaves_nothing(operations, strategy, after):
    async def cut_off():
        tasks = trio.lowlevel.current_statistics().tasks_living
        with trio.move_on_after(after):
            await ride_out(operations, strategy)
        assert trio.lowlevel.current_statistics().tasks_living == tasks

    trio.run(cut_off, clock=trio.testing.MockClock(autojump_threshold=0))
