"""A gateway in a process of its own, to measure what an attack costs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import trio

ROOT = Path(__file__).resolve().parents[2]


class ServerProcess:
    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._buffer = b""
        self.port = 0

    async def read(self) -> Any:
        assert self._process.stdout is not None
        with trio.fail_after(30):
            while b"\n" not in self._buffer:
                data = await self._process.stdout.receive_some(65536)
                assert data, "the server process ended"
                self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    async def stats(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        await self._process.stdin.send_all(b"stats\n")
        answer = await self.read()
        assert isinstance(answer, dict)
        return answer

    def memory(self) -> float:
        """Resident memory in MiB."""
        return float(psutil.Process(self._process.pid).memory_info().rss) / (1 << 20)

    def cpu(self) -> float:
        """CPU seconds so far."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)


@asynccontextmanager
async def server_process(**limits: float) -> AsyncIterator[ServerProcess]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "tests.gateway.server", json.dumps(limits)]
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment
    )
    try:
        server = ServerProcess(process)
        server.port = (await server.read())["port"]
        yield server
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
