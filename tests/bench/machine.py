"""The machine that the figures come from, and who computes where on it."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def share_out_cores() -> int | None:
    """Leaves the first core to the API and confines this process, and so all that it starts, to the others.

    Returns that core; None, and no confinement, where there is only one.
    """
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        return None
    os.sched_setaffinity(0, others)
    return first


def machine() -> dict[str, str]:
    """What a reader must know of it, and how busy it was before we began."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
