"""One process of the demo: started on a leash, watched, stopped in time, its output kept in a file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from zlh.demo import leash

LOOK_SECONDS = 0.02
TAIL_LINES = 15


class PartFailedError(Exception):
    """A part did not start, or ended by itself; `tail` is the end of its log."""

    def __init__(self, name: str, reason: str, log: Path) -> None:
        super().__init__(f"{name}: {reason}")
        self.log = log
        self.tail = _tail(log)


@dataclass(frozen=True)
class PartSpec:
    """`name` is for people, `key` names the log and the process in the ready file. `ready` returns once the part can
    be used; where it is None, that is when the part printed one JSON object on a line of its own."""

    key: str
    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    ready: Callable[[], Awaitable[None]] | None = None
    start_seconds: float = 60.0
    stop_seconds: float = 10.0


class Part:
    """`said` is the JSON object that the part printed when it was ready. Linux only, as the leash is."""

    def __init__(self, spec: PartSpec, log: Path) -> None:
        self.spec = spec
        self.log = log
        self.said: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Returns when the part is ready. Raises PartFailedError; then no process is left."""
        begin = self._launch()
        ready, how = False, f"was not ready within {self.spec.start_seconds:g} s"

        async def watch(scope: trio.CancelScope) -> None:
            nonlocal how
            how = f"ended with {await self.ended()} before it was ready"
            scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                nursery.cancel_scope.deadline = trio.current_time() + self.spec.start_seconds
                nursery.start_soon(watch, nursery.cancel_scope)
                await (self.spec.ready() if self.spec.ready else self._hear(begin))
                ready = True
                nursery.cancel_scope.cancel()
        finally:
            if not ready:
                await self.stop()
        if not ready:
            raise PartFailedError(self.spec.name, how, self.log)

    def _launch(self) -> int:
        """Starts the process and returns where its output begins in the log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *self.spec.command]
        with open(self.log, "ab") as output:
            begin = output.tell()
            # From this thread: the leash is tied to the thread that forks, and those of Trio's pool come and go.
            self._process = subprocess.Popen(  # noqa: S603 - our own command line, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**clean_environment(), **self.spec.environment},
                start_new_session=True,
            )
        return begin

    async def ended(self) -> str:
        """Waits for the end of the process; says in words how it ended."""
        process = self._process
        assert process is not None
        if process.poll() is None:
            descriptor = os.pidfd_open(process.pid)
            try:
                await trio.lowlevel.wait_readable(descriptor)
            finally:
                os.close(descriptor)
        code = process.wait()
        return f"signal {-code}" if code < 0 else f"status {code}"

    async def stop(self) -> None:
        """Asks the process to end, ends it when the time is up, and with it what it may have left in its group."""
        process = self._process
        if process is None:
            return
        with trio.CancelScope(shield=True):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            with trio.move_on_after(self.spec.stop_seconds):
                await self.ended()
            _end_group(process.pid)
            await self.ended()
        self._process = None

    async def _hear(self, begin: int) -> None:
        while not (said := _json_line(self.log, begin)):  # noqa: ASYNC110 - a file tells nobody that it grew
            await trio.sleep(LOOK_SECONDS)
        self.said = said


def clean_environment() -> dict[str, str]:
    """Ours without the settings of another installation, with the way to our own sources."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ZLH_")}
    sources = str(Path(__file__).resolve().parent.parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [sources, environment.get("PYTHONPATH")]))
    return environment


def _end_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _json_line(log: Path, begin: int) -> dict[str, Any] | None:
    with open(log, "rb") as file:
        file.seek(begin)
        for line in file:
            if line.startswith(b"{") and line.endswith(b"}\n"):
                document: dict[str, Any] = json.loads(line)
                return document
    return None


def _tail(log: Path) -> list[str]:
    try:
        return log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
    except FileNotFoundError:
        return []
