"""An installation of one's own: settings in the environment, commands as processes, and an API that runs."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import trio

from tests.plain import PLAIN
from tests.stack import end, free_port
from zlh import logs
from zlh.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
UP_SECONDS = 40.0


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Installation:
    """`database_url` "" means the embedded one in `folder`. Passwords cost nothing to check, and nobody is at the
    address of Proxmox."""

    def __init__(self, folder: Path, database_url: str = "") -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ZLH_")},
            "PYTHONPATH": str(ROOT),
            "ZLH_SERVER_PORT": str(self.port),
            "ZLH_DATABASE_URL": database_url,
            "ZLH_DATABASE_DATA_DIR": str(folder),
            "ZLH_ACCOUNTS_ARGON2_MEMORY_MIB": "1",
            "ZLH_ACCOUNTS_ARGON2_PASSES": "1",
            "ZLH_PROXMOX_URL": "https://127.0.0.1:1",
            "ZLH_PROXMOX_TOKEN_ID": "zlh@pve!control",
            "ZLH_PROXMOX_TOKEN_SECRET": "none",
        }

    def zlh(self, *words: str, **environment: str) -> Said:
        """`zlh <words>`, to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "zlh", *words],
            capture_output=True,
            text=True,
            env=self.environment | environment,
            cwd=ROOT,
            timeout=60,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def here(self, *words: str, **environment: str) -> Said:
        """The same in this process, which is a lot quicker; not in a thread where Trio runs."""
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self.environment | environment, clear=True),
            mock.patch.object(logs, "configure"),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                status = main(words)
            except SystemExit as end:  # argparse's way to refuse
                status = int(end.code or 0)
        return Said(status, out.getvalue(), err.getvalue())

    async def told(self, *words: str, **environment: str) -> Said:
        """As `here`, while other tasks go on: one command at a time."""
        return await trio.to_thread.run_sync(lambda: self.here(*words, **environment))

    @asynccontextmanager
    async def serving(self, log: Path) -> AsyncIterator[httpx.AsyncClient]:
        """`zlh serve` for as long as the block lasts, and a client of it."""
        process = self._serve(log)
        try:
            async with httpx.AsyncClient(base_url=self.url, timeout=10, trust_env=False, verify=PLAIN) as client:
                await self._up(client, process, log)
                yield client
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(end, process)

    def _serve(self, log: Path) -> subprocess.Popen[bytes]:
        with open(log, "w") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "zlh", "serve"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=ROOT,
            )

    async def _up(self, client: httpx.AsyncClient, process: subprocess.Popen[bytes], log: Path) -> None:
        with trio.move_on_after(UP_SECONDS):
            while process.poll() is None:
                try:
                    await client.get("/api/health")
                except httpx.TransportError:
                    await trio.sleep(0.05)
                else:
                    return
        raise AssertionError(await trio.Path(log).read_text())
