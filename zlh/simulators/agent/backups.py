"""Backups of the container's files: real archives beside its directory."""

from __future__ import annotations

import os
import secrets
import shutil
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import trio

from zlh.simulators.agent.faults import FaultName, Faults
from zlh.simulators.agent.files import pack, stream_file, unpack
from zlh.simulators.agent.http import Refusal, Response

LONGEST_NAME = 200


class Backups:
    """`seconds` is how long a restore takes at least. What an agent that ends leaves half done is taken up by
    `resume`: a backup has failed then, a restore is done again from the start."""

    def __init__(self, directory: Path, root: Path, nursery: trio.Nursery, faults: Faults, seconds: float) -> None:
        self._directory = directory / "backups"
        self._index = self._directory / "index.json"
        self._note = self._directory / "restore.json"
        self._root = root
        self._fresh = root.parent / "server.restoring"
        self._former = root.parent / "server.former"
        self._nursery = nursery
        self._faults = faults
        self._seconds = seconds

    def resume(self) -> None:
        for backup in self.all():
            if backup["state"] == "creating":
                self._change(backup["id"], state="failed", error="the agent was restarted meanwhile")
        if self.restoring:
            self._nursery.start_soon(self._restore)

    def all(self) -> list[dict[str, Any]]:
        if not self._index.exists():
            return []
        found: list[dict[str, Any]] = orjson.loads(self._index.read_bytes())
        return found

    @property
    def last_restore(self) -> dict[str, Any] | None:
        """The one under way, or the last one."""
        if not self._note.exists():
            return None
        noted: dict[str, Any] = orjson.loads(self._note.read_bytes())
        return noted

    @property
    def restoring(self) -> bool:
        noted = self.last_restore
        return noted is not None and noted["state"] == "restoring"

    def create(self, wish: dict[str, Any]) -> str:
        """Begins one; it is `ready` when its archive is whole."""
        name = _name(wish)
        if self.restoring:
            raise Refusal(409, "a backup is being restored")
        self._directory.mkdir(parents=True, exist_ok=True)
        backup_id = secrets.token_hex(6)
        at = datetime.now(UTC)
        entry = {
            "id": backup_id,
            "name": name or at.strftime("backup %Y-%m-%d %H:%M"),
            "createdAt": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
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
            if self._faults.get(FaultName.BACKUP_FAILS):
                raise OSError("no space left on device")
            await trio.to_thread.run_sync(pack, [self._root], archive, self._root)
        except OSError as error:
            archive.unlink(missing_ok=True)
            self._change(backup_id, state="failed", error=error.strerror or str(error))
            return
        self._change(backup_id, state="ready", sizeBytes=archive.stat().st_size)

    def change(self, backup_id: str, wish: dict[str, Any]) -> dict[str, Any]:
        """Another name, locked or not."""
        _find(self.all(), backup_id)
        changes: dict[str, Any] = {}
        if wish.get("name") is not None:
            changes["name"] = _name(wish)
        if wish.get("locked") is not None:
            if not isinstance(wish["locked"], bool):
                raise Refusal(400, "`locked` is not true or false")
            changes["locked"] = wish["locked"]
        return self._change(backup_id, **changes)

    def delete(self, backup_id: str) -> None:
        backups = self.all()
        backup = _find(backups, backup_id)
        if backup["locked"]:
            raise Refusal(409, "the backup is locked")
        if backup["state"] == "creating":
            raise Refusal(409, "the backup is still being made")
        noted = self.last_restore
        if self.restoring and noted is not None and noted["backup"] == backup_id:
            raise Refusal(409, "the backup is being restored")
        backups.remove(backup)
        self._save(backups)
        self._archive(backup_id).unlink(missing_ok=True)

    def restore(self, backup_id: str, wish: dict[str, Any]) -> None:
        """Begins to replace the files; asked again with the same key, it goes on with what it began. The caller sees
        to it that the game does not run."""
        key = wish.get("key", "")
        if not isinstance(key, str):
            raise Refusal(400, "`key` is not text")
        self._ready(backup_id)
        noted = self.last_restore
        if key and noted is not None and noted["key"] == key:
            return
        if self.restoring:
            raise Refusal(409, "a backup is being restored")
        self._note_restore({"backup": backup_id, "key": key, "state": "restoring"})
        self._nursery.start_soon(self._restore)

    async def _restore(self) -> None:
        noted = self.last_restore
        assert noted is not None
        await trio.sleep(self._seconds)
        await self._faults.wait(FaultName.RESTORE_HANGS, present=False)
        try:
            if self._faults.get(FaultName.RESTORE_FAILS):
                raise OSError("the archive is damaged")
            await trio.to_thread.run_sync(self._replace, self._archive(noted["backup"]))
        except (OSError, tarfile.TarError) as error:
            self._note_restore({**noted, "state": "failed", "error": str(error)})
            return
        self._note_restore({**noted, "state": "done"})

    def _replace(self, archive: Path) -> None:
        """All or nothing: unpacked beside the files, then put in their place."""
        if not self._root.exists() and self._former.exists():
            os.replace(self._former, self._root)
        for left in (self._fresh, self._former):
            shutil.rmtree(left, ignore_errors=True)
        unpack(archive, self._fresh)
        if self._root.exists():
            os.replace(self._root, self._former)
        os.replace(self._fresh, self._root)
        shutil.rmtree(self._former, ignore_errors=True)

    def download(self, backup_id: str, wanted: str | None) -> Response:
        return stream_file(self._ready(backup_id), wanted)

    def _ready(self, backup_id: str) -> Path:
        if _find(self.all(), backup_id)["state"] != "ready":
            raise Refusal(409, "the backup is not ready")
        return self._archive(backup_id)

    def _archive(self, backup_id: str) -> Path:
        return self._directory / f"{backup_id}.tar.gz"

    def _change(self, backup_id: str, **values: Any) -> dict[str, Any]:
        backups = self.all()
        backup = _find(backups, backup_id)
        backup.update(values)
        self._save(backups)
        return backup

    def _save(self, backups: list[dict[str, Any]]) -> None:
        _write(self._index, backups)

    def _note_restore(self, noted: dict[str, Any]) -> None:
        _write(self._note, noted)


def _write(path: Path, value: Any) -> None:
    """Whole or not at all."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(orjson.dumps(value))
    os.replace(fresh, path)


def _find(backups: list[dict[str, Any]], backup_id: str) -> dict[str, Any]:
    for backup in backups:
        if backup["id"] == backup_id:
            return backup
    raise Refusal(404, f"no backup {backup_id}")


def _name(wish: dict[str, Any]) -> str | None:
    name = wish.get("name")
    if name is not None and (not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME):
        raise Refusal(400, f"`name` is not text of up to {LONGEST_NAME} characters")
    return name
