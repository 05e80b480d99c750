"""The API as `zlh serve` runs it, on cores of its own, with a meter of how long its loop was busy at a stretch.

    python -m tests.bench.api --stalls FILE [--cores N...]

On SIGUSR1 it writes what the meter saw since the last time to FILE, and begins anew.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import os
import signal
import sys
import time
from pathlib import Path

import trio

from zlh import __main__ as program

NOTABLE_SECONDS = 0.05


class StallMeter(trio.abc.Instrument):
    """The time from one look at the sockets to the next: in it nobody else is served."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._draft = file.with_suffix(".new")
        self._began = time.perf_counter()
        self._longest = 0.0
        self._notable = 0
        self._collecting = 0.0
        self._collected = 0.0
        gc.callbacks.append(self._on_collection)

    def after_io_wait(self, timeout: float) -> None:
        self._began = time.perf_counter()

    def before_io_wait(self, timeout: float) -> None:
        busy = time.perf_counter() - self._began
        if busy > self._longest:
            self._longest = busy
        if busy > NOTABLE_SECONDS:
            self._notable += 1

    def _on_collection(self, phase: str, _details: object) -> None:
        if phase == "start":
            self._collecting = time.perf_counter()
        else:
            self._collected = max(self._collected, time.perf_counter() - self._collecting)

    def report(self, *_: object) -> None:
        self._draft.write_text(
            json.dumps({"longest": self._longest, "notable": self._notable, "collection": self._collected})
        )
        os.replace(self._draft, self._file)
        self._longest, self._notable, self._collected = 0.0, 0, 0.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.bench.api")
    parser.add_argument("--stalls", type=Path, required=True)
    parser.add_argument("--cores", type=int, nargs="+")
    options = parser.parse_args()
    if options.cores:
        os.sched_setaffinity(0, options.cores)
    meter = StallMeter(options.stalls)
    signal.signal(signal.SIGUSR1, meter.report)
    trio.run = functools.partial(trio.run, instruments=[meter])
    return program.main(["serve"])


if __name__ == "__main__":
    sys.exit(main())
