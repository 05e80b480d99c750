"""A thousand agents are a thousand connections: the program takes as many files as it may have."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import resource
from zlh.commands.serve import allow_many_files
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))
allow_many_files()
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, most)
"""


def test_as_many_files_as_the_system_allows() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)
