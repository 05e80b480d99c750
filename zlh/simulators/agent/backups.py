"""Backups of the container's files: real archives beside its directory."""

from __future__ import annotations

import secrets
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import trio

from zlh.simulators.agent.files import pack, stream_file, unpack
from zlh.simulators.agent.http import Refusal, Response


class Backups:
    def __init__(self, directory: Path, root: Path, nursery: trio.Nursery) -> None:
        self._directory = directory / "backups"
        self._index = self._directory / "index.json"
        self._root = root
        self._nursery = nursery

    def all(self) -> list[dict[str, Any]]:
        if not self._index.exists():
            return []
        found: list[dict[str, Any]] = orjson.loads(self._index.read_bytes())
        return found

    def _save(self, backups: list[dict[str, Any]]) -> None:
        self._index.write_bytes(orjson.dumps(backups))

    def _change(self, backup_id: str, **values: Any) -> None:
        backups = self.all()
        _find(backups, backup_id).update(values)
        self._save(backups)

    def _archive(self, backup_id: str) -> Path:
        return self._directory / f"{backup_id}.tar.gz"

    def create(self, name: object) -> str:
        """Begins one; it is `ready` when its archive is whole."""
        if name is not None and not isinstance(name, str):
            raise Refusal(400, "`name` is not text")
        self._directory.mkdir(parents=True, exist_ok=True)
        backup_id = secrets.token_hex(6)
        at = datetime.now(UTC)
        entry = {
            "id": backup_id,
            "name": name or at.strftime("backup %Y-%m-%d %H:%M"),
            "createdAt": at.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "sizeBytes": 0,
            "state": "creating",
            "locked": False,
        }
        self._save([*self.all(), entry])
        self._nursery.start_soon(self._create, backup_id)
        return backup_id

    async def _create(self, backup_id: str) -> None:
        archive = self._archive(backup_id)
        try:
            await trio.to_thread.run_sync(pack, [self._root], archive, self._root)
        except OSError:
            self._change(backup_id, state="failed")
            return
        self._change(backup_id, state="ready", sizeBytes=archive.stat().st_size)

    async def restore(self, backup_id: str) -> None:
        """Replaces the files. The caller sees to it that the game does not run."""
        archive = self._ready(backup_id)
        await trio.to_thread.run_sync(shutil.rmtree, self._root)
        await trio.to_thread.run_sync(unpack, archive, self._root)

    def delete(self, backup_id: str) -> None:
        backups = self.all()
        backup = _find(backups, backup_id)
        if backup["locked"]:
            raise Refusal(409, "the backup is locked")
        backups.remove(backup)
        self._save(backups)
        self._archive(backup_id).unlink(missing_ok=True)

    def download(self, backup_id: str, wanted: str | None) -> Response:
        return stream_file(self._ready(backup_id), wanted)

    def _ready(self, backup_id: str) -> Path:
        if _find(self.all(), backup_id)["state"] != "ready":
            raise Refusal(409, "the backup is not ready")
        return self._archive(backup_id)


def _find(backups: list[dict[str, Any]], backup_id: str) -> dict[str, Any]:
    for backup in backups:
        if backup["id"] == backup_id:
            return backup
    raise Refusal(404, f"no backup {backup_id}")
