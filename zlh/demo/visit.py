"""One run of the demo: the folder, the parts, then the journey or the stay, and what is said at the end."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import trio
from rich.text import Text

from zlh.demo.journey import Journey
from zlh.demo.options import Options
from zlh.demo.part import PartFailedError
from zlh.demo.place import Place, PlaceError, open_place
from zlh.demo.plant import BRISK, UNHURRIED, Plant, open_plant
from zlh.demo.portal import RefusedError
from zlh.demo.screen import Screen
from zlh.demo.stay import stay


def visit(options: Options, screen: Screen) -> int:
    """Runs the demo to its end and says how it went; the exit status."""
    failures: list[Exception] = []
    begun = time.monotonic()
    try:
        with ExitStack() as stack:
            folder = options.data_dir or Path(tempfile.mkdtemp(prefix="zlh-demo-"))
            if options.ready_file is not None:
                # Left by a demo that was killed, it would announce this one too early.
                options.ready_file.unlink(missing_ok=True)
            place = stack.enter_context(open_place(folder.resolve(), reset=options.reset, port=options.port))
            outcome = Visit(options, place, screen)
            trio.run(outcome.run)
            status = outcome.conclude(time.monotonic() - begun)
        if options.data_dir is None:
            # Not after a failure: its logs tell what happened.
            shutil.rmtree(folder)
        return status
    except* (PlaceError, PartFailedError, RefusedError) as group:
        failures = _leaves(group)
    _tell(screen, failures[0], time.monotonic() - begun)
    return 1


class Visit:
    """Runs once. Raises PartFailedError and RefusedError, alone or in a group."""

    def __init__(self, options: Options, place: Place, screen: Screen) -> None:
        self._options = options
        self._place = place
        self._screen = screen
        self._steps = 0
        self._up = False

    async def run(self) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_on_signal, signals, nursery.cancel_scope)
                await self._run()
                nursery.cancel_scope.cancel()

    async def _run(self) -> None:
        pace = BRISK if self._options.quick else UNHURRIED
        async with open_plant(self._place, pace, self._options.fleet, self._screen) as plant:
            await (self._walk(plant) if self._options.once else self._stay(plant))

    async def _walk(self, plant: Plant) -> None:
        """Whatever dies on the way fails the walk, though a stay would start it again."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(plant.keep, _refuse)
            journey = Journey(plant, self._screen)
            await journey.walk()
            self._steps = journey.steps
            nursery.cancel_scope.cancel()

    async def _stay(self, plant: Plant) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(plant.keep, self._screen.say)
            self._up = True
            await stay(plant, self._screen, self._options.ready_file)

    def conclude(self, seconds: float) -> int:
        """What there is to say after everything was stopped; the exit status."""
        if self._steps:
            done = Text("✓ ", style="green").append(f"{self._steps} steps, all well", style="default")
            self._screen.say()
            self._screen.say(done.append(f"; {seconds:.1f} s; nothing is left running", style="dim"))
            return 0
        self._screen.say("[dim]stopped; nothing is left running")
        return 0 if self._up else 1


def _refuse(words: str) -> None:
    raise RefusedError(words)


async def _cancel_on_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()
        return


def _leaves(group: BaseExceptionGroup[Exception]) -> list[Exception]:
    found: list[Exception] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def _tell(screen: Screen, failure: Exception, seconds: float) -> None:
    screen.say()
    screen.complain(str(failure))
    if isinstance(failure, PartFailedError) and failure.tail:
        screen.say(f"[dim]the end of its log, {failure.log}:")
        for line in failure.tail:
            screen.verbatim(f"  {line}", style="dim")
    screen.say(f"[dim]failed after {seconds:.1f} s; nothing is left running")
