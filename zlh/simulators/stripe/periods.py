"""Billing periods: calendar months from an anchor. A period that would end on a day that its month lacks ends on the
month's last day, and the next one is back on the anchor's day."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime

DAY = 86400
MONTHS = {"month": 1, "year": 12}
DAYS = {"day": 1, "week": 7}


def later(anchor: int, interval: str, count: int) -> int:
    """`count` intervals after the anchor."""
    if interval in DAYS:
        return anchor + count * DAYS[interval] * DAY
    start = datetime.fromtimestamp(anchor, UTC)
    months = start.year * 12 + start.month - 1 + count * MONTHS[interval]
    year, month = divmod(months, 12)
    day = min(start.day, calendar.monthrange(year, month + 1)[1])
    return int(start.replace(year=year, month=month + 1, day=day).timestamp())


def around(anchor: int, interval: str, every: int, moment: int) -> tuple[int, int]:
    """The period that has begun at `moment` (or holds it): `start <= moment < end`. `moment` is not before the
    anchor."""
    number = (moment - anchor) // (later(anchor, interval, every) - anchor)
    # Months have different lengths: the guess is near.
    while later(anchor, interval, number * every) > moment:
        number -= 1
    while later(anchor, interval, (number + 1) * every) <= moment:
        number += 1
    return later(anchor, interval, number * every), later(anchor, interval, (number + 1) * every)
