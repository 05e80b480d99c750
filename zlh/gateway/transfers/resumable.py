"""Uploads that are continued where a connection broke: tus 1.0.0 (https://tus.io/protocols/resumable-upload) with its
extensions creation, expiration and termination. How much has arrived is what the agent says."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import format_datetime

import trio

from zlh.gateway.client import BodyReader
from zlh.gateway.pipes import Pipe
from zlh.gateway.refusals import Refusal
from zlh.gateway.transfers.agent import Agent, unreachable
from zlh.gateway.transfers.room import Rooms
from zlh.gateway.transfers.transfer import Transfer
from zlh.gateway.transfers.uploads import CONTENT, Metered
from zlh.model.agent_calls import AgentPlace, Feature
from zlh.model.errors import InvalidError
from zlh.model.paths import clean_path
from zlh.model.transfers import Upload, Uploads
from zlh.wire.http import Fields, RequestHead

VERSION = b"1.0.0"
EXTENSIONS = b"creation,expiration,termination"
PIECE_TYPE = b"application/offset+octet-stream"
HANDOVER_SECONDS = 10.0
_NUMBER = re.compile(rb"[0-9]{1,15}")
TUS: Fields = [(b"tus-resumable", VERSION)]
"""What every answer about such uploads carries, a refusal too."""

_SPOKEN: Fields = [(b"tus-version", VERSION)]


@dataclass(slots=True)
class _Hold:
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    gone: trio.Event = field(default_factory=trio.Event)


class Resumable:
    """One request at a time works on an upload. Who comes later takes over: whoever held it before has lost the
    connection, only nobody has noticed yet."""

    def __init__(self, uploads: Uploads, rooms: Rooms) -> None:
        self._uploads = uploads
        self._rooms = rooms
        self._holds: dict[str, _Hold] = {}

    async def tell(self, transfer: Transfer) -> bool:
        """OPTIONS."""
        return await transfer.answer(204, [*TUS, *_SPOKEN, (b"tus-extension", EXTENSIONS)])

    async def begin(self, transfer: Transfer, place: AgentPlace) -> bool:
        """POST: 201, and where the upload is."""
        _check_version(transfer.head)
        if transfer.head.length != 0:
            raise Refusal(400, "an upload is begun without a body; its bytes come with PATCH", code="invalid")
        length = _number(transfer.head, b"upload-length")
        path = _target(transfer.head)
        self._rooms.enter(transfer.vmid, place, length).leave()
        upload = await self._uploads.begin(transfer.vmid, path, length)
        if not length:
            await self._finish(transfer, upload)
        location = f"{transfer.address.uploads}/{upload.id}".encode("ascii")
        return await transfer.answer(201, [*_fields(upload), (b"location", location)])

    async def offset(self, transfer: Transfer) -> bool:
        """HEAD: how much has arrived."""
        _check_version(transfer.head)
        upload = await self._find(transfer)
        async with self._hold(upload):
            offset = await self._uploads.offset(upload)
        told: Fields = [
            (b"upload-offset", b"%d" % offset),
            (b"upload-length", b"%d" % upload.length),
            (b"upload-metadata", b"path " + base64.b64encode(upload.path.encode())),
            (b"cache-control", b"no-store"),
        ]
        return await transfer.answer(200, [*_fields(upload), *told])

    async def append(self, transfer: Transfer, agent: Agent, place: AgentPlace) -> bool:
        """PATCH: the next bytes. What arrives before a connection breaks, stays."""
        head = transfer.head
        _check_version(head)
        if (head.get(b"content-type") or b"").lower() != PIECE_TYPE:
            raise Refusal(415, f"send {PIECE_TYPE.decode()}", code="unsupported_media_type")
        wanted = _number(head, b"upload-offset")
        upload = await self._find(transfer)
        async with self._hold(upload):
            offset = await self._uploads.offset(upload)
            if wanted != offset:
                raise _elsewhere(offset)
            if head.length is not None and head.length > upload.length - offset:
                raise _too_long(upload)
            if offset < upload.length:
                upload = await self._uploads.keep(upload)
                offset += await self._pass_on(transfer, agent, place, upload, offset)
                if offset == upload.length:
                    await self._finish(transfer, upload)
            elif head.length is None:
                raise _too_long(upload)
        return await transfer.answer(204, [*_fields(upload), (b"upload-offset", b"%d" % offset)])

    async def drop(self, transfer: Transfer) -> bool:
        """DELETE."""
        _check_version(transfer.head)
        upload = await self._find(transfer)
        async with self._hold(upload):
            await self._uploads.drop(upload)
        return await transfer.answer(204, list(TUS))

    async def _find(self, transfer: Transfer) -> Upload:
        return await self._uploads.find(transfer.vmid, transfer.address.name)

    async def _pass_on(self, transfer: Transfer, agent: Agent, place: AgentPlace, upload: Upload, offset: int) -> int:
        """How many bytes the agent took."""
        source = BodyReader(transfer.arrival.client, transfer.head, None)
        left = upload.length - offset
        room = self._rooms.enter(transfer.vmid, place, left if source.length is None else source.length)
        body = _Bounded(Metered(source, room), left, upload)
        query = {"path": upload.part, "offset": str(offset)}
        try:
            async with agent.ask(place, b"PATCH", CONTENT, query, [], body) as reply:
                if reply.head.status == 409:
                    _, details = await reply.words()
                    raise _elsewhere(details.get("size"))
                if reply.head.status not in (200, 204):
                    raise await agent.refusal(reply, place, Feature.RESUMABLE_UPLOADS, about=True)
                if not source.done:
                    raise unreachable("the agent did not wait for the end of the piece", changes=True)
                told = reply.field(b"upload-offset")
                if told is not None and told != b"%d" % (offset + body.passed):
                    raise unreachable("the agent wrote another number of bytes", changes=True)
                return body.passed
        finally:
            room.leave()

    async def _finish(self, transfer: Transfer, upload: Upload) -> None:
        transfer.subject = upload.path
        transfer.moved = upload.length
        await self._uploads.finish(upload)

    @asynccontextmanager
    async def _hold(self, upload: Upload) -> AsyncIterator[None]:
        with trio.move_on_after(HANDOVER_SECONDS) as patience:
            while (before := self._holds.get(upload.id)) is not None:
                before.scope.cancel()
                await before.gone.wait()
        if patience.cancelled_caught:
            raise Refusal(423, "another request works on this upload", code="upload_locked", retry_after=1)
        hold = self._holds[upload.id] = _Hold()
        try:
            with hold.scope:
                yield
        finally:
            del self._holds[upload.id]
            hold.gone.set()
        if hold.scope.cancelled_caught:
            raise Refusal(423, "another request took this upload over", code="upload_locked")


class _Bounded:
    """A body that must not go beyond `left` bytes."""

    def __init__(self, body: Metered, left: int, upload: Upload) -> None:
        self._body = body
        self._left = left
        self._upload = upload

    @property
    def length(self) -> int | None:
        return self._body.length

    @property
    def passed(self) -> int:
        return self._body.passed

    async def read(self) -> bytes:
        data = await self._body.read()
        self._check()
        return data

    @property
    def pipes(self) -> bool:
        return self._body.pipes

    async def fill(self, pipe: Pipe) -> int:
        taken = await self._body.fill(pipe)
        self._check()
        return taken

    def _check(self) -> None:
        if self._body.passed > self._left:
            raise _too_long(self._upload)


def _fields(upload: Upload) -> Fields:
    return [*TUS, (b"upload-expires", format_datetime(upload.expires_at, usegmt=True).encode("ascii"))]


def _elsewhere(offset: object) -> Refusal:
    return Refusal(
        409, "the upload goes on at another byte: ask with HEAD", code="wrong_offset", details={"offset": offset}
    )


def _too_long(upload: Upload) -> Refusal:
    return Refusal(
        413, "that is more than the upload was said to be", code="too_large", details={"limit": upload.length}
    )


def _check_version(head: RequestHead) -> None:
    if head.get(b"tus-resumable") != VERSION:
        raise Refusal(412, "Tus-Resumable must be 1.0.0", code="unsupported_version", fields=_SPOKEN)


def _number(head: RequestHead, name: bytes) -> int:
    given = [value for field, value in head.fields if field == name]
    if len(given) != 1 or _NUMBER.fullmatch(given[0]) is None:
        raise Refusal(400, f"{name.decode().title()} must be a number of bytes", code="invalid")
    return int(given[0])


def _target(head: RequestHead) -> str:
    """Where the file goes: `filename` in the folder `path`, or just `path`. Raises InvalidError."""
    said = _metadata(b",".join(value for field, value in head.fields if field == b"upload-metadata"))
    folder, name = said.get("path", ""), said.get("filename", "")
    if "/" in name:
        raise InvalidError.of(("filename", "is not the name of a file"))
    whole = clean_path(f"{folder}/{name}" if folder and name else folder or name)
    if not whole:
        raise InvalidError.of(("filename", "Upload-Metadata names no file"))
    return whole


def _metadata(value: bytes) -> dict[str, str]:
    said: dict[str, str] = {}
    for pair in filter(None, (each.strip() for each in value.split(b","))):
        key, _, encoded = pair.partition(b" ")
        try:
            word, meaning = key.decode("ascii"), base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
        except (ValueError, binascii.Error):
            raise InvalidError.of(("Upload-Metadata", "is not pairs of a key and its value in base64")) from None
        if word in said:
            raise InvalidError.of(("Upload-Metadata", f"has {word!r} more than once"))
        said[word] = meaning
    return said
