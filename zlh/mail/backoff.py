"""When a letter that was not taken is tried again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

FIRST: Final = timedelta(minutes=1)
LONGEST: Final = timedelta(hours=4)
PATIENCE: Final = timedelta(days=2)


def next_try(created_at: datetime, attempts: int, now: datetime, jitter: float) -> datetime | None:
    """After `attempts` failures: twice as long each time, from one minute to four hours, less up to a quarter of that
    (`jitter`, 0 to 1), so that what failed together does not come back together. None when it is two days old."""
    if now - created_at >= PATIENCE:
        return None
    # The exponent is bounded: a letter that many processes died with has many attempts.
    pause = min(FIRST * (1 << min(attempts - 1, 16)), LONGEST)
    return now + pause * (1 - jitter / 4)
