from __future__ import annotations

from pathlib import Path

import pytest

from zlh.demo.options import DATA_DIR, parse


def test_the_usual_run() -> None:
    options = parse([])
    assert (options.data_dir, options.port, options.once, options.quick) == (DATA_DIR, None, False, False)


def test_once_is_quick_on_a_free_port_in_a_folder_of_its_own() -> None:
    options = parse(["--once"])
    assert (options.data_dir, options.port, options.quick) == (None, 0, True)
    assert parse(["--once", "--data-dir", "x", "--port", "81"]).data_dir == Path("x")
    assert parse(["--once", "--port", "81"]).port == 81


@pytest.mark.parametrize(
    "arguments",
    [["--port", "65536"], ["--port", "-1"], ["--fleet", "many"], ["--once", "--ready-file", "f"], ["extra"]],
)
def test_wrong_arguments_end_with_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err
