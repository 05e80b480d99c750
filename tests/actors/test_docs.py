"""The example in docs/actors.md does what its comments say."""

import re
from pathlib import Path

import trio
from trio.testing import MockClock

PAGE = Path(__file__).parents[2] / "docs" / "actors.md"


def test_the_example_prints_what_its_comments_say(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {"__name__": "example"}
    exec(compile(example, str(PAGE), "exec"), names)
    trio.run(names["main"], clock=MockClock(autojump_threshold=0))
    promised = re.findall(r"print\(.*\)  # (\w+)", example)
    assert capsys.readouterr().out.split() == promised
    assert len(promised) == 7
