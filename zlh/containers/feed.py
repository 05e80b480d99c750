"""Where a console's lines come from: the agent's websocket, and its history for what was written before."""

from __future__ import annotations

from collections.abc import Sequence

from zlh.containers.cell import Cell
from zlh.containers.tape import Tape
from zlh.drivers.agent import AgentClient, ConsoleStream
from zlh.drivers.errors import Invalid, Unsupported
from zlh.model.agent_calls import Feature
from zlh.model.console import Stretch

MOST_LINES = 10_000
"""So many lines are fetched at once where nobody listened for a while."""


class Feed:
    """`page` is how many lines are asked for in one request."""

    def __init__(self, cell: Cell, tape: Tape, page: int) -> None:
        self._cell = cell
        self._tape = tape
        self._page = page

    async def open(self, client: AgentClient, asked: Sequence[int]) -> tuple[ConsoleStream, Sequence[Stretch] | None]:
        """The stream, which the caller closes, and what comes before it in the tape: with numbers, or all that an
        agent without them still knows, or None where it cannot tell. Viewers `asked` for what comes after those
        numbers. Raises DriverError."""
        if Feature.CONSOLE_NUMBERS not in self._cell.lacking:
            try:
                return await self._numbered(client, asked)
            except Unsupported:
                self._cell.learn_lacking(Feature.CONSOLE_NUMBERS)
        return await self._plain(client)

    async def _numbered(
        self, client: AgentClient, asked: Sequence[int]
    ) -> tuple[ConsoleStream, Sequence[Stretch] | None]:
        """The stream, and after it the history: what is in both is told by the numbers."""
        await client.numbered_history(1)  # An old agent is left alone at once.
        stream = await client.open_console(numbered=True)
        try:
            return stream, await self._fetch(client, asked)
        except Invalid:
            return stream, None
        except BaseException:
            await stream.aclose()
            raise

    async def _fetch(self, client: AgentClient, asked: Sequence[int]) -> Sequence[Stretch]:
        newest = await client.numbered_history(self._page)
        assert newest.first is not None
        number = max(1, newest.first - MOST_LINES, self._tape.missing(newest, asked))
        stretches = []
        while number < newest.first:
            page = await client.numbered_history(self._page, after=number - 1)
            if page.epoch != newest.epoch or page.end <= number:
                break
            stretches.append(page)
            number = page.end
        return [*stretches, newest]

    async def _plain(self, client: AgentClient) -> tuple[ConsoleStream, Sequence[Stretch] | None]:
        """The history first: what is written between the two is missed, but nothing comes twice."""
        told = await self._history(client)
        return await client.open_console(), told

    async def _history(self, client: AgentClient) -> Sequence[Stretch] | None:
        if Feature.HISTORY in self._cell.lacking:
            return None
        try:
            return [Stretch(await client.history(self._page))]
        except Unsupported:
            self._cell.learn_lacking(Feature.HISTORY)
            return None
        except Invalid:
            # Lines so long that a page of them is too much: what is written from now on can still be seen.
            return None
