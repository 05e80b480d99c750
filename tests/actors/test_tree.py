"""Supervision: start and stop order, strategies, restarts, quarantine, failures that go up."""

import random

import pytest
import trio

from actors import (
    Actor,
    ActorQuarantined,
    ActorStopped,
    Backoff,
    Intensity,
    Restart,
    Returned,
    StartTimeout,
    State,
    Strategy,
    actor,
    dynamic,
    open_system,
    supervisor,
    task,
)
from actors.events import EventKind
from actors.testing import EventLog, Recorder, settle, wait_until

EXACT = Backoff(jitter=0)


class Stage:
    """Tasks that write down their comings and goings, and crash when told to."""

    def __init__(self):
        self.log = []
        self.crash = {}
        self.bugs = {}

    def task(self, name, *, slow=0.0, **spec):
        async def run(ctx):
            if error := self.bugs.get(name):
                raise error
            if slow:
                await trio.sleep(slow)
            ctx.started()
            self.log.append(f"+{name}")
            crash = self.crash[name] = trio.Event()
            try:
                await crash.wait()
            except trio.Cancelled:
                self.log.append(f"-{name}")
                raise
            self.log.append(f"!{name}")
            raise RuntimeError(name)

        return task(name, run, **({"backoff": EXACT} | spec))

    def take(self):
        taken, self.log[:] = " ".join(self.log), []
        return taken


async def test_children_start_in_order_each_when_the_one_before_is_up_and_stop_in_reverse(autojump_clock):
    stage = Stage()
    spec = supervisor("root", [stage.task("a", slow=3), supervisor("s", [stage.task("b")]), stage.task("c")])
    async with open_system(spec) as system:
        assert trio.current_time() >= 3
        assert stage.take() == "+a +b +c"
        assert {found.state for found in system.snapshot().walk()} == {State.RUNNING}
    assert stage.take() == "-c -b -a"
    assert {found.state for found in system.snapshot().walk()} == {State.STOPPED}
    assert trio.current_time() < 4


@pytest.mark.parametrize(
    ("strategy", "crash", "first", "then"),
    [
        (Strategy.ONE_FOR_ONE, "b", "!b", "+b"),
        (Strategy.REST_FOR_ONE, "b", "!b -d -c", "+b +c +d"),
        (Strategy.REST_FOR_ONE, "d", "!d", "+d"),
        (Strategy.ONE_FOR_ALL, "b", "!b -d -c -a", "+a +b +c +d"),
    ],
)
async def test_a_crash_restarts_whom_the_strategy_says_in_order(strategy, crash, first, then, autojump_clock):
    stage = Stage()
    async with open_system(supervisor("root", [stage.task(n) for n in "abcd"], strategy=strategy)):
        stage.take()
        stage.crash[crash].set()
        await settle()
        assert stage.take() == first
        await trio.sleep(0.11)
        assert stage.take() == then


@pytest.mark.parametrize(
    ("strategy", "whole"),
    [
        (Strategy.ONE_FOR_ONE, "-b +b"),
        (Strategy.REST_FOR_ONE, "-d -c -b +b +c +d"),
        (Strategy.ONE_FOR_ALL, "-d -c -a -b +a +b +c +d"),
    ],
)
async def test_an_operators_restart_is_orderly_and_no_crash(strategy, whole, autojump_clock):
    stage = Stage()
    async with open_system(supervisor("root", [stage.task(n) for n in "abcd"], strategy=strategy)) as system:
        stage.take()
        system.restart("b")
        system.restart("b")
        await settle()
        assert stage.take() == whole
        found = system.snapshot_of("b")
        assert (found.restarts, found.crashes) == (1, 0)


async def test_a_restart_waits_for_the_sibling_before_it(autojump_clock):
    stage = Stage()
    children = [stage.task("a", slow=5), stage.task("b")]
    async with open_system(supervisor("root", children, strategy=Strategy.REST_FOR_ONE)) as system:
        stage.take()
        stage.crash["a"].set()
        stage.crash["b"].set()
        await trio.sleep(5)
        assert system.snapshot_of("b").state is State.RESTARTING
        await trio.sleep(0.2)
        assert stage.take() in ("!a !b +a +b", "!b !a +a +b")


async def test_backoff_doubles_and_a_sixth_crash_quarantines_the_child_alone(autojump_clock):
    stage = Stage()
    children = [stage.task("a"), stage.task("b"), stage.task("c")]
    async with open_system(supervisor("root", children, strategy=Strategy.REST_FOR_ONE)) as system:
        stage.bugs["b"] = ValueError("bug")
        log = EventLog(system)
        stage.crash["b"].set()
        await wait_until(system, "b", State.QUARANTINED)
        delays = [e.detail for e in log.all() if e.kind is EventKind.RESTARTING and e.path == "b"]
        assert delays == ["0.1", "0.2", "0.4", "0.8", "1.6"]
        await settle()
        assert system.snapshot_of("a").restarts == 0
        assert system.snapshot_of("c").state is State.RUNNING
        assert system.snapshot_of("b").crashes == 6
        assert system.snapshot_of("b").last_crash.message == "bug"

        stage.take()
        await trio.sleep(299)
        assert system.snapshot_of("b").crashes == 6
        await trio.sleep(2)
        assert system.snapshot_of("b").crashes == 7
        assert system.snapshot_of("b").state is State.QUARANTINED

        stage.bugs.clear()
        assert system.release("b") == 1
        await settle()
        assert system.snapshot_of("b").state is State.RUNNING
        assert system.release("b") == 0
        assert stage.take() == "+b"


async def test_a_quarantined_actors_siblings_serve_on(autojump_clock):
    async def poller(ctx):
        ctx.started()
        raise ValueError("poller")

    children = [
        actor("mailbox", lambda: Recorder([])),
        task("poller", poller),
        actor("console", lambda: Recorder([])),
    ]
    async with open_system(supervisor("root", [dynamic("fleet")])) as system:
        system.dynamic("fleet").start_child(supervisor("5001", children, strategy=Strategy.REST_FOR_ONE))
        await wait_until(system, "fleet/5001/poller", State.QUARANTINED)
        assert await system.ref("fleet/5001/mailbox").ask("x", within=1) == "x"
        assert await system.ref("fleet/5001/console").ask("x", within=1) == "x"
        assert system.snapshot_of("fleet/5001/mailbox").restarts == 0
        assert system.release("fleet/5001") == 1


async def test_backoff_starts_anew_after_a_quiet_period(autojump_clock):
    stage = Stage()
    async with open_system(supervisor("root", [stage.task("a")])) as system:
        log = EventLog(system)
        for pause in (0, 0.2, 61):
            await trio.sleep(pause)
            stage.crash["a"].set()
            await settle()
        delays = [e.detail for e in log.all() if e.kind is EventKind.RESTARTING]
        assert delays == ["0.1", "0.2", "0.1"]


@pytest.mark.parametrize("restart", Restart)
async def test_returning_and_crashing_by_kind_of_restart(restart, autojump_clock):
    async def once(ctx):
        runs.append("once")
        ctx.started()
        await trio.sleep(1)

    runs = []
    stage = Stage()
    spec = supervisor("root", [task("once", once, restart=restart), stage.task("crash", restart=restart)])
    async with open_system(spec) as system:
        stage.crash["crash"].set()
        await trio.sleep(1.5)
        crash, once_ = system.snapshot_of("crash"), system.snapshot_of("once")
        assert crash.state is (State.STOPPED if restart is Restart.TEMPORARY else State.RUNNING)
        assert (once_.state is State.STOPPED) == (restart is not Restart.PERMANENT)
        if restart is Restart.PERMANENT:
            assert once_.last_crash.type == Returned.__name__
        system.restart("once")
        await settle()
        assert system.snapshot_of("once").state is State.RUNNING


async def test_a_group_restart_runs_a_finished_transient_again_but_no_temporary(autojump_clock):
    async def once(ctx):
        runs.append(ctx.name)
        ctx.started()

    runs = []
    stage = Stage()
    children = [
        stage.task("a"),
        task("transient", once, restart=Restart.TRANSIENT),
        task("temporary", once, restart=Restart.TEMPORARY),
        stage.task("session", restart=Restart.TEMPORARY),
    ]
    async with open_system(supervisor("root", children, strategy=Strategy.REST_FOR_ONE)) as system:
        stage.crash["a"].set()
        await trio.sleep(1)
        assert runs == ["transient", "temporary", "transient"]
        assert system.snapshot_of("session").state is State.STOPPED


async def test_each_child_has_its_own_shutdown_time_out_and_who_ignores_it_is_reported(autojump_clock):
    async def stubborn(ctx):
        ctx.started()
        await trio.sleep_forever()

    async def polite(ctx):
        ctx.started()
        await ctx.stop_requested()
        await trio.sleep(1)
        ended.append(trio.current_time())

    async def cleans_up_for_long(ctx):
        ctx.started()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(4)

    ended = []
    children = [
        task("polite", polite, graceful=True, shutdown=2.0),
        task("stubborn", stubborn, graceful=True, shutdown=3.0),
        task("shielded", cleans_up_for_long, shutdown=1.0),
    ]
    async with open_system(supervisor("root", children)) as system:
        log = EventLog(system)
        began = trio.current_time()
    assert ended == [pytest.approx(began + 4 + 3 + 1)]
    assert log.paths(EventKind.OVERDUE) == ["shielded", "stubborn"]


async def test_a_failed_first_start_comes_out_as_itself_and_stops_what_was_up(autojump_clock):
    stage = Stage()
    stage.bugs["c"] = KeyError("no database")
    spec = supervisor("root", [stage.task("a"), supervisor("s", [stage.task("b"), stage.task("c")]), stage.task("d")])
    with pytest.raises(KeyError, match="no database"):
        async with open_system(spec):
            pytest.fail("it must not come up")
    assert stage.take() == "+a +b -b -a"


async def test_a_factory_and_a_started_hook_that_raise_are_failed_starts(autojump_clock):
    class Broken(Actor):
        async def started(self, ctx):
            raise OSError("broken")

    for factory, error in ((Broken, OSError), (lambda: 1 / 0, ZeroDivisionError)):
        with pytest.raises(error):
            async with open_system(supervisor("root", [actor("a", factory)])):
                pytest.fail("it must not come up")


async def test_a_child_that_never_comes_up_fails_its_start(autojump_clock):
    async def never(ctx):
        await trio.sleep_forever()

    with pytest.raises(StartTimeout, match="5 s"):
        async with open_system(supervisor("root", [task("never", never, startup=5.0)])):
            pytest.fail("it must not come up")
    assert trio.current_time() == pytest.approx(5.0)


async def test_a_crash_while_starting_counts_as_a_crash_once_the_system_is_up(autojump_clock):
    stage = Stage()
    async with open_system(supervisor("root", [stage.task("a")])) as system:
        stage.bugs["a"] = ValueError("bug")
        stage.crash["a"].set()
        await wait_until(system, "a", lambda found: found.crashes == 3)
        stage.bugs.clear()
        await wait_until(system, "a", State.RUNNING)


async def test_an_essential_child_takes_its_supervisor_along_and_that_is_restarted(autojump_clock):
    stage = Stage()
    once = Intensity(crashes=0)
    inner = supervisor("s", [actor("a", lambda: Recorder([])), stage.task("b", essential=True, intensity=once)])
    async with open_system(supervisor("root", [inner, stage.task("c")])) as system:
        stage.crash["b"].set()
        await settle()
        found = system.snapshot_of("s")
        assert (found.state, found.crashes) == (State.RESTARTING, 1)
        assert await system.ref("s/a").ask("waits for the restart", within=1)
        await wait_until(system, "s", State.RUNNING)
        assert system.snapshot_of("c").restarts == 0


async def test_a_quarantined_supervisors_actors_refuse_until_it_is_released(autojump_clock):
    stage = Stage()
    once = Intensity(crashes=0)
    children = [actor("a", lambda: Recorder([])), stage.task("b", essential=True, intensity=once)]
    async with open_system(supervisor("root", [supervisor("s", children, intensity=once)])) as system:
        stage.crash["b"].set()
        await wait_until(system, "s", State.QUARANTINED)
        with pytest.raises(ActorQuarantined):
            system.ref("s/a").tell("x")
        system.release("s")
        assert await system.ref("s/a").ask("x", within=1) == "x"


async def test_an_essential_child_of_the_root_ends_the_system_and_cancels_the_body(autojump_clock):
    stage = Stage()
    spec = supervisor("root", [stage.task("a"), stage.task("b", essential=True, intensity=Intensity(crashes=0))])
    with pytest.raises(RuntimeError, match="b"):
        async with open_system(spec):
            stage.crash["b"].set()
            await trio.sleep_forever()
    assert stage.take() == "+a +b !b -a"


async def test_the_bodys_exception_comes_out_bare_after_an_orderly_stop(autojump_clock):
    stage = Stage()
    with pytest.raises(LookupError, match="mine"):
        async with open_system(supervisor("root", [stage.task("a"), stage.task("b")])):
            raise LookupError("mine")
    assert stage.take() == "+a +b -b -a"


async def test_cancelling_the_caller_cancels_all_children_at_once(autojump_clock):
    async def stubborn(ctx):
        ctx.started()
        await ctx.stop_requested()

    with trio.move_on_after(1) as scope:
        async with open_system(supervisor("root", [task("a", stubborn, graceful=True)])) as system:
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(1)
    assert system.snapshot().state is State.STOPPED
    await system.stop()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_an_interrupt_in_a_child_passes_bare(error, autojump_clock):
    class Interrupted(Actor):
        async def handle(self, message):
            raise error

    inner = supervisor("s", [actor("a", Interrupted)])
    with pytest.raises(error):
        async with open_system(supervisor("root", [inner])) as system:
            system.ref("s/a").tell("x")
            await trio.sleep_forever()


async def test_a_group_of_exceptions_is_a_crash_and_a_cancellation_beside_it_is_kept(autojump_clock):
    async def group(ctx):
        ctx.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep(1 if ctx.name == "early" else 50)
            finally:
                raise ValueError(ctx.name)

    with trio.move_on_after(10) as scope:
        children = [task("early", group, restart=Restart.TEMPORARY), task("late", group)]
        async with open_system(supervisor("root", children)) as system:
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert system.snapshot_of("early").last_crash.type == "ExceptionGroup"
    assert system.snapshot_of("late").crashes == 1


async def test_a_stopped_system_refuses_and_still_shows_itself(autojump_clock):
    spec = supervisor("root", [actor("a", lambda: Recorder([])), dynamic("d")])
    async with open_system(spec) as system:
        fleet = system.dynamic("d")
        await system.stop()
        with pytest.raises(ActorStopped):
            system.ref("a").tell("x")
        with pytest.raises(ActorStopped):
            fleet.start_child(actor("late", lambda: Recorder([])))
        assert system.snapshot().state is State.STOPPED


async def test_jitter_comes_from_the_given_dice(autojump_clock):
    delays = []
    for _ in range(2):
        stage = Stage()
        spec = supervisor("root", [stage.task("a", backoff=Backoff(jitter=1.0))])
        async with open_system(spec, rng=random.Random(7)) as system:
            log = EventLog(system)
            stage.crash["a"].set()
            await settle()
            delays += [e.detail for e in log.all() if e.kind is EventKind.RESTARTING]
    assert delays[0] == delays[1]


async def test_siblings_that_stop_more_slowly_than_the_backoff_are_waited_for(autojump_clock):
    async def slow_to_stop(ctx):
        ctx.started()
        await ctx.stop_requested()
        await trio.sleep(3)

    stage = Stage()
    children = [stage.task("a"), task("b", slow_to_stop, graceful=True)]
    async with open_system(supervisor("root", children, strategy=Strategy.REST_FOR_ONE)) as system:
        stage.take()
        stage.crash["a"].set()
        await trio.sleep(2.9)
        assert stage.take() == "!a"
        await trio.sleep(0.2)
        assert stage.take() == "+a"
        assert [found.restarts for found in system.snapshot().walk()] == [0, 1, 1]
