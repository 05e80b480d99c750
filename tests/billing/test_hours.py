from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.billing.sale import NOW
from zlh.billing.hours import HOUR, UNSEEN, advance
from zlh.model.container_hours import Interval, OpenInterval, Running
from zlh.model.containers import ContainerType

MINUTE = timedelta(minutes=1)
NOTHING: dict[int, OpenInterval] = {}


def running(vmid: int = 5000, plan: str = "starter", account_id: int = 1) -> Running:
    return Running(vmid, account_id, ContainerType.GAME, plan)


def told(rows: list[Interval]) -> list[tuple[datetime, datetime, str]]:
    return [(row.started_at, row.ended_at, row.what.plan) for row in rows]


def watch(*looks: tuple[datetime, list[Running]]) -> tuple[list[Interval], dict[int, OpenInterval]]:
    rows, present = [], NOTHING
    for now, seen in looks:
        closed, present = advance(present, seen, now)
        rows += closed
    return rows, present


def test_a_container_that_stops_has_a_row_from_when_it_was_seen_first_to_when_it_was_seen_last() -> None:
    rows, present = watch((NOW, [running()]), (NOW + MINUTE, [running()]), (NOW + 2 * MINUTE, []))
    assert told(rows) == [(NOW, NOW + MINUTE, "starter")]
    assert present == {}


def test_a_full_hour_of_the_clock_is_a_row() -> None:
    began = NOW + 58 * MINUTE
    rows, present = watch((began, [running()]), (began + 2 * MINUTE, [running()]), (began + 4 * MINUTE, [running()]))
    assert told(rows) == [(began, NOW + HOUR, "starter")]
    assert present[5000].started_at == NOW + HOUR


def test_another_plan_begins_another_row_without_a_gap() -> None:
    rows, present = watch((NOW, [running()]), (NOW + MINUTE, [running(plan="studio")]))
    assert told(rows) == [(NOW, NOW + MINUTE, "starter")]
    assert present[5000] == OpenInterval(running(plan="studio"), NOW + MINUTE, NOW + MINUTE)


def test_time_in_which_nobody_looked_is_not_counted() -> None:
    later = NOW + MINUTE + UNSEEN + timedelta(seconds=1)
    rows, present = watch((NOW, [running()]), (NOW + MINUTE, [running()]), (later, [running()]))
    assert told(rows) == [(NOW, NOW + MINUTE, "starter")]
    assert present[5000].started_at == later


def test_unknown_is_neither_on_nor_off() -> None:
    _, present = watch((NOW, [running()]))
    closed, present = advance(present, [], NOW + MINUTE, unknown={5000})
    assert (closed, present[5000].seen_at) == ([], NOW)
    closed, present = advance(present, [running()], NOW + 2 * MINUTE)
    assert (closed, present[5000].seen_at) == ([], NOW + 2 * MINUTE)


def test_one_that_is_seen_once_has_no_row() -> None:
    rows, _ = watch((NOW, [running()]), (NOW + MINUTE, []))
    assert rows == []


def test_a_clock_that_was_set_back_counts_no_time_twice() -> None:
    rows, present = watch((NOW, [running()]), (NOW + 4 * MINUTE, [running()]), (NOW + 5 * MINUTE, []))
    counted = {5000: rows[-1].ended_at}
    _, present = advance(present, [running()], NOW + MINUTE, counted=counted)
    assert present == {}
    _, present = advance(present, [running()], NOW + 4 * MINUTE, counted=counted)
    assert present[5000].started_at == NOW + 4 * MINUTE


# Whatever happens


@dataclass
class Books:
    """The ledger beside the simplest sum there is: time between two looks that both saw a container run."""

    rows: list[Interval] = field(default_factory=list)
    present: dict[int, OpenInterval] = field(default_factory=dict)
    last_on: dict[int, datetime] = field(default_factory=dict)
    seen: dict[int, timedelta] = field(default_factory=dict)

    def look(self, now: datetime, on: dict[int, Running], unknown: set[int]) -> None:
        counted: dict[int, datetime] = {}
        for row in self.rows:
            if row.ended_at > now:
                counted[row.what.vmid] = max(row.ended_at, counted.get(row.what.vmid, row.ended_at))
        closed, self.present = advance(self.present, on.values(), now, unknown, counted)
        self.rows += closed
        for vmid in {*on, *self.last_on}:
            self._sum(vmid, now, vmid in on, vmid in unknown, counted.get(vmid, now))

    def _sum(self, vmid: int, now: datetime, on: bool, unknown: bool, counted: datetime) -> None:
        last = self.last_on.get(vmid)
        if last is not None and (now <= last or (unknown and not on)):
            return
        if not on:
            self.last_on.pop(vmid, None)
        elif last is None:
            if now >= counted:
                self.last_on[vmid] = now
        else:
            if now - last <= UNSEEN:
                self.seen[vmid] = self.seen.get(vmid, timedelta()) + (now - last)
            self.last_on[vmid] = now


VMIDS = (5000, 5001, 6000)
looks = st.tuples(
    # Steps of the clock: mostly a minute or so, sometimes long, sometimes back.
    st.one_of(st.integers(1, 299), st.integers(1, 5 * 3600), st.integers(-3 * 3600, 0)),
    st.dictionaries(
        st.sampled_from(VMIDS),
        st.tuples(st.sampled_from(["on", "on", "on", "unknown"]), st.sampled_from(["starter", "starter", "studio"])),
    ),
    st.integers(1, 2),
)


@settings(max_examples=150)
@given(st.lists(looks, max_size=60))
def test_rows_never_overlap_and_sum_up_to_what_was_seen(
    history: list[tuple[int, dict[int, tuple[str, str]], int]],
) -> None:
    """Whatever starts, stops, changes plan or owner, is not seen, or goes back in time. The books are all that a new
    process knows, too."""
    books, now = Books(), NOW
    for step, states, account_id in history:
        now += timedelta(seconds=step)
        on = {vmid: running(vmid, plan, account_id) for vmid, (power, plan) in states.items() if power == "on"}
        books.look(now, on, {vmid for vmid, (power, _) in states.items() if power == "unknown"})
    for vmid in VMIDS:
        rows = sorted((row for row in books.rows if row.what.vmid == vmid), key=lambda row: row.started_at)
        assert all(before.ended_at <= after.started_at for before, after in pairwise(rows))
        open_part = [books.present[vmid]] if vmid in books.present else []
        total = sum((row.ended_at - row.started_at for row in rows), timedelta())
        total += sum((one.seen_at - one.started_at for one in open_part), timedelta())
        assert total == books.seen.get(vmid, timedelta())
        assert all(one.started_at >= row.ended_at for one in open_part for row in rows)
    for row in books.rows:
        assert timedelta() < row.ended_at - row.started_at <= HOUR
        last = row.ended_at - timedelta(microseconds=1)
        assert row.started_at.replace(minute=0, second=0) == last.replace(minute=0, second=0, microsecond=0)


@given(st.lists(st.integers(1, 299), min_size=1, max_size=100))
def test_who_runs_without_a_break_has_rows_without_a_gap(steps: list[int]) -> None:
    present, rows, now = NOTHING, [], NOW
    for step in [0, *steps]:
        now += timedelta(seconds=step)
        closed, present = advance(present, [running()], now)
        rows += closed
    ends = [NOW, *(row.ended_at for row in rows)]
    assert [row.started_at for row in rows] == ends[:-1]
    assert present[5000].started_at == ends[-1]
