"""Tests keep their files in memory where the machine has the room: a database made by copy takes 15 ms there, and
half a second on some disks. Whoever sets TMPDIR decides for themselves.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
ROOM = 6 << 30
"""Free bytes below which it is left alone: a container's is 64 MiB, and tests move files of 2 GB."""


def keep_files_in_memory() -> None:
    """For this process and those that it starts, such as the workers of the same tests."""
    if "TMPDIR" in os.environ or not _has_room(SHARED_MEMORY):
        return
    os.environ["TMPDIR"] = str(SHARED_MEMORY)
    tempfile.tempdir = None


def _has_room(place: Path) -> bool:
    if not os.access(place, os.W_OK | os.X_OK):
        return False
    return shutil.disk_usage(place).free >= ROOM
