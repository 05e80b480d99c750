"""An agent that does as it is told, in place of `AgentClient`, and a clock that goes with trio's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

import actors
from tests.containers.samples import NOW
from zlh.drivers.errors import Unsupported
from zlh.model.console import Stretch
from zlh.model.observed import AgentState, Players, Readiness, Status, Update, Version


def virtual_now() -> Callable[[], float]:
    """Unix seconds that pass as trio's clock does."""
    began = trio.current_time()
    return lambda: NOW + trio.current_time() - began


async def reached(condition: Callable[[], bool], *, within: float = 60.0) -> None:
    """Waits, in virtual time, for something that happens between two of our looks."""
    with trio.fail_after(within):
        while not condition():  # noqa: ASYNC110 - what is watched tells nobody
            await trio.sleep(0.01)


@asynccontextmanager
async def supervised(run: Callable[[actors.Context], Awaitable[None]]) -> AsyncIterator[actors.System]:
    """Runs one task as the fleet does, restarts and all; its path is "task"."""
    async with actors.open_system(actors.supervisor("root", [actors.task("task", run)])) as system:
        yield system


class Agent:
    """What the scripted clients speak to. `answers` maps a call's name to its answer, an exception to raise, or a
    function; `HANG` never answers. `asked` holds (time, name) of every call, `open` counts clients not closed."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {
            "health": None,
            "status": Status(AgentState.RUNNING),
            "ready": Readiness(True),
            "version": Version("1.4.2"),
            "update_status": Update("1.4.2", "1.4.2", False, "idle"),
            "players": Players(0, 20),
            "history": (),
            "numbered_history": Unsupported("this agent does not number its lines"),
            "open_console": lambda: Stream(self),
        }
        self.asked: list[tuple[float, str]] = []
        self.open = 0
        self.opened: list[tuple[str, int, str]] = []
        self.streams: list[Stream] = []

    def client(self, address: str, port: int, token: str) -> Client:
        self.open += 1
        self.opened.append((address, port, token))
        return Client(self)

    def times(self, name: str) -> list[float]:
        return [at for at, asked in self.asked if asked == name]

    async def answer(self, name: str) -> Any:
        self.asked.append((trio.current_time(), name))
        await trio.lowlevel.checkpoint()
        answer = self.answers[name]
        if answer is HANG:
            await trio.sleep_forever()
        if isinstance(answer, Exception):
            raise answer
        return answer() if callable(answer) else answer


HANG = object()


class Client:
    """One connection to the agent, with the calls that poller and console make."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def close(self) -> None:
        self._agent.open -= 1

    async def history(self, lines: int) -> Sequence[str]:
        told: Sequence[str] = await self._agent.answer("history")
        return told[-lines:]

    async def numbered_history(self, lines: int, *, after: int | None = None) -> Stretch:
        told: Numbered | Stretch = await self._agent.answer("numbered_history")
        return told.told(lines, after) if isinstance(told, Numbered) else told

    async def open_console(self, *, numbered: bool = False) -> Stream:
        stream: Stream = await self._agent.answer("open_console")
        stream.numbered = numbered
        return stream

    def __getattr__(self, name: str) -> Callable[[], Awaitable[Any]]:
        return lambda: self._agent.answer(name)


class Numbered:
    """The history of an agent that numbers its lines; it keeps the newest `kept`."""

    def __init__(self, epoch: int, *lines: str, kept: int = 1_000_000) -> None:
        self.epoch = epoch
        self.lines = list(lines)
        self.kept = kept

    def write(self, *lines: str) -> Stretch:
        """The lines with their numbers."""
        first = len(self.lines) + 1
        self.lines += lines
        return Stretch(lines, self.epoch, first)

    def told(self, lines: int, after: int | None) -> Stretch:
        oldest = max(0, len(self.lines) - self.kept)
        newest = max(oldest, len(self.lines) - lines)
        start = newest if after is None else min(max(oldest, after), len(self.lines))
        return Stretch(tuple(self.lines[start : start + lines]), self.epoch, start + 1)


class Stream:
    """An upstream of a console: `say` makes a line come, `break_off` ends it, with an error or without."""

    def __init__(self, agent: Agent) -> None:
        self._send, self._receive = trio.open_memory_channel[Stretch | Exception](100)
        self.heard_at = trio.current_time()
        self.answers_pings = True
        self.numbered = False
        self.typed: list[str] = []
        self.hangs = False
        self.closed = False
        agent.streams.append(self)

    def say(self, *lines: str) -> None:
        self._send.send_nowait(Stretch(lines))

    def tell(self, stretch: Stretch) -> None:
        """Lines with their numbers."""
        self._send.send_nowait(stretch)

    def break_off(self, error: Exception | None = None) -> None:
        if error is not None:
            self._send.send_nowait(error)
        self._send.close()

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(self, *_details: object) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True

    async def ping(self) -> None:
        if self.answers_pings:
            self.heard_at = trio.current_time()

    async def __aiter__(self) -> AsyncIterator[Stretch]:
        async for item in self._receive:
            self.heard_at = trio.current_time()
            if isinstance(item, Exception):
                raise item
            yield item

    async def send_line(self, line: str) -> None:
        if self.hangs:
            await trio.sleep_forever()
        self.typed.append(line)
