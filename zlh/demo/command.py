"""Carries out `zlh demo`: opens the folder, runs the parts, walks or stays, and says how it went."""

from __future__ import annotations

import importlib.util
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import trio
from rich.text import Text

from zlh.demo.options import Options, parse
from zlh.demo.part import PartFailedError
from zlh.demo.place import Place, PlaceError, open_place
from zlh.demo.screen import Screen

NEEDED = ("fakepve", "trio_websocket")
TITLE = "ZLH control plane — everything on this machine"


def run(arguments: Sequence[str]) -> int:
    """Exit status: 0 done or ended by a signal, 1 failed, 2 wrong arguments."""
    options, screen = parse(arguments), Screen()
    problem = _unfit()
    if problem:
        screen.complain(problem)
        return 1
    failures: list[Exception] = []
    try:
        with ExitStack() as stack:
            folder = options.data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="zlh-demo-")))
            place = stack.enter_context(open_place(folder.resolve(), reset=options.reset, port=options.port))
            return trio.run(_run, options, place, screen)
    except* (PlaceError, PartFailedError) as group:
        failures = _leaves(group)
    for failure in failures[:1]:
        _tell(screen, failure)
    return 1


def _unfit() -> str:
    """Why the demo cannot run here; empty when it can."""
    if not sys.platform.startswith("linux"):
        return "the demo needs Linux: its parts are loopback addresses of 127/8 and processes tied to each other"
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        return f"the demo needs {' and '.join(missing)}: ./dev demo installs them, or pip install 'zlh[dev]'"
    return ""


async def _run(options: Options, place: Place, screen: Screen) -> int:
    # Here, after the checks: these need what may be missing.
    from zlh.demo.visit import Visit

    visit = Visit(options, place, screen)
    begun = time.monotonic()
    screen.say(Text(TITLE, style="bold"))
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:

            async def end_on_signal() -> None:
                async for _ in signals:
                    visit.interrupted()
                    nursery.cancel_scope.cancel()
                    return

            nursery.start_soon(end_on_signal)
            await visit.run()
            nursery.cancel_scope.cancel()
    return visit.conclude(time.monotonic() - begun)


def _leaves(group: BaseExceptionGroup[Exception]) -> list[Exception]:
    found: list[Exception] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def _tell(screen: Screen, failure: Exception) -> None:
    screen.complain(str(failure))
    if isinstance(failure, PartFailedError) and failure.tail:
        screen.say(f"[dim]the end of its log, {failure.log}:")
        for line in failure.tail:
            screen.verbatim(f"  {line}", style="dim")
