from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.rfc2136.knot import Knot, KnotFarEnd


@pytest.fixture
def knot(tmp_path: Path) -> Iterator[Knot]:
    knot = Knot(tmp_path)
    knot.start()
    yield knot
    knot.stop()


@pytest.fixture
def far(knot: Knot) -> KnotFarEnd:
    return KnotFarEnd(knot)
