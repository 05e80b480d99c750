from __future__ import annotations

import pytest

from zlh.accounts.agents import agent_family

WINDOWS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
)


@pytest.mark.parametrize(
    ("agent", "family"),
    [
        (WINDOWS, "Chrome on Windows"),
        (f"{WINDOWS} Edg/140.0.0.0", "Edge on Windows"),
        (f"{WINDOWS} OPR/120.0", "Opera on Windows"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 CriOS/140.0 Safari/604.1",
            "Chrome on iPhone",
        ),
        ("Mozilla/5.0 (Linux; Android 16) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36", "Chrome on Android"),
        ("Mozilla/4.0", "a browser"),
        ("curl/8.9.1", "curl"),
        ("python-httpx/0.28", "python-httpx"),
        ("", ""),
        ("\r\n<script>", ""),
    ],
)
def test_families(agent: str, family: str) -> None:
    assert agent_family(agent) == family
