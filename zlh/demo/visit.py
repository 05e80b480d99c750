"""One run of the demo: the parts, then the journey or the stay, and what is said at the end."""

from __future__ import annotations

import time

import trio
from rich.text import Text

from zlh.demo.journey import Journey
from zlh.demo.options import Options
from zlh.demo.place import Place
from zlh.demo.plant import BRISK, UNHURRIED, Plant, open_plant
from zlh.demo.portal import RefusedError
from zlh.demo.screen import Screen
from zlh.demo.stay import stay


class Visit:
    """Runs once. A refusal of the API ends it with words; a part that fails is the caller's to tell."""

    def __init__(self, options: Options, place: Place, screen: Screen) -> None:
        self._options = options
        self._place = place
        self._screen = screen
        self._interrupted = False
        self._up = False
        self._steps = 0
        self._problem = ""

    def interrupted(self) -> None:
        self._interrupted = True
        if self._screen.live:
            self._screen.say("[dim]stopping …")

    async def run(self) -> None:
        """Raises PartFailedError, alone or in a group."""
        pace = BRISK if self._options.once else UNHURRIED
        try:
            async with open_plant(self._place, pace, self._options.fleet, self._screen) as plant:
                await (self._walk(plant) if self._options.once else self._stay(plant))
        except* RefusedError as group:
            self._problem = _words(group)

    async def _walk(self, plant: Plant) -> None:
        """Whatever dies on the way fails the walk, though it would be started again in a longer stay."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(plant.keep, self._fail)
            journey = Journey(plant, self._screen)
            await journey.walk()
            self._steps = journey.steps
            nursery.cancel_scope.cancel()

    async def _stay(self, plant: Plant) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(plant.keep, self._screen.say)
            self._up = True
            await stay(plant, self._screen, self._options.ready_file)

    def _fail(self, words: str) -> None:
        raise RefusedError(words)

    def conclude(self, seconds: float) -> int:
        """Says how it went, after everything was stopped; the exit status."""
        if self._problem:
            self._screen.say()
            self._screen.complain(self._problem)
            self._screen.say(f"[dim]failed after {seconds:.1f} s; nothing is left running")
            return 1
        if self._options.once and not self._interrupted:
            self._screen.say()
            line = Text("✓ ", style="green").append(
                f"the journey took {seconds:.1f} s: {self._steps} steps, all well; nothing is left running",
                style="default",
            )
            self._screen.say(line)
            return 0
        self._screen.say(f"[dim]everything is stopped, {time.strftime('%H:%M:%S')}")
        return 0 if self._up else 1


def _words(group: BaseExceptionGroup[RefusedError]) -> str:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return str(first)
