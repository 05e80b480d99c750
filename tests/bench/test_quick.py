"""The benchmarks work: every one of them yields its figures. How good they are is nobody's business here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.__main__ import BENCHMARKS
from tests.bench.figures import Figure, at_least, at_most, quantile
from tests.bench.processes import ROOT, environment
from tests.bench.report import aim, number

SECONDS = 900


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.bench", *arguments],
        cwd=ROOT,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


@pytest.mark.faults
def test_every_benchmark_yields_its_figures(tmp_path: Path) -> None:
    """In a process of its own, because it confines itself to some of the cores."""
    done = bench("--quick", "--json", str(tmp_path / "figures.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "figures.json").read_text())
    assert set(document["figures"]) == set(BENCHMARKS)
    for name, figures in document["figures"].items():
        assert figures, name
        for figure in figures:
            assert figure["value"] is not None, figure
    assert document["machine"]["python"]


def test_help_lists_them() -> None:
    said = bench("--help").stdout
    assert all(name in said for name in BENCHMARKS)


def test_a_name_that_is_none_is_refused() -> None:
    assert bench("--only", "nonsense").returncode == 2


def test_an_aim_is_met_or_missed() -> None:
    assert Figure("rate", 1000, "1/s", at_least(1000)).met is True
    assert Figure("rate", 999, "1/s", at_least(1000)).met is False
    assert Figure("share", 34, "%", at_most(33)).met is False
    assert Figure("share", 34, "%").met is None
    assert aim(Figure("share", 34, "%", at_most(33.3))) == "≤ 33.3"


def test_numbers_show_three_digits() -> None:
    assert [number(value) for value in (0, 0.01234, 1.2345, 45.678, 999.4, 12345.6, float("nan"))] == [
        "0",
        "0.0123",
        "1.23",
        "45.7",
        "999",
        "12,346",
        "none",
    ]


def test_quantiles() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [quantile(values, share) for share in (0, 0.5, 0.99, 1)] == [1, 50, 99, 100]
    assert quantile([7], 0.99) == 7
