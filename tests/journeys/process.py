"""A demo as a process of its own, found and ended as a user would, and the processes that it left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
UP_SECONDS, END_SECONDS = 90.0, 40.0
AT_ONCE = 6.0
"""What is to take a second, and some more for a busy machine."""


class DemoProcess:
    """`python -m zlh.demo` on `folder`. Its output is in `output`, what it announced in `ready`."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.ready_file = folder.with_name(folder.name + ".ready.json")
        self.output = folder.with_name(folder.name + ".out")
        words = ["--data-dir", str(folder), "--port", "0", "--quick", "--ready-file", str(self.ready_file)]
        with open(self.output, "w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "zlh.demo", *words, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                start_new_session=True,
            )

    @property
    def ready(self) -> dict[str, Any]:
        """As it is now: a part that was started again has another pid."""
        document: dict[str, Any] = json.loads(self.ready_file.read_text())
        return document

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + UP_SECONDS
        while not self.ready_file.exists():
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> int:
        """Sends the signal, waits for the end, returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(END_SECONDS)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def left(self) -> list[str]:
        """The processes that have to do with the folder: it is in their command line, or they work in it."""
        return [f"{pid} {words}" for pid, words in _processes() if self._is_ours(pid, words)]

    def _is_ours(self, pid: int, words: str) -> bool:
        try:
            place = os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            place = ""
        return str(self.folder) in words or place.startswith(str(self.folder))

    def wait_until_nothing_is_left(self) -> None:
        deadline = time.monotonic() + END_SECONDS
        while self.left():
            assert time.monotonic() < deadline, self.left()
            time.sleep(0.05)


def _processes() -> list[tuple[int, str]]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes()
            except OSError:
                continue
            found.append((int(entry), words.replace(b"\0", b" ").decode(errors="replace")))
    return found
