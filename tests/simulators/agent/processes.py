"""What /proc knows of processes."""

from __future__ import annotations

from pathlib import Path


def children_of(pid: int) -> set[int]:
    """Direct children that are not zombies."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.add(int(stat.parent.name))
    return found
