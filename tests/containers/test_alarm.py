"""One timer for all containers, and the nudges that it and others send."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors import ActorQuarantined, ActorStopped, MailboxFull
from tests.containers.scripted import supervised
from zlh.containers.alarm import Alarm
from zlh.containers.crew import NUDGE, Crew
from zlh.containers.followers import Followers
from zlh.containers.steps import Site
from zlh.containers.turnstile import Turnstile


class Rung:
    """Who was nudged, and when."""

    def __init__(self) -> None:
        self.began = trio.current_time()
        self.heard: list[tuple[int, float]] = []

    def __call__(self, vmid: int) -> None:
        self.heard.append((vmid, round(trio.current_time() - self.began, 3)))


async def test_the_earliest_time_counts_and_rings_once(autojump_clock: MockClock) -> None:
    rung = Rung()
    alarm = Alarm(rung)
    alarm.set(1, 5.0)
    async with supervised(alarm.run):
        alarm.set(2, 3.0)
        alarm.set(1, 9.0)
        alarm.set(1, 4.0)
        alarm.set(3, 1.0)
        alarm.clear(3)
        await trio.sleep(20)
        assert rung.heard == [(2, 3.0), (1, 4.0)]
        alarm.set(1, 0.0)
        alarm.set(3, -1.0)
        await trio.sleep(0.1)
        assert rung.heard[2:] == [(1, 20.0), (3, 20.0)]


async def test_a_sleeper_is_woken_for_an_earlier_one(autojump_clock: MockClock) -> None:
    rung = Rung()
    alarm = Alarm(rung)
    async with supervised(alarm.run):
        alarm.set(1, 1000.0)
        await trio.sleep(10)
        alarm.set(2, 1.0)
        await trio.sleep(2)
        assert rung.heard == [(2, 11.0)]
        await trio.sleep(1000)
        assert rung.heard[1:] == [(1, 1000.0)]


async def test_what_is_due_survives_a_crash(autojump_clock: MockClock) -> None:
    rung = Rung()
    bugs = [1]

    def nudge(vmid: int) -> None:
        if bugs:
            bugs.pop()
            raise ZeroDivisionError("a planted bug")
        rung(vmid)

    alarm = Alarm(nudge)
    alarm.set(1, 1.0)
    alarm.set(2, 1.0)
    alarm.set(3, 2.0)
    async with supervised(alarm.run):
        await trio.sleep(5)
    assert {vmid for vmid, _at in rung.heard} == {2, 3}


class Mailbox:
    """A ref that keeps what it is told, or raises."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.error: Exception | None = None

    def tell(self, message: object) -> None:
        if self.error is not None:
            raise self.error
        self.told.append(message)


@pytest.fixture
def crew() -> Crew:
    made: Any = Crew(
        db=None,
        now=lambda: 0.0,
        concurrent_operations=1,
        followers=Followers(),
        look_at_hosts=lambda: None,
        looked_at_host=lambda _cell, _running: None,
        suspended=lambda _account_id: None,
    )
    made.site = Site(
        proxmox=None,
        options=None,
        games=None,
        clones=Turnstile(1, made.nudge),
        mutations=Turnstile(1, made.nudge),
        cluster=lambda: None,
        pending_memory=lambda _node: 0,
    )
    crew: Crew = made
    return crew


def joined(crew: Crew, vmid: int) -> Mailbox:
    mailbox: Any = Mailbox()
    crew.joined(vmid, mailbox)
    told: Mailbox = mailbox
    return told


def test_one_nudge_waits_at_a_time(crew: Crew) -> None:
    mailbox = joined(crew, 1)
    for _ in range(3):
        crew.nudge(1)
    assert mailbox.told == [NUDGE]
    crew.nudged(1)
    crew.nudge(1)
    assert mailbox.told == [NUDGE, NUDGE]
    crew.nudge(99)


async def test_a_full_mailbox_is_nudged_later(crew: Crew, autojump_clock: MockClock) -> None:
    mailbox = joined(crew, 1)
    mailbox.error = MailboxFull("fleet/1/mailbox", "exclusive")
    crew.nudge(1)
    mailbox.error = None
    async with supervised(crew.alarm.run):
        await trio.sleep(2)
    assert mailbox.told == [NUDGE]


@pytest.mark.parametrize("kind", [ActorQuarantined, ActorStopped])
def test_a_place_is_not_left_with_one_that_cannot_use_it(crew: Crew, kind: type[Exception]) -> None:
    first, broken, last = joined(crew, 1), joined(crew, 2), joined(crew, 3)
    for vmid in (1, 2, 3):
        assert crew.admission.enter(vmid, owner_id=7) == (vmid == 1)
        assert crew.site.clones.enter("9000", vmid) == (vmid == 1)
    broken.error = kind("fleet/2/mailbox")
    crew.leave(1)
    if kind is ActorStopped:
        # The fleet takes its leave for it.
        crew.parted(2)
    assert crew.admission.inside == {3}
    assert last.told == [NUDGE]
    assert first.told == []


def test_nothing_of_one_that_parted_stays(crew: Crew) -> None:
    joined(crew, 1)
    crew.nudge(1)
    assert crew.admission.enter(1, 7)
    crew.parted(1)
    assert crew.mailbox(1) is None
    assert crew.admission.inside == frozenset()
    mailbox = joined(crew, 1)
    crew.nudge(1)
    assert mailbox.told == [NUDGE], "a nudge of its predecessor does not count"
