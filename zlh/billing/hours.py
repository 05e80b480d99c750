"""The hours that containers ran, as intervals: pure sums over what was seen.

An interval is open while its container is seen to run. It is closed, and becomes a row that nothing changes any
more, when the container stops, has another owner or plan, or an hour of the clock is full. What was not seen is not
counted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from zlh.model.container_hours import Interval, OpenInterval, Running

UNSEEN: Final = timedelta(minutes=5)
"""A container that was not looked at for longer than this may have been off meanwhile."""

HOUR: Final = timedelta(hours=1)


def advance(
    open_intervals: Mapping[int, OpenInterval],
    running: Iterable[Running],
    now: datetime,
    unknown: Collection[int] = (),
    counted: Mapping[int, datetime] = MappingProxyType({}),
) -> tuple[list[Interval], dict[int, OpenInterval]]:
    """The intervals that are closed by what is seen at `now`, and those that are open then, by vmid. `unknown` are
    vmids of which nothing is seen. Time that goes backwards counts nothing twice: `counted` says until when rows of a
    vmid reach, where that is later than `now`."""
    seen = {one.vmid: one for one in running}
    closed: list[Interval] = []
    after: dict[int, OpenInterval] = {}
    for vmid, interval in open_intervals.items():
        what = seen.get(vmid)
        if now <= interval.seen_at or (what is None and vmid in unknown):
            after[vmid] = interval
            continue
        if what is not None and now - interval.seen_at > UNSEEN:
            closed += _whole(interval, interval.seen_at)
            after[vmid] = OpenInterval(what, now, now)
        elif what is None:
            closed += _whole(interval, interval.seen_at)
        elif what != interval.what:
            closed += _whole(interval, now)
            after[vmid] = OpenInterval(what, now, now)
        else:
            full, rest = _hours(replace(interval, seen_at=now))
            closed += full
            after[vmid] = rest
    for vmid, what in seen.items():
        if vmid not in open_intervals and not (vmid in counted and now < counted[vmid]):
            after[vmid] = OpenInterval(what, now, now)
    return closed, after


def _hours(interval: OpenInterval) -> tuple[list[Interval], OpenInterval]:
    """What lies before the last full hour of the clock, an hour a row, and what is open after it."""
    full = []
    while (until := _next_hour(interval.started_at)) <= interval.seen_at:
        full.append(Interval(interval.what, interval.started_at, until))
        interval = replace(interval, started_at=until)
    return full, interval


def _whole(interval: OpenInterval, until: datetime) -> list[Interval]:
    full, rest = _hours(replace(interval, seen_at=until))
    return [*full, Interval(rest.what, rest.started_at, until)] if until > rest.started_at else full


def _next_hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0) + HOUR
