"""What is in the files of one container: read, replaced and appended to, each under conditions."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from zlh.simulators.agent.files import Files, etag_of, stream_file
from zlh.simulators.agent.http import Refusal, Request, Response

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Content:
    """One request at a time appends to a file. What is written goes to the page cache: a thread for each piece would
    cost more than it spares."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._appending: set[Path] = set()

    def read(self, path: str, headers: dict[str, str]) -> Response:
        """Raw bytes from a Range (one range) or from the start; 304 where the client has this version."""
        with _refusing():
            found = self._files.content(path)
            if not found.is_file():
                raise Refusal(404 if not found.exists() else 400, "not a file")
            etag = etag_of(found)
            if _names(headers.get("if-none-match"), etag):
                return Response(304, headers=(("ETag", etag),))
            wanted = headers.get("range")
            if headers.get("if-range") not in (None, etag):
                wanted = None
            return stream_file(found, wanted)

    async def write(self, path: str, request: Request) -> Response:
        """Streams the body to a temporary name and moves it into place when it is whole, if it still may then."""
        target = self._files.content(path)
        if target.is_dir() or not target.parent.is_dir():
            raise Refusal(400, "not a file in an existing directory")
        fresh = target.parent / f".{target.name[:100]}.{secrets.token_hex(4)}.part"
        try:
            with _refusing(), _open(fresh, "xb") as out:
                await _receive(request, out)
            existed = target.exists()
            _judge(request.headers, etag_of(target) if existed else None)
            os.replace(fresh, target)
        finally:
            fresh.unlink(missing_ok=True)
        return Response(204 if existed else 201, headers=(("ETag", etag_of(target)),))

    async def append(self, path: str, offset: str, request: Request) -> Response:
        """The body at the end of the file, which must be at `offset`. What arrived before a break stays."""
        if not offset.isdigit():
            raise Refusal(400, "`offset` is not a number")
        target = self._files.content(path)
        if target in self._appending:
            raise Refusal(409, "another request is appending to this file")
        size = target.stat().st_size if target.exists() else 0
        if target.is_dir() or size != int(offset):
            raise Refusal(409, "the file has another size", {"size": size})
        self._appending.add(target)
        try:
            with _refusing(), _open(target, "ab") as out:
                await _receive(request, out)
        finally:
            self._appending.discard(target)
        return Response(204, headers=(("Upload-Offset", str(target.stat().st_size)),))


def _open(path: Path, mode: str) -> BinaryIO:
    """Without a buffer of ours: what arrived before a break is there."""
    return cast(BinaryIO, open(path, mode, buffering=0))


async def _receive(request: Request, out: BinaryIO) -> None:
    async with aclosing(request.stream()) as pieces:
        async for piece in pieces:
            out.write(piece)


@contextmanager
def _refusing() -> Iterator[None]:
    """What the file system refuses is an answer, not a crash; a client that went away gets none."""
    try:
        yield
    except ConnectionError:
        raise
    except FileNotFoundError:
        raise Refusal(404, "no such file or directory") from None
    except OSError as error:
        status = 507 if error.errno in _FULL else 400
        raise Refusal(status, f"{error.strerror or error}") from None


def _judge(headers: dict[str, str], etag: str | None) -> None:
    """Raises Refusal 412."""
    wanted, unless = headers.get("if-match"), headers.get("if-none-match")
    if (wanted is not None and not _names(wanted, etag)) or _names(unless, etag):
        raise Refusal(412, "the file has another version", {"etag": etag})


def _names(given: str | None, etag: str | None) -> bool:
    if given is None or etag is None:
        return False
    return given.strip() == "*" or etag in [each.strip() for each in given.split(",")]
