"""What the journeys with a real browser share: when they can be made, how the browser starts, who sits at it."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from typing import Any

import httpx
import pytest

from tests.journeys.process import DemoProcess
from tests.plain import PLAIN

CHROMIUM = shutil.which("chromium")
MISSING = [name for name in ("jupyterlab", "playwright") if find_spec(name) is None]

NEEDED = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install --no-install-recommends chromium"),
    pytest.mark.skipif(bool(MISSING), reason=f"no {' and no '.join(MISSING)}: ./dev browser"),
]

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_SECONDS = 60.0
AT_ONCE_SECONDS = 5.0
"""For what is to happen within a second, on a machine that has other things to do."""


class Person:
    """Somebody of the demo in a session of their own; `who` is "customer" for the dev container's owner."""

    def __init__(self, demo: DemoProcess, who: str = "customer") -> None:
        ready = demo.ready
        self.vmid: int = ready["vmids"]["dev"]
        self._http = httpx.Client(base_url=ready["url"], timeout=30, trust_env=False, verify=PLAIN)
        token = self.post("/api/auth/login", ready["users"][who])["token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def get(self, path: str) -> dict[str, Any]:
        return self._checked(self._http.get(path))

    def post(self, path: str, body: object = None) -> dict[str, Any]:
        return self._checked(self._http.post(path, json=body))

    def patch(self, path: str, body: object) -> dict[str, Any]:
        return self._checked(self._http.patch(path, json=body))

    def delete(self, path: str) -> dict[str, Any]:
        return self._checked(self._http.delete(path))

    def close(self) -> None:
        self._http.close()

    @property
    def address(self) -> str:
        """Of the dev container, as everything behind the proxy knows it."""
        (row,) = (row for row in self.get("/api/instances")["rows"] if row["vmid"] == self.vmid)
        address: str = row["ip"]
        return address

    def way_in(self, path: str = "lab?reset") -> str:
        """The address that opens the IDE, once, at that path; by itself with nothing open in it."""
        url = str(self.post(f"/api/dev/{self.vmid}/ide-token")["url"])
        place, token = url.split("?")
        return f"{place}{path}{'&' if '?' in path else '?'}{token}"

    def _checked(self, answer: httpx.Response) -> dict[str, Any]:
        assert answer.is_success, answer.text
        document: dict[str, Any] = answer.json() if answer.content else {}
        return document
