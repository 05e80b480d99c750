"""Installed mods: a list in the agent's directory, and a small shop to search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from zlh.simulators.agent.http import Refusal

SOURCES = ("modrinth", "curseforge", "url")
SHOP = tuple(
    {"id": name.lower().replace(" ", "-"), "name": name, "version": version, "source": source}
    for name, version, source in (
        ("Sodium", "0.6.13", "modrinth"),
        ("Lithium", "0.15.0", "modrinth"),
        ("Simple Voice Chat", "2.5.30", "modrinth"),
        ("Just Enough Items", "19.21.0", "curseforge"),
        ("BlueMap", "5.7", "modrinth"),
    )
)


class Mods:
    def __init__(self, directory: Path) -> None:
        self._path = directory / "mods.json"

    def all(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        found: list[dict[str, Any]] = orjson.loads(self._path.read_bytes())
        return found

    def _save(self, mods: list[dict[str, Any]]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_bytes(orjson.dumps(mods))

    def search(self, query: str) -> list[dict[str, Any]]:
        return [dict(mod) for mod in SHOP if query.lower() in mod["name"].lower()]

    def add(self, wish: dict[str, Any]) -> str:
        """Installs at once; returns the id."""
        source = wish.get("source")
        named = wish.get("url" if source == "url" else "id")
        if source not in SOURCES or not isinstance(named, str) or not named:
            raise Refusal(400, "a mod has a `source` (modrinth, curseforge, url) and an `id` or `url`")
        mod_id = named.rsplit("/", 1)[-1].removesuffix(".jar")
        known = next((mod for mod in SHOP if mod["id"] == mod_id and mod["source"] == source), None)
        if known is None and source != "url":
            raise Refusal(404, f"{source} has no mod {mod_id}")
        if any(mod["id"] == mod_id for mod in self.all()):
            raise Refusal(409, f"{mod_id} is installed already")
        name = known["name"] if known else mod_id
        version = wish.get("version") or (known["version"] if known else "unknown")
        mod = {"id": mod_id, "name": name, "version": version, "enabled": True, "source": source}
        self._save([*self.all(), mod])
        return mod_id

    def updates(self) -> list[dict[str, Any]]:
        """Of what is installed and on sale in another version."""
        latest = {(mod["id"], mod["source"]): mod["version"] for mod in SHOP}
        return [
            {"id": mod["id"], "current": mod["version"], "latest": known}
            for mod in self.all()
            if (known := latest.get((mod["id"], mod["source"]))) not in (None, mod["version"])
        ]

    def change(self, mod_id: str, wish: dict[str, Any]) -> dict[str, Any]:
        """`enabled`, `version`, or both."""
        known = {"enabled": bool, "version": str}
        changes = {name: wish[name] for name in known if name in wish}
        if not changes or any(not isinstance(value, known[name]) for name, value in changes.items()):
            raise Refusal(400, "neither `enabled` (true or false) nor `version` (text)")
        mods = self.all()
        mod = _find(mods, mod_id)
        mod.update(changes)
        self._save(mods)
        return mod

    def remove(self, mod_id: str) -> None:
        mods = self.all()
        mods.remove(_find(mods, mod_id))
        self._save(mods)


def _find(mods: list[dict[str, Any]], mod_id: str) -> dict[str, Any]:
    for mod in mods:
        if mod["id"] == mod_id:
            return mod
    raise Refusal(404, f"no mod {mod_id}")
