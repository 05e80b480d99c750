"""What an agent remembers over a restart: a small JSON file in its directory, replaced as a whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson


class Memory:
    """`token` is the one that requests must carry; `wanted` says that the game ran, or was to run, at last."""

    def __init__(self, directory: Path, bootstrap_token: str) -> None:
        self._path = directory / "state.json"
        self.token = bootstrap_token
        self.config: dict[str, Any] = {}
        self.installed = False
        self.wanted = False
        self.crash_count = 0
        self.version = "1.4.2"
        self._load()

    def _load(self) -> None:
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return
        for name, value in orjson.loads(raw).items():
            setattr(self, name, value)

    def save(self) -> None:
        names = ("token", "config", "installed", "wanted", "crash_count", "version")
        content = orjson.dumps({name: getattr(self, name) for name in names})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_bytes(content)
        os.replace(fresh, self._path)
