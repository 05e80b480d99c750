"""The two lock files agree: what the browser's test needs comes on top of what every test runs with."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def pins(name: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9._-]+==[^ \\]+)", (ROOT / name).read_text(), re.MULTILINE))


def test_the_browsers_lock_has_the_same_versions_and_more() -> None:
    assert len(pins("requirements.lock")) > 50
    assert pins("requirements.lock") < pins("requirements-browser.lock")
