"""Other processes: started, read for their first word, measured, and ended with the block."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used until now; `cpu` in seconds, user and system, all threads."""

    cpu: float
    rss_bytes: int


def usage(pid: int) -> Usage:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return Usage(cpu, pages * os.sysconf("SC_PAGE_SIZE"))


def most_memory(pid: int) -> int:
    """The most bytes that the process ever had in memory."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Ours, without any setting of the product that somebody may have exported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZLH_")}
    return {**kept, **settings}


@asynccontextmanager
async def program(
    module: str, *arguments: object, log: Path, settings: Mapping[str, str] | None = None
) -> AsyncIterator[trio.Process]:
    """`python -m module` from the project's root. Ends it with SIGTERM, and with SIGKILL where that does not help."""
    with log.open("ab") as errors:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", module, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            env=environment(settings or {}),
        )
    try:
        yield process
    finally:
        with trio.CancelScope(shield=True):
            await _end(process)


async def _end(process: trio.Process) -> None:
    if process.returncode is None:
        process.terminate()
    with trio.move_on_after(STOP_SECONDS):
        await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            await pipe.aclose()


async def first_word(process: trio.Process) -> dict[str, Any]:
    """The JSON line by which a program says that it is ready."""
    assert process.stdout is not None
    text = b""
    with trio.fail_after(START_SECONDS):
        while not text.endswith(b"\n"):
            chunk = await process.stdout.receive_some()
            if not chunk:
                raise RuntimeError(f"process {process.pid} ended before it was ready ({await process.wait()})")
            text += chunk
    said: dict[str, Any] = json.loads(text)
    return said


@dataclass
class Answers:
    """A program that answers each line of JSON with another, the same one for as long as it runs."""

    process: trio.Process

    async def tell(self, order: Mapping[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        await self.process.stdin.send_all(json.dumps(order).encode() + b"\n")
        return await first_word(self.process)


async def result_of(module: str, order: Mapping[str, Any]) -> dict[str, Any]:
    """Runs a program that takes one JSON object and answers with one. Raises CalledProcessError."""
    run = partial(
        trio.run_process,
        [sys.executable, "-m", module],
        stdin=json.dumps(order).encode(),
        capture_stdout=True,
        cwd=ROOT,
        env=environment({}),
    )
    answer: dict[str, Any] = json.loads((await run()).stdout)
    return answer
