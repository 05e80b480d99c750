"""How long something took, for promises that are made in seconds: a machine that is busy otherwise is not late.

watch = Stopwatch()
...
assert watch.seconds < 1.0
"""

from __future__ import annotations

import time
from pathlib import Path

PRESSURE = Path("/proc/pressure/cpu")


class Stopwatch:
    """Runs from the moment that it is made."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._withheld = withheld()

    @property
    def seconds(self) -> float:
        """Seconds since then, without those in which this machine let some program wait for a processor."""
        return max(0.0, time.monotonic() - self._begun - (withheld() - self._withheld))


def withheld() -> float:
    """Seconds, ever, in which some program waited for a processor; 0 where Linux does not tell (proc(5))."""
    try:
        some = PRESSURE.read_text().partition("\n")[0]
    except OSError:
        return 0.0
    return int(some.rpartition("total=")[2]) / 1e6
