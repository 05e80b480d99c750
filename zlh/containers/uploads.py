"""Uploads that may be continued: their rows here, their bytes with the agent, joined so that a crash between two
steps loses neither."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
import trio

from zlh.model.agent_calls import AgentAnswer, AgentCall, Feature
from zlh.model.errors import (
    AbsentError,
    AgentProblemError,
    AgentUnreachableError,
    ConflictError,
    ProblemError,
)
from zlh.model.paths import UPLOADS
from zlh.model.transfers import Upload, UploadState
from zlh.store import StoreUnavailable, uploads
from zlh.store.database import Database

log = logging.getLogger(__name__)

KEPT: Final = timedelta(hours=24)
"""After the last request that brought bytes."""
SWEEP_SECONDS: Final = 300.0
_MAX_LISTING: Final = 4 << 20
"""Bytes, as in the list of files: it is read while everybody else waits."""


class ResumableUploads:
    """Implements `zlh.model.transfers.Uploads`. `call(vmid, call)` asks an agent, as `Fleet.call` does."""

    def __init__(
        self,
        database: Database,
        call: Callable[[int, AgentCall], Awaitable[AgentAnswer]],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._call = call
        self._now = now

    async def begin(self, vmid: int, path: str, length: int) -> Upload:
        # Asked now, because the answer would come after the last byte otherwise.
        folder, _, name = path.rpartition("/")
        there = (await self._entries(vmid, folder)).get(name)
        if there is not None and there.get("type") == "directory":
            raise ConflictError("a directory has that name", code="is_a_directory")
        upload = await self._database.run(uploads.begin, vmid, path, length, self._now() + KEPT)
        try:
            await self._make_part(upload)
        except ProblemError:
            await self._database.run(uploads.forget, upload.id)
            raise
        return upload

    async def find(self, vmid: int, upload_id: str) -> Upload:
        upload = await self._database.run(uploads.find, vmid, upload_id)
        if upload is None or upload.expires_at <= self._now():
            raise AbsentError("there is no such upload, or its time is over")
        return upload

    async def offset(self, upload: Upload) -> int:
        if upload.state is UploadState.DONE:
            return upload.length
        size = await self._arrived(upload)
        if size is None:
            if upload.state is UploadState.MOVING:
                # It was put into its place, and nobody was left to write that down.
                await self._database.run(uploads.move, upload.id, UploadState.DONE)
                return upload.length
            await self._database.run(uploads.forget, upload.id)
            raise AbsentError("what had arrived of this upload is gone; begin again")
        if size > upload.length:
            raise ConflictError("the agent has more of this upload than there is; remove it and begin again")
        if size == upload.length:
            await self.finish(upload)
        return size

    async def keep(self, upload: Upload) -> Upload:
        expires_at = self._now() + KEPT
        if not await self._database.run(uploads.keep, upload.id, expires_at):
            raise AbsentError("this upload was removed")
        return replace(upload, expires_at=expires_at)

    async def finish(self, upload: Upload) -> None:
        # Written first: a part that is missing then was moved, not lost.
        if not await self._database.run(uploads.move, upload.id, UploadState.MOVING):
            raise AbsentError("this upload was removed")
        wish = {"from": upload.part, "to": upload.path, "replace": True}
        rename = AgentCall(Feature.RESUMABLE_UPLOADS, "POST", "/files/rename", body=wish, probe="/files")
        try:
            await self._call(upload.vmid, rename)
        except AgentProblemError as problem:
            if problem.status != 404 or await self._arrived(upload) is not None:
                raise
        await self._database.run(uploads.move, upload.id, UploadState.DONE)

    async def drop(self, upload: Upload) -> None:
        if upload.state is not UploadState.DONE:
            await self._remove_part(upload)
        await self._database.run(uploads.forget, upload.id)

    async def run(self) -> None:
        """Removes what nobody came back for; runs until cancelled."""
        while True:
            try:
                await self.sweep()
            except StoreUnavailable as error:
                log.warning("expired uploads wait for the database: %s", error)
            await trio.sleep(SWEEP_SECONDS)

    async def sweep(self) -> int:
        """How many expired uploads went. Those whose agent cannot be asked now wait for the next time."""
        # Nobody need be asked of these, and they are by far the most.
        removed: int = await self._database.run(uploads.forget_done, self._now())
        while True:
            found = await self._database.run(uploads.expired, self._now())
            removed += await self._remove(found)
            if len(found) < uploads.BATCH:
                return removed

    async def _remove(self, found: list[Upload]) -> int:
        removed = 0
        for upload in found:
            try:
                await self.drop(upload)
            except StoreUnavailable:
                raise
            except ProblemError as problem:
                log.info("upload %s of container %d stays for now: %s", upload.id, upload.vmid, problem.message)
                # Others, whose agents answer, have their turn before it.
                await self._database.run(uploads.keep, upload.id, self._now() + timedelta(hours=1))
            else:
                removed += 1
        return removed

    async def _make_part(self, upload: Upload) -> None:
        """An empty file; only an agent that knows how to append makes one."""
        make = AgentCall(Feature.FILES, "POST", "/files/directory", body={"path": UPLOADS})
        try:
            await self._call(upload.vmid, make)
        except AgentProblemError as problem:
            if problem.status != 409:
                raise
        query = {"path": upload.part, "offset": "0"}
        await self._call(upload.vmid, AgentCall(Feature.RESUMABLE_UPLOADS, "PATCH", "/files/content", query=query))

    async def _remove_part(self, upload: Upload) -> None:
        remove = AgentCall(Feature.FILES, "DELETE", "/files", query={"path": upload.part}, probe="/files")
        try:
            await self._call(upload.vmid, remove)
        except AgentProblemError as problem:
            if problem.status != 404:
                raise

    async def _arrived(self, upload: Upload) -> int | None:
        """How many bytes the agent has; None where it has no such file."""
        try:
            entry = (await self._entries(upload.vmid, UPLOADS)).get(upload.id)
        except AgentProblemError as problem:
            if problem.status != 404:
                raise
            return None
        size = None if entry is None else entry.get("size")
        return size if type(size) is int else None

    async def _entries(self, vmid: int, folder: str) -> dict[str, dict[str, Any]]:
        """By name. Raises AgentProblemError 404 for a folder that is not there."""
        listing = AgentCall(
            Feature.FILES,
            "GET",
            "/files",
            query={"path": folder},
            changes=False,
            probe="/files",
            max_body=_MAX_LISTING,
        )
        answer = orjson.loads((await self._call(vmid, listing)).body or b"null")
        entries = answer.get("entries") if isinstance(answer, dict) else None
        if not isinstance(entries, list):
            raise AgentUnreachableError("the agent's answer was not understood: it lists no entries")
        return {
            entry["name"]: entry
            for entry in entries
            if isinstance(entry, dict) and isinstance(entry.get("name"), str)
        }
