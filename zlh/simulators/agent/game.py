"""Playing the game: as a real child process, or in this process for fleets of thousands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import trio

from zlh.simulators.agent import child

REAP_SECONDS = 1.0


class Play(Protocol):
    """One run of the game, from its start to its end."""

    async def run(self, on_line: Callable[[str], None]) -> int:
        """Plays until the end, telling each console line; returns the exit code. Cancelled, it kills the game."""

    def send(self, line: str) -> None:
        """A console command; dropped where the game does not read."""

    def kill(self) -> None: ...


class ProcessPlay:
    """The game as a child process: its standard input and output are the console, and players reach it at `listen`
    (an address and a TCP port, 0 for none)."""

    def __init__(self, root: Path, start_seconds: float, chatter_seconds: float, *, listen: tuple[str, int]) -> None:
        self._root = root
        words = (start_seconds, chatter_seconds, *listen)
        # Neither the user's site packages nor the environment: the child starts in some 15 ms.
        self._command = [sys.executable, "-I", "-S", child.__file__, *map(str, words)]
        self._process: trio.Process | None = None
        self._killed = False
        self._commands, self._to_write = trio.open_memory_channel[bytes](256)

    async def run(self, on_line: Callable[[str], None]) -> int:
        open_process = partial(
            trio.lowlevel.open_process, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        process = self._process = await open_process(self._command, cwd=self._root)
        if self._killed:
            process.kill()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, process)
                await self._read(process, on_line)
                nursery.cancel_scope.cancel()
            return await process.wait()
        finally:
            await self._end(process)

    async def _read(self, process: trio.Process, on_line: Callable[[str], None]) -> None:
        assert process.stdout is not None
        pending = b""
        async for data in process.stdout:
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                on_line(line.decode(errors="replace"))

    async def _write(self, process: trio.Process) -> None:
        assert process.stdin is not None
        async for line in self._to_write:
            try:
                await process.stdin.send_all(line)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    async def _end(self, process: trio.Process) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + REAP_SECONDS):
            if process.returncode is None:
                process.kill()
            await process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    await pipe.aclose()

    def send(self, line: str) -> None:
        try:
            self._commands.send_nowait(line.encode() + b"\n")
        except trio.WouldBlock:
            return

    def kill(self) -> None:
        self._killed = True
        if self._process is not None:
            self._process.kill()


class LightPlay:
    """The game without a process: the same answers, no chatter."""

    def __init__(self, start_seconds: float) -> None:
        self._start_seconds = start_seconds
        self._game = child.Game()
        self._ended = trio.Event()
        self._on_line: Callable[[str], None] | None = None

    async def run(self, on_line: Callable[[str], None]) -> int:
        self._on_line = on_line
        first, second, ready = child.startup(self._start_seconds)
        on_line(child.stamp(first))
        on_line(child.stamp(second))
        with trio.move_on_after(self._start_seconds):
            await self._ended.wait()
        if not self._ended.is_set():
            on_line(child.stamp(ready))
        await self._ended.wait()
        return self._game.exit_code or 0

    def send(self, line: str) -> None:
        if self._ended.is_set():
            return
        for text in self._game.answer(line):
            if self._on_line is not None:
                self._on_line(child.stamp(text))
        if self._game.exit_code is not None:
            self._ended.set()

    def kill(self) -> None:
        self._game.exit_code = -9
        self._ended.set()
