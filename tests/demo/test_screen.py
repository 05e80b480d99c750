from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from zlh.demo.screen import Mark, Screen
from zlh.demo.timeline import Timeline


def screen_of(*, terminal: bool, width: int = 100) -> tuple[Screen, io.StringIO]:
    out = io.StringIO()
    return Screen(Console(file=out, force_terminal=terminal, width=width, highlight=False)), out


def test_elsewhere_than_on_a_terminal_everything_that_ended_is_one_line() -> None:
    screen, out = screen_of(terminal=False)
    with pytest.raises(ValueError, match="no disk"), screen.checklist() as checklist:
        with checklist.row("first") as row:
            row.note = "all [well]"
        with checklist.row("second"):
            raise ValueError("no disk")
    first, second = out.getvalue().splitlines()
    assert first.split() == ["ok", "0.0", "s", "first", "(all", "[well])"]
    assert second.split() == ["FAILED", "0.0", "s", "second", "(no", "disk)"]
    assert [row.mark for row in checklist.rows] == [Mark.DONE, Mark.FAILED]


def test_a_terminal_keeps_the_last_picture() -> None:
    screen, out = screen_of(terminal=True)
    with screen.checklist() as checklist, checklist.row("first") as row:
        row.note = "well"
    assert "✓" in out.getvalue()
    assert "well" in out.getvalue()


def test_long_lines_are_not_broken() -> None:
    screen, out = screen_of(terminal=False, width=20)
    screen.verbatim("curl -s http://127.0.0.1:8080/api/servers | [x]")
    screen.say("a sentence that is longer than the screen is wide")
    assert len(out.getvalue().splitlines()) == 2


def operation(state: str, *steps: str) -> dict[str, Any]:
    ended = "2026-03-01T12:00:01.500Z"
    listed = [
        {
            "name": name,
            "state": "done" if index + 1 < len(steps) or state == "succeeded" else "started",
            "startedAt": "2026-03-01T12:00:00.000Z",
            "endedAt": ended if index + 1 < len(steps) or state == "succeeded" else None,
            "error": None,
            "note": "pve1",
        }
        for index, name in enumerate(steps)
    ]
    return {"vmid": 5000, "state": state, "queued": False, "steps": listed}


def test_a_step_is_told_once_and_when_it_ended() -> None:
    screen, out = screen_of(terminal=False)
    timeline = Timeline(screen, ["game"])
    timeline.update("game", operation("running", "clone", "start"))
    timeline.update("game", operation("running", "clone", "start"))
    timeline.update("game", operation("succeeded", "clone", "start"))
    assert out.getvalue().splitlines() == [
        "  ok        1.5 s  game: clone the template  (pve1)",
        "  ok        1.5 s  game: start the container  (pve1)",
    ]


def test_operations_stand_side_by_side_in_the_given_order() -> None:
    screen, out = screen_of(terminal=True)
    timeline = Timeline(screen, ["game", "dev"])
    timeline.update("dev", operation("running", "clone"))
    timeline.update("game", operation("running", "clone"))
    screen.say(timeline)
    head = out.getvalue().splitlines()[0]
    assert head.index("game") < head.index("dev")
