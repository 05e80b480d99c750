"""APIs that die where they are told to, forked from one process that has imported everything already.

    python -m tests.faults.mortal

reads one JSON object a line from standard input: {"environment", "config", "plan", "log"}, where `plan` is the file
that `Points` reads; answers each with {"pid"} and, when that child has ended, {"pid", "status"} (negative: the
signal). They end with its input.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import traceback
from pathlib import Path
from typing import Any

import httpcore  # noqa: F401 - httpx would import it with its first client, in every child anew: 50 ms

from tests.faults import plants
from tests.faults.points import Points
from zlh import __main__ as program

PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    children: set[int] = set()
    pending = b""
    while True:
        readable, _, _ = select.select([0], [], [], 0.02)
        if readable:
            read = os.read(0, 65536)
            if not read:
                break
            *lines, pending = (pending + read).split(b"\n")
            for line in lines:
                children.add(_fork(json.loads(line)))
        for pid in tuple(children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                children.discard(pid)
                _say({"pid": pid, "status": os.waitstatus_to_exitcode(status)})
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _fork(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        _child(order)
    _say({"pid": pid})
    return pid


def _child(order: dict[str, Any]) -> None:
    # However the parent ends, no API stays behind.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(order["environment"])
    Points(Path(order["plan"])).arm()
    if plants.FILE in os.environ:
        plants.trip_over_one_agent()
    status = 70
    try:
        status = program.main(["--config", str(Path(order["config"])), "serve"])
    except BaseException:  # noqa: BLE001 - printed, and the process ends
        traceback.print_exc()
    finally:
        # A forked child must never return into the parent's loop.
        os._exit(status)


def _say(answer: dict[str, Any]) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
