"""The dynamic supervisor: children come and go, and none notices another."""

import gc

import pytest
import trio

from actors import (
    Actor,
    ActorStopped,
    ChildExists,
    Intensity,
    Restart,
    State,
    UnknownPath,
    actor,
    dynamic,
    open_system,
    supervisor,
    task,
)
from actors.events import EventKind
from actors.testing import EventLog, Recorder, settle, wait_until


def recorder(name):
    return actor(name, lambda: Recorder([]))


def fleet(**spec):
    return supervisor("root", [dynamic("fleet", **spec)])


async def test_children_come_serve_at_once_and_go(autojump_clock):
    async with open_system(fleet()) as system:
        children = system.dynamic("fleet")
        assert children.start_child(recorder("1")) == "fleet/1"
        ref = system.ref("fleet/1")
        assert await ref.ask("x", within=1) == "x"
        with pytest.raises(ChildExists):
            children.start_child(recorder("1"))
        assert children.names() == ["1"]
        await children.stop_child("1")
        assert children.names() == []
        with pytest.raises(ActorStopped):
            ref.tell("x")
        with pytest.raises(UnknownPath):
            await children.stop_child("1")
        with pytest.raises(UnknownPath):
            system.snapshot_of("fleet/1")
        children.start_child(recorder("1"))
        assert await ref.ask("the address is good again", within=1)


async def test_only_a_dynamic_supervisor_is_one(autojump_clock):
    async with open_system(fleet()) as system:
        for path in ("", "nosuch"):
            with pytest.raises(UnknownPath):
                system.dynamic(path)


async def test_new_children_start_a_few_at_a_time_and_one_that_hangs_gives_way_at_last(autojump_clock):
    starting = set()

    class Slow(Actor):
        def __init__(self, seconds):
            self.seconds = seconds

        async def started(self, ctx):
            starting.add(ctx.name)
            most.append(len(starting))
            try:
                await trio.sleep(self.seconds)
            finally:
                starting.discard(ctx.name)

    most = []
    async with open_system(fleet(concurrent_starts=3)) as system:
        children = system.dynamic("fleet")
        children.start_child(actor("hangs", lambda: Slow(1000), startup=10.0))
        for number in range(20):
            children.start_child(actor(str(number), lambda: Slow(1)))
        began = trio.current_time()
        await wait_until(system, "fleet/19", State.RUNNING)
        assert max(most) == 3
        assert trio.current_time() - began == pytest.approx(10, abs=1.5)
        await wait_until(system, "fleet/hangs", lambda found: found.crashes == 1)


async def test_a_child_can_be_stopped_while_it_queues_or_backs_off(autojump_clock):
    class Hangs(Actor):
        async def started(self, ctx):
            await trio.sleep_forever()

    async with open_system(fleet(concurrent_starts=1)) as system:
        children = system.dynamic("fleet")
        children.start_child(actor("hangs", Hangs, shutdown=1.0))
        children.start_child(recorder("queued"))
        children.start_child(recorder("next"))
        await settle()
        await children.stop_child("queued")
        await children.stop_child("hangs")
        await wait_until(system, "fleet/next", State.RUNNING)
        system.ref("fleet/next").tell(ValueError("bug"))
        await wait_until(system, "fleet/next", State.RESTARTING)
        await children.stop_child("next")
        assert children.names() == []


@pytest.mark.parametrize("restart", [Restart.TRANSIENT, Restart.TEMPORARY])
async def test_a_child_that_is_through_is_removed(restart, autojump_clock):
    async def once(ctx):
        ctx.started()

    async with open_system(fleet()) as system:
        children = system.dynamic("fleet")
        children.start_child(task("once", once, restart=restart))
        log = EventLog(system)
        await settle()
        assert children.names() == []
        assert log.paths(EventKind.REMOVED) == ["fleet/once"]


async def test_children_stop_all_at_once_when_it_stops(autojump_clock):
    class Slow(Recorder):
        async def stopping(self):
            await trio.sleep(3)

    async with open_system(fleet()) as system:
        for number in range(50):
            system.dynamic("fleet").start_child(actor(str(number), lambda: Slow([])))
        await wait_until(system, "fleet/49", State.RUNNING)
        began = trio.current_time()
        await system.stop()
        assert trio.current_time() - began == pytest.approx(3)


async def test_its_children_and_their_messages_survive_its_own_restart(autojump_clock):
    async with open_system(fleet()) as system:
        children = system.dynamic("fleet")
        children.start_child(recorder("1"))
        await wait_until(system, "fleet/1", State.RUNNING)
        system.restart("fleet")
        assert await system.ref("fleet/1").ask("x", within=5) == "x"
        await wait_until(system, "fleet", lambda found: found.restarts == 1 and found.state is State.RUNNING)
        await wait_until(system, "fleet/1", lambda found: found.restarts == 1 and found.state is State.RUNNING)


async def test_a_failed_start_of_a_dynamic_child_does_not_fail_the_start_of_the_system(autojump_clock):
    async def broken(ctx):
        raise ValueError("bug")

    async def loader(ctx):
        children = [recorder("mailbox"), task("poller", broken)]
        ctx.system.dynamic("fleet").start_child(supervisor("1", children))
        await ctx.system.ref("fleet/1/mailbox").ask("x", within=5)
        ctx.started()
        await trio.sleep_forever()

    async with open_system(supervisor("root", [dynamic("fleet"), task("loader", loader)])) as system:
        await wait_until(system, "fleet/1/poller", State.QUARANTINED)


async def test_a_thousand_crashing_children_do_not_touch_a_healthy_one(autojump_clock):
    async def broken(ctx):
        ctx.started()
        await trio.sleep(0.01)
        raise ValueError("bug")

    async with open_system(fleet()) as system:
        children = system.dynamic("fleet")
        children.start_child(recorder("healthy"))
        for number in range(1000):
            children.start_child(task(str(number), broken, intensity=Intensity(crashes=2)))
        healthy = system.ref("fleet/healthy")
        for _ in range(100):
            assert await healthy.ask("x", within=0.001) == "x"
            await trio.sleep(0.02)
        # A restart beside all that is as quick as alone: its backoff and nothing more.
        healthy.tell(ValueError("bug"))
        await settle()
        assert await healthy.ask("x", within=0.11) == "x"
        await trio.sleep(10)
        states = [found.state for found in system.snapshot_of("fleet").children]
        assert states.count(State.QUARANTINED) == 1000


async def test_nothing_of_a_removed_child_is_kept(autojump_clock):
    async with open_system(fleet()) as system:
        children = system.dynamic("fleet")
        tasks = trio.lowlevel.current_statistics().tasks_living
        for number in range(100):
            children.start_child(supervisor(str(number), [recorder("mailbox")]))
        await settle()
        for number in range(100):
            await children.stop_child(str(number))
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        gc.collect()
        assert not [it for it in gc.get_objects() if type(it).__name__ == "ActorChild" and it.tree.system is system]
