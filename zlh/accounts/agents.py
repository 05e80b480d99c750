"""What a browser or program calls itself, cut down to what somebody would call it."""

from __future__ import annotations

import re
from typing import Final

# Nearly all of them also claim to be the ones after them.
_BROWSERS: Final = (
    ("Edg", "Edge"),
    ("OPR", "Opera"),
    ("Firefox", "Firefox"),
    ("FxiOS", "Firefox"),
    ("Chrome", "Chrome"),
    ("CriOS", "Chrome"),
    ("Safari", "Safari"),
)
_SYSTEMS: Final = ("Android", "iPhone", "iPad", "Windows", "Mac OS X", "CrOS", "Linux")
_PRODUCT = re.compile(r"[A-Za-z][\w.+-]*")


def agent_family(agent: str) -> str:
    """Without versions, so that an update is not somebody new: "Firefox on Linux" of a browser's User-Agent, "curl"
    of "curl/8.9"; "" for what names nothing."""
    if not agent.startswith("Mozilla/"):
        product = _PRODUCT.match(agent)
        return product[0] if product else ""
    browser = next((name for mark, name in _BROWSERS if mark in agent), "a browser")
    system = next((name for name in _SYSTEMS if name in agent), "")
    return f"{browser} on {system}" if system else browser
