"""What operators see: snapshots as JSON, the event stream, annotations, the test tools themselves."""

import json
import time
from datetime import UTC, datetime

import pytest
import trio

from actors import Actor, State, actor, open_system, supervisor, task
from actors.events import Event, EventKind, EventStream
from actors.testing import EventLog, Recorder, settle, wait_until


class Annotated(Actor):
    async def started(self, ctx):
        self.ctx = ctx
        ctx.annotate(next_poll=datetime(2026, 1, 1, tzinfo=UTC), operation={"step": State.RUNNING}, odd=float("inf"))

    async def handle(self, message):
        self.ctx.annotate(operation=message)
        if message == "crash":
            raise ValueError("bug")


async def test_a_snapshot_is_ready_for_json_with_camel_case_keys(autojump_clock):
    async with open_system(supervisor("root", [actor("a", Annotated)]), wall=lambda: 1000.0) as system:
        found = json.loads(json.dumps(system.snapshot().as_dict(), allow_nan=False))
        child = found["children"][0]
        assert child["annotations"] == {
            "nextPoll": "2026-01-01T00:00:00+00:00",
            "operation": {"step": "running"},
            "odd": None,
        }
        assert child["lanes"]["urgent"] == {
            "depth": 0,
            "capacity": 8,
            "oldestAge": None,
            "inFlight": 0,
            "handled": 0,
            "failed": 0,
            "dropped": 0,
        }
        assert (child["path"], child["kind"], child["state"], child["startedAt"]) == ("a", "actor", "running", 1000.0)

        system.ref("a").tell("crash")
        await settle()
        child = system.snapshot_of("a").as_dict()
        assert child["lastCrash"]["at"] == 1000.0
        assert child["lastCrash"]["type"] == "ValueError"
        assert "raise ValueError" in child["lastCrash"]["traceback"]
        assert child["annotations"]["operation"] == "crash"
        assert child["nextTry"] == pytest.approx(1000.1, abs=0.05)
        await trio.sleep(1)
        child = system.snapshot_of("a").as_dict()
        assert (child["restarts"], child["crashes"], child["nextTry"]) == (1, 1, None)


async def test_wall_clock_times_are_the_real_ones_unless_given(autojump_clock):
    async with open_system(supervisor("root", [])) as system:
        assert abs(system.snapshot().started_at - time.time()) < 60


async def test_the_event_stream_tells_the_story_of_a_crash_and_ends(autojump_clock):
    async with open_system(supervisor("root", [actor("a", Annotated)])) as system:
        events = system.events()
        system.ref("a").tell("crash")
        await trio.sleep(1)
    story = [event.kind async for event in events if event.path == "a"]
    assert story == [
        EventKind.CRASHED,
        EventKind.RESTARTING,
        EventKind.STARTING,
        EventKind.STARTED,
        EventKind.STOPPING,
        EventKind.STOPPED,
    ]
    assert [event async for event in system.events()] == []


def event(number):
    return Event(float(number), EventKind.STARTED, str(number))


async def test_a_slow_reader_loses_the_oldest_and_is_told_how_many():
    stream = EventStream()
    slow, quick = stream.subscribe(3), stream.subscribe(10)
    for number in range(8):
        stream.emit(event(number))
    stream.end()
    found = [event async for event in slow]
    assert (found[0].kind, found[0].count) == (EventKind.LOST, 5)
    assert [event.path for event in found[1:]] == ["5", "6", "7"]
    assert len(quick.drain()) == 8


async def test_a_reader_is_woken_by_the_next_event(autojump_clock):
    stream = EventStream()
    subscription = stream.subscribe(3)
    found = []

    async def read():
        with pytest.raises(StopAsyncIteration):
            while True:
                found.append((await anext(subscription)).path)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for number in range(3):
            await settle()
            stream.emit(event(number))
        await settle()
        assert found == ["0", "1", "2"]
        stream.end()


def test_a_subscription_holds_at_least_one_event():
    with pytest.raises(ValueError):
        EventStream().subscribe(0)


async def test_wait_until_says_how_things_stood(autojump_clock):
    async with open_system(supervisor("root", [actor("a", lambda: Recorder([]))])) as system:
        assert (await wait_until(system, "a", State.RUNNING)).path == "a"
        with pytest.raises(TimeoutError, match="waited 5 s"):
            await wait_until(system, "a", State.QUARANTINED, within=5)
        assert EventLog(system).all() == []


async def test_a_context_knows_its_place(autojump_clock):
    async def loop(ctx):
        seen.append((ctx.name, ctx.path, ctx.ref("a").path, ctx.ref("a/b").path, ctx.ref("top").path))
        ctx.started()
        ctx.started()
        await trio.sleep_forever()

    seen = []
    recorders = {name: actor(name, lambda: Recorder([])) for name in ("a", "b", "top")}
    children = [
        supervisor("a", [recorders["b"]]),
        recorders["top"],
        supervisor("s", [recorders["a"], task("loop", loop)]),
    ]
    async with open_system(supervisor("root", children)):
        assert seen == [("loop", "s/loop", "s/a", "a/b", "top")]


@pytest.mark.parametrize("bad", ["", "a/b"])
def test_names_are_parts_of_paths(bad):
    with pytest.raises(ValueError):
        actor(bad, lambda: Recorder([]))


def test_siblings_have_distinct_names():
    twice = [actor("a", lambda: Recorder([]))] * 2
    with pytest.raises(ValueError, match="same name"):
        supervisor("root", twice)


async def test_the_root_is_a_supervisor():
    with pytest.raises(TypeError):
        async with open_system(actor("a", lambda: Recorder([]))):
            pass
