"""A schedule's backups: one is made and waited for, and only then what is no longer wanted goes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

import orjson
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.schedules.fakes import KEEP_TWO, NOW, OWNER, PLAN, VMID, FakeFleet, FakeLedger
from tests.schedules.test_work import Desk
from zlh.model.accounts import Account
from zlh.model.agent_calls import AgentAnswer
from zlh.model.backups import BackupState, Retention
from zlh.model.errors import AgentUnreachableError, DeadlineError, UnavailableError
from zlh.model.schedules import Action, Outcome
from zlh.schedules.backups import AT_ONCE, MOST_SECONDS, PATIENCE_SECONDS
from zlh.schedules.ledger import patiently
from zlh.store import StoreUnavailable
from zlh.store.schedule_runs import Ending

DAY = timedelta(days=1)
BACKUP = Action.BACKUP


class Scene:
    def __init__(self) -> None:
        self.fleet, self.ledger = FakeFleet(), FakeLedger()
        self.backups = self.fleet.backups
        self.desk = Desk(self.fleet, self.ledger)

    def made(self, days_ago: int, schedule_id: str = "s1", **fields: bool) -> str:
        """One of the schedule's, that is there."""
        backup_id = self.backups.add(NOW - days_ago * DAY, "nightly", **fields)
        self.ledger.makers[backup_id] = schedule_id
        return backup_id

    async def run(self, **fields: object) -> Ending:
        return await self.desk.do(BACKUP, **fields)


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_it_is_waited_for_and_known_as_the_schedules(scene: Scene, autojump_clock: MockClock) -> None:
    ending = await scene.run()
    assert ending == Ending(Outcome.SUCCEEDED, None, "b1")
    assert scene.fleet.calls[0] == ("create", VMID, OWNER.id, "nightly 2026-06-01 04:00")
    assert trio.current_time() >= scene.backups.seconds
    assert scene.ledger.makers == {"b1": "s1"}
    # Looked at now and then, not all the time.
    assert len(scene.fleet.calls) < 15


async def test_its_name_tells_the_local_time(scene: Scene, autojump_clock: MockClock) -> None:
    await scene.run(zone="Asia/Kathmandu")
    assert scene.fleet.calls[0][-1] == "nightly 2026-06-01 09:45"


async def test_old_ones_go_once_the_new_one_is_ready(scene: Scene, autojump_clock: MockClock) -> None:
    oldest, newer = scene.made(2), scene.made(1)
    ready_at: list[float] = []

    async def delete() -> None:
        ready_at.append(trio.current_time())
        assert all(backup.state is BackupState.READY for backup in scene.backups.there())

    scene.fleet.answers = {"delete": delete}
    ending = await scene.run(retention=KEEP_TWO)
    assert ending == Ending(Outcome.SUCCEEDED, None, "b3", (oldest,))
    assert scene.backups.ids() == [newer, "b3"]
    assert scene.ledger.makers == {newer: "s1", "b3": "s1"}
    assert ready_at[0] >= scene.backups.seconds


async def test_what_is_locked_by_hand_or_of_another_schedule_stays(scene: Scene, autojump_clock: MockClock) -> None:
    scene.made(9, locked=True)
    scene.made(8, "s2")
    by_hand = scene.backups.add(NOW - 7 * DAY)
    ours = scene.made(6)
    # The plan has room for three: what retention wants gone makes room, but that is not enough here.
    ending = await scene.run(retention=Retention(last=1))
    assert ending.outcome is Outcome.REFUSED
    assert "allows 3 backups" in (ending.error or "")
    assert scene.backups.ids() == ["b1", "b2", by_hand, ours]
    assert scene.fleet.did() == []


async def test_nothing_goes_where_the_new_one_failed(scene: Scene, autojump_clock: MockClock) -> None:
    scene.made(2)
    scene.made(1)
    scene.backups.state = BackupState.FAILED
    ending = await scene.run(retention=Retention(last=1))
    assert ending == Ending(Outcome.FAILED, "no room", "b3")
    assert "delete" not in scene.fleet.did()


async def test_at_the_plans_limit_what_would_go_anyway_is_waited_for(scene: Scene, autojump_clock: MockClock) -> None:
    by_hand, oldest, newer = scene.backups.add(NOW - 9 * DAY), scene.made(2), scene.made(1)
    ending = await scene.run(retention=Retention(last=1))
    assert ending == Ending(Outcome.SUCCEEDED, None, "b4", (oldest, newer))
    assert scene.fleet.did() == ["create", "delete", "delete"]
    assert scene.backups.ids() == [by_hand, "b4"]


async def test_at_the_plans_limit_a_failure_costs_none_of_the_old_ones(
    scene: Scene, autojump_clock: MockClock
) -> None:
    there = [scene.made(days) for days in (3, 2, 1)]
    scene.backups.state = BackupState.FAILED
    ending = await scene.run(retention=Retention(last=1))
    assert ending == Ending(Outcome.FAILED, "no room", "b4")
    assert scene.backups.ids() == [*there, "b4"]


async def test_what_the_plan_has_no_room_for_is_only_begun_where_as_many_go(
    scene: Scene, autojump_clock: MockClock
) -> None:
    only = scene.made(1)
    # With the two that others make there is one too many for a moment, and then no more.
    for _ in range(2):
        scene.backups.begin("being made")
    ending = await scene.run(retention=Retention(last=1))
    assert ending == Ending(Outcome.SUCCEEDED, None, "b4", (only,))
    scene.backups.begin("one more by hand")
    scene.backups.begin("and another")
    assert (await scene.run(retention=Retention(last=1))).outcome is Outcome.REFUSED


async def test_the_new_one_stays_also_where_the_agents_clock_is_behind(
    scene: Scene, autojump_clock: MockClock
) -> None:
    scene.made(2)
    newer = scene.made(1)
    scene.backups.behind = timedelta(days=400)
    ending = await scene.run(retention=Retention(last=1))
    assert ending.backup_id == "b3"
    assert scene.backups.ids() == [newer, "b3"]


async def test_at_the_limit_without_retention_it_is_refused(scene: Scene, autojump_clock: MockClock) -> None:
    for days in (3, 2, 1):
        scene.made(days)
    ending = await scene.run()
    assert ending.outcome is Outcome.REFUSED
    assert scene.fleet.did() == []


async def test_one_that_was_locked_in_this_moment_stays(scene: Scene, autojump_clock: MockClock) -> None:
    scene.made(2)
    scene.made(1)

    async def locked() -> None:
        scene.fleet.answers = {}
        raise UnavailableError("too many commands wait for this container")

    scene.fleet.answers = {"delete": locked}
    ending = await scene.run(retention=Retention(last=1))
    # That it is ready counts; that older ones are still there is said, and the next run sees to it.
    assert ending.outcome is Outcome.SUCCEEDED
    assert "too many commands wait" in (ending.error or "")
    again = await scene.run(number=2, retention=Retention(last=1))
    assert again.outcome is Outcome.REFUSED


async def test_whoever_resumes_follows_what_was_begun(scene: Scene, autojump_clock: MockClock) -> None:
    begun = scene.backups.begin("nightly 2026-06-01 04:00")
    ending = await scene.run(resumed=True)
    assert ending == Ending(Outcome.SUCCEEDED, None, begun)
    assert "create" not in scene.fleet.did()


async def test_whoever_resumes_takes_no_other_runs_backup_for_his(scene: Scene, autojump_clock: MockClock) -> None:
    known = scene.backups.begin("nightly 2026-06-01 04:00")
    scene.ledger.makers[known] = "s2"
    ending = await scene.run(resumed=True)
    assert (ending.outcome, ending.backup_id) == (Outcome.SUCCEEDED, "b2")


async def test_whoever_resumes_believes_what_was_written_down(scene: Scene, autojump_clock: MockClock) -> None:
    scene.backups.begin("renamed since")
    ending = await scene.run(resumed=True, backup_id="b1")
    assert ending == Ending(Outcome.SUCCEEDED, None, "b1")
    ending = await scene.run(resumed=True, backup_id="b9")
    assert ending.backup_id == "b2"


async def test_an_answer_that_was_lost_makes_no_second_one(scene: Scene, autojump_clock: MockClock) -> None:
    async def begin_and_hang() -> None:
        scene.backups.begin("nightly 2026-06-01 04:00")
        raise DeadlineError("the container did not answer within 40 s", details={"mayTakeEffect": True})

    scene.fleet.answers = {"create": begin_and_hang}
    ending = await scene.run()
    assert ending == Ending(Outcome.SUCCEEDED, None, "b1")
    assert scene.backups.ids() == ["b1"]


async def test_an_agent_that_does_not_answer_is_the_reason(scene: Scene, autojump_clock: MockClock) -> None:
    async def gone() -> None:
        raise AgentUnreachableError("the agent does not answer: refused")

    scene.fleet.answers = {"create": gone, "all": gone}
    assert await scene.run() == Ending(Outcome.FAILED, "the agent does not answer: refused")


async def test_an_agent_that_is_away_for_a_while_is_waited_for(scene: Scene, autojump_clock: MockClock) -> None:
    async def away_at_first() -> None:
        if trio.current_time() < PATIENCE_SECONDS - 60:
            raise AgentUnreachableError("the agent does not answer")

    scene.fleet.answers = {"all": away_at_first}
    assert (await scene.run()).outcome is Outcome.SUCCEEDED


async def test_an_agent_that_stays_away_is_given_up(scene: Scene, autojump_clock: MockClock) -> None:
    async def away() -> None:
        raise AgentUnreachableError("the agent does not answer")

    scene.fleet.answers = {"all": away}
    ending = await scene.run()
    assert (ending.outcome, ending.backup_id) == (Outcome.FAILED, "b1")
    assert ending.error == "nothing was heard of the backup for 10 minutes: the agent does not answer"


async def test_one_that_is_never_ready_is_given_up(scene: Scene, autojump_clock: MockClock) -> None:
    scene.backups.seconds = 10 * MOST_SECONDS
    ending = await scene.run()
    assert ending.error == "the backup was not ready within 2 hours"
    assert MOST_SECONDS <= trio.current_time() < MOST_SECONDS + 60


async def test_one_that_somebody_deleted_meanwhile_has_failed(scene: Scene, autojump_clock: MockClock) -> None:
    async def delete_it() -> None:
        scene.fleet.answers = {}
        await scene.backups.delete(VMID, "b1")

    scene.fleet.answers = {"all": delete_it}
    ending = await scene.run()
    assert ending == Ending(Outcome.FAILED, "the agent does not know of the backup any more", "b1")


async def test_what_somebody_else_deleted_is_forgotten(scene: Scene, autojump_clock: MockClock) -> None:
    scene.ledger.makers |= {"gone": "s1", "theirs": "s2"}
    await scene.run()
    assert scene.ledger.makers == {"theirs": "s2", "b1": "s1"}


async def test_a_database_that_is_away_is_waited_for(autojump_clock: MockClock) -> None:
    tries: list[float] = []

    async def work() -> str:
        tries.append(trio.current_time())
        if len(tries) < 3:
            raise StoreUnavailable("the database is not reachable")
        return "done"

    assert await patiently(work) == "done"
    assert tries == [0, 5, 10]


async def test_an_agent_that_is_never_done_keeps_no_others_waiting(scene: Scene, autojump_clock: MockClock) -> None:
    """However many schedules its container has."""
    scene.backups._plan = replace(PLAN, backups=1000)
    scene.backups.seconds = 2 * MOST_SECONDS
    async with trio.open_nursery() as nursery:
        for number in range(AT_ONCE):
            nursery.start_soon(partial(scene.run, number=number + 1))
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        scene.backups.seconds = 60.0
        await scene.run(vmid=VMID + 1, number=AT_ONCE + 1)
        assert trio.current_time() - began < 120
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("odd", ["", "a\0b", "../x", "x" * 65, 5, None])
async def test_what_is_no_id_of_a_backup_is_not_written_down(odd: object, scene: Scene) -> None:
    async def create(vmid: int, owner: Account, name: str | None = None, *, beyond: int = 0) -> AgentAnswer:
        return AgentAnswer(202, orjson.dumps({"id": odd}))

    scene.backups.create = create  # type: ignore[method-assign]  # this agent lies
    ending = await scene.run()
    assert (ending.outcome, scene.ledger.makers) == (Outcome.FAILED, {})
