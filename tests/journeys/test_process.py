"""The demo as a program: it finds what it left, leaves nothing running, and says what is wrong."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.journeys.process import ROOT, DemoProcess


def test_once_walks_the_whole_journey(demo_folder: Path) -> None:
    words = [sys.executable, "-m", "zlh.demo", "--once", "--data-dir", str(demo_folder / "once")]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all well" in done.stdout
    assert "FAILED" not in done.stdout


def test_a_second_run_finds_the_same_and_no_process_is_left(demo_folder: Path) -> None:
    folder = demo_folder / "again"
    first = DemoProcess(folder)
    try:
        first.wait_until_up()
        before = first.ready
        second = subprocess.run(
            [sys.executable, "-m", "zlh.demo", "--data-dir", str(folder)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
        )
        assert second.returncode == 1
        assert "a demo is running" in second.stdout
        assert len(first.left()) >= 5
        assert first.signal(signal.SIGINT) == 0
        assert first.left() == []
        assert not first.ready_file.exists()
    finally:
        first.close()
    again = DemoProcess(folder)
    try:
        again.wait_until_up()
        assert again.ready["vmids"] == before["vmids"]
        assert again.ready["users"] == before["users"]
        assert "found: Minecraft server" in again.output.read_text()
        again.signal(signal.SIGKILL)
        again.wait_until_nothing_is_left()
    finally:
        again.close()


def test_a_part_that_does_not_start_is_named(demo_folder: Path) -> None:
    folder = demo_folder / "broken"
    with socket.socket() as taken:
        taken.bind(("127.31.0.2", 8006))
        taken.listen()
        folder.mkdir()
        kept = dict.fromkeys(
            ("customer_password", "operator_password", "friend_password", "fleet_password"), "secret-word"
        )
        kept |= {"bootstrap_token": "t", "proxmox_secret": "00000000-0000-0000-0000-000000000000"}
        (folder / "demo.json").write_text(json.dumps({**kept, "block": 31, "port": 0}))
        broken = DemoProcess(folder)
        assert broken.process.wait(60) == 1
    said = broken.output.read_text()
    assert "Proxmox VE, two nodes (simulated): ended with status 1 before it was ready" in said
    assert "address already in use" in said
    assert broken.left() == []
