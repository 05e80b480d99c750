from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import trio

from zlh.demo.part import Part, PartFailedError, PartSpec, clean_environment

READY = "import time; print('{\"port\": 7}', flush=True); time.sleep(60)"


def part(tmp_path: Path, source: str, *, start_seconds: float = 60.0, stop_seconds: float = 10.0) -> Part:
    command = (sys.executable, "-c", source)
    spec = PartSpec("part", "the part", command, start_seconds=start_seconds, stop_seconds=stop_seconds)
    return Part(spec, tmp_path / "part.log")


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_it_runs_in_a_group_of_its_own_until_it_is_stopped(tmp_path: Path) -> None:
    one = part(tmp_path, READY)
    await one.start()
    assert one.said == {"port": 7}
    pid = one.pid
    assert os.getpgid(pid) == pid
    await one.stop()
    assert not alive(pid)
    await one.stop()


async def test_one_that_ends_early_is_told_with_its_last_words(tmp_path: Path) -> None:
    one = part(tmp_path, "import sys; sys.exit('no licence')")
    with pytest.raises(PartFailedError, match="the part: ended with status 1 before it was ready") as failed:
        await one.start()
    assert failed.value.tail == ["no licence"]


async def test_one_that_is_never_ready_is_stopped(tmp_path: Path) -> None:
    one = part(tmp_path, "import time; print('hello', flush=True); time.sleep(60)", start_seconds=0.5)
    with pytest.raises(PartFailedError, match=r"not ready within 0\.5 s"):
        await one.start()
    assert one.log.read_text() == "hello\n"


async def test_one_that_does_not_listen_is_ended_with_what_it_started(tmp_path: Path) -> None:
    source = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print('{\"child\": %d}' % child.pid, flush=True); time.sleep(60)"
    )
    one = part(tmp_path, source, stop_seconds=0.3)
    await one.start()
    pid, child = one.pid, one.said["child"]
    await one.stop()
    assert not alive(pid)
    with trio.fail_after(5):
        # Nobody but init waits for a grandchild: it may be seen as a zombie for a moment.
        while alive(child) and "zombie" not in Path(f"/proc/{child}/status").read_text():  # noqa: ASYNC110, ASYNC240
            await trio.sleep(0.01)


async def test_started_again_it_is_heard_anew(tmp_path: Path) -> None:
    one = part(tmp_path, "import os, time; print('{\"pid\": %d}' % os.getpid(), flush=True); time.sleep(60)")
    await one.start()
    before = one.said["pid"]
    os.kill(before, 9)
    assert await one.ended() == "signal 9"
    await one.start()
    assert one.said["pid"] == one.pid != before
    await one.stop()


def test_settings_of_another_installation_stay_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZLH_SERVER_PORT", "1")
    assert "ZLH_SERVER_PORT" not in clean_environment()
