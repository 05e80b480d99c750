"""Tell and ask: order, lanes, deadlines, and an answer to every ask whatever happens."""

import contextvars
import math

import pytest
import trio

from actors import (
    Actor,
    ActorCrashed,
    ActorError,
    ActorQuarantined,
    ActorStopped,
    AskTimeout,
    Intensity,
    MailboxFull,
    State,
    UnknownPath,
    actor,
    open_system,
    supervisor,
    task,
)
from actors.testing import Recorder, settle, wait_until


class Gate(Actor):
    """Holds messages until the test opens the gate, and "forever" for ever; "now" passes, an exception is raised."""

    def __init__(self, gate, seen):
        self.gate = gate
        self.seen = seen

    async def handle(self, message):
        self.seen.append(message)
        if isinstance(message, Exception):
            raise message
        if message == "forever":
            await trio.sleep_forever()
        if message != "now":
            await self.gate.wait()
        return message


class Gated:
    def __init__(self, **spec):
        self.gate = trio.Event()
        self.seen = []
        self.spec = supervisor("root", [actor("a", lambda: Gate(self.gate, self.seen), **spec)])


async def caught(awaitable, into):
    try:
        into.append(await awaitable)
    except ActorError as error:
        into.append(error)


async def test_an_ask_is_answered_with_the_return_value_and_a_tell_with_nothing(autojump_clock):
    seen = []
    async with open_system(supervisor("root", [actor("a", lambda: Recorder(seen, str.upper))])) as system:
        ref = system.ref("a")
        ref.tell("first")
        assert await ref.ask("second", within=1) == "SECOND"
        assert seen == ["first", "second"]
        assert system.snapshot_of("a").lanes["exclusive"].handled == 2


async def test_an_urgent_message_overtakes_a_handler_that_hangs(autojump_clock):
    gated = Gated()
    async with open_system(gated.spec) as system:
        ref = system.ref("a")
        ref.tell("hangs")
        await settle()
        assert await ref.ask("now", within=1, lane="urgent") == "now"
        with pytest.raises(AskTimeout) as queued:
            await ref.ask("now", within=1)
        assert not queued.value.began
        gated.gate.set()


async def test_exclusive_is_one_at_a_time_in_order_and_shared_is_bounded(autojump_clock):
    gated = Gated()
    async with open_system(gated.spec) as system:
        ref = system.ref("a")
        for number in range(20):
            ref.tell(("exclusive", number))
            ref.tell(("shared", number), lane="shared")
        await settle()
        lanes = system.snapshot_of("a").lanes
        assert (lanes["exclusive"].in_flight, lanes["exclusive"].depth) == (1, 19)
        assert (lanes["shared"].in_flight, lanes["shared"].depth) == (8, 12)
        await trio.sleep(3)
        assert system.snapshot_of("a").lanes["shared"].oldest_age == pytest.approx(3)
        gated.gate.set()
        await settle()
        assert [n for lane, n in gated.seen if lane == "exclusive"] == list(range(20))
        assert system.snapshot_of("a").lanes["shared"].handled == 20


async def test_a_full_lane_refuses_at_once_and_only_that_lane(autojump_clock):
    gated = Gated()
    async with open_system(gated.spec) as system:
        ref = system.ref("a")
        ref.tell("in flight")
        await settle()
        for _ in range(32):
            ref.tell("waiting")
        with pytest.raises(MailboxFull):
            ref.tell("too many")
        with pytest.raises(MailboxFull):
            await ref.ask("too many", within=1)
        ref.tell("now", lane="shared")
        with pytest.raises(KeyError):
            ref.tell("nowhere", lane="nosuch")
        gated.gate.set()


async def test_places_of_askers_who_gave_up_are_free_again(autojump_clock):
    gated = Gated()
    async with open_system(gated.spec) as system:
        ref = system.ref("a")
        ref.tell("in flight")
        await settle()
        answers = []
        async with trio.open_nursery() as nursery:
            for number in range(32):
                nursery.start_soon(caught, ref.ask(number, within=1), answers)
        assert [type(answer) for answer in answers] == [AskTimeout] * 32
        lane = system.snapshot_of("a").lanes["exclusive"]
        assert (lane.depth, lane.dropped) == (0, 32)
        gated.gate.set()
        assert await ref.ask("now", within=1) == "now"
        assert gated.seen == ["in flight", "now"]


async def test_a_cancelled_asker_is_dropped_unhandled_and_cancellation_passes(autojump_clock):
    gated = Gated()
    async with open_system(gated.spec) as system:
        ref = system.ref("a")
        ref.tell("in flight")
        await settle()
        with trio.move_on_after(1) as scope:
            await ref.ask("dropped", within=100)
        assert scope.cancelled_caught
        gated.gate.set()
        await settle()
        assert gated.seen == ["in flight"]


async def test_a_timeout_says_whether_the_handler_had_begun_and_it_goes_on(autojump_clock):
    gated = Gated()
    async with open_system(gated.spec) as system:
        with pytest.raises(AskTimeout) as late:
            await system.ref("a").ask("slow", within=1)
        assert late.value.began
        gated.gate.set()
        await settle()
        assert system.snapshot_of("a").lanes["exclusive"].handled == 1


@pytest.mark.parametrize("within", [-1, math.nan])
async def test_a_time_that_is_none_is_refused_before_anything_is_queued(within, autojump_clock):
    seen = []
    async with open_system(supervisor("root", [actor("a", lambda: Recorder(seen))])) as system:
        with pytest.raises(ValueError):
            await system.ref("a").ask("x", within=within)
        await settle()
        assert seen == []


async def test_a_crash_answers_all_in_flight_with_its_cause_and_keeps_what_is_queued(autojump_clock):
    gated = Gated()
    async with open_system(gated.spec) as system:
        ref = system.ref("a")
        in_flight, queued = [], []
        bug = ValueError("bug")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caught, ref.ask("forever", within=100, lane="shared"), in_flight)
            ref.tell("holds the lane")
            await settle()
            nursery.start_soon(caught, ref.ask(bug, within=100), in_flight)
            await settle()
            nursery.start_soon(caught, ref.ask("now", within=100), queued)
            await settle()
            gated.gate.set()
        assert [type(answer) for answer in in_flight] == [ActorCrashed] * 2
        assert all(answer.__cause__ is bug for answer in in_flight)
        assert queued == ["now"]
        found = system.snapshot_of("a")
        assert (found.crashes, found.restarts, found.last_crash.type) == (1, 1, "ValueError")
        assert "in handle" in found.last_crash.traceback
        assert (found.lanes["exclusive"].failed, found.lanes["shared"].failed) == (1, 1)


async def test_quarantine_answers_what_waits_and_who_comes(autojump_clock):
    gated = Gated(intensity=Intensity(crashes=0))
    async with open_system(gated.spec) as system:
        ref = system.ref("a")
        answers = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caught, ref.ask(ValueError("bug"), within=100), answers)
            nursery.start_soon(caught, ref.ask(ValueError("bug"), within=100), answers)
        assert {type(answer) for answer in answers} == {ActorCrashed, ActorQuarantined}
        with pytest.raises(ActorQuarantined):
            ref.tell("x")
        assert system.release("") == 1
        assert await ref.ask("now", within=1) == "now"


async def test_a_stop_lets_the_handler_finish_and_answers_the_rest(autojump_clock):
    gated = Gated()
    answers, queued = [], []
    async with trio.open_nursery() as nursery, open_system(gated.spec) as system:
        ref = system.ref("a")
        nursery.start_soon(caught, ref.ask("in flight", within=100), answers)
        await settle()
        nursery.start_soon(caught, ref.ask("queued", within=100), queued)
        await settle()
        nursery.start_soon(system.stop)
        await settle()
        assert [type(answer) for answer in queued] == [ActorStopped]
        with pytest.raises(ActorStopped):
            ref.tell("late")
        gated.gate.set()
    assert answers == ["in flight"]


async def test_a_handler_that_ignores_the_stop_is_cut_off_and_its_asker_told(autojump_clock):
    gated = Gated(shutdown=2.0)
    answers = []
    async with trio.open_nursery() as nursery, open_system(gated.spec) as system:
        nursery.start_soon(caught, system.ref("a").ask("hangs", within=100), answers)
        await settle()
        began = trio.current_time()
        await system.stop()
        assert trio.current_time() - began == pytest.approx(2.0)
    assert isinstance(answers[0], ActorStopped)
    assert answers[0].began


async def test_messages_sent_before_the_actor_is_up_wait_for_it(autojump_clock):
    class Slow(Recorder):
        async def started(self, ctx):
            await trio.sleep(5)

    async def early(ctx):
        ctx.started()
        answers.append(await ctx.ref("slow").ask("early", within=10))
        await trio.sleep_forever()

    answers = []
    spec = supervisor("root", [task("early", early), actor("slow", lambda: Slow([]))])
    async with open_system(spec) as system:
        await wait_until(system, "slow", State.RUNNING)
        await settle()
        assert answers == ["early"]


async def test_handlers_see_the_context_of_the_actor_not_of_the_sender(autojump_clock):
    variable = contextvars.ContextVar("variable", default="nobody's")

    class Looks(Actor):
        async def handle(self, message):
            return variable.get()

    async with open_system(supervisor("root", [actor("a", Looks)])) as system:
        variable.set("sender's")
        assert await system.ref("a").ask("x", within=1) == "nobody's"


async def test_refs_are_addresses(autojump_clock):
    async with open_system(supervisor("root", [actor("a", lambda: Recorder([])), supervisor("s", [])])) as system:
        assert system.ref("a") == system.ref("a")
        assert len({system.ref("a"), system.ref("a")}) == 1
        for path in ("nosuch", "s", "", "a/b"):
            with pytest.raises(UnknownPath):
                system.ref(path)


async def test_what_waited_for_a_restart_is_handled_side_by_side(autojump_clock):
    gated = Gated()
    async with open_system(gated.spec) as system:
        ref = system.ref("a")
        ref.tell(ValueError("bug"))
        await wait_until(system, "a", State.RESTARTING)
        for number in range(10):
            ref.tell(number, lane="shared")
        await wait_until(system, "a", State.RUNNING)
        await settle()
        assert system.snapshot_of("a").lanes["shared"].in_flight == 8
        gated.gate.set()
