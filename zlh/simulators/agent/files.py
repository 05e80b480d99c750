"""The files of one container: a real directory. Paths are relative to it; whatever leads out of it is refused."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import AsyncGenerator, Callable
from email.utils import formatdate
from functools import wraps
from pathlib import Path
from typing import Any, BinaryIO, ParamSpec, TypeVar

import trio

from zlh.simulators.agent.http import Refusal, Response

P = ParamSpec("P")
T = TypeVar("T")

CHUNK = 256 * 1024


def _refuses(function: Callable[P, T]) -> Callable[P, T]:
    """What the file system refuses is an answer, not a crash."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except FileNotFoundError:
            raise Refusal(404, "no such file or directory") from None
        except FileExistsError:
            raise Refusal(409, "exists already") from None
        except (zipfile.BadZipFile, tarfile.ReadError):
            raise Refusal(400, "it is no archive that can be read") from None
        except (OSError, tarfile.TarError) as error:
            raise Refusal(400, f"{getattr(error, 'strerror', None) or error}") from None

    return wrapped


class Files:
    def __init__(self, root: Path) -> None:
        self.root = root

    def resolve(self, path: object) -> Path:
        """The real path, inside the root; Refusal(400) otherwise. A link's own last part is not followed."""
        if not isinstance(path, str) or "\0" in path or path.startswith("/") or ".." in path.split("/"):
            raise Refusal(400, "`path` is not a path inside the server's directory")
        root = os.path.realpath(self.root)
        whole = Path(root, path)
        parent = root if str(whole) == root else os.path.realpath(whole.parent)
        if os.path.commonpath([root, parent]) != root:
            raise Refusal(400, "`path` leads out of the server's directory")
        return Path(parent, whole.name) if str(whole) != root else whole

    def content(self, path: object) -> Path:
        """As `resolve`, with a link followed to its end, which must be inside too."""
        found = self.resolve(path)
        root = os.path.realpath(self.root)
        if os.path.commonpath([root, os.path.realpath(found)]) != root:
            raise Refusal(400, "`path` leads out of the server's directory")
        return found

    @_refuses
    def entries(self, path: str) -> dict[str, Any]:
        self.root.mkdir(parents=True, exist_ok=True)
        folder = self.content(path)
        with os.scandir(folder) as found:
            entries = [_entry(item) for item in found]
        return {"path": path, "entries": sorted(entries, key=lambda entry: str(entry["name"]))}

    @_refuses
    def make_directory(self, wish: dict[str, Any]) -> None:
        self.resolve(wish.get("path")).mkdir(parents=True)

    @_refuses
    def search(self, path: str, part: str, limit: int) -> dict[str, Any]:
        """Up to `limit` names below `path` that contain `part`, whatever the case; links are not followed."""
        if not part:
            raise Refusal(400, "`q` is missing")
        root, found = Path(os.path.realpath(self.root)), list[dict[str, Any]]()
        for folder, directories, names in os.walk(self.content(path), onerror=_raise):
            directories.sort()
            for name in sorted([*directories, *names]):
                if part.casefold() not in name.casefold():
                    continue
                if len(found) == limit:
                    return {"entries": found, "truncated": True}
                found.append(_found(Path(folder, name), root))
        return {"entries": found, "truncated": False}

    @_refuses
    def rename(self, wish: dict[str, Any]) -> None:
        """With `replace`, a file at `to` gives way."""
        source, target = self.resolve(wish.get("from")), self.resolve(wish.get("to"))
        if os.path.lexists(target) and wish.get("replace") is not True:
            raise FileExistsError
        source.replace(target)

    @_refuses
    def copy(self, wish: dict[str, Any]) -> None:
        source, target = self.content(wish.get("from")), self.resolve(wish.get("to"))
        if os.path.lexists(target):
            raise FileExistsError
        if target.is_relative_to(source):
            raise Refusal(400, "a directory cannot be copied into itself")
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copy2(source, target)

    @_refuses
    def change_mode(self, wish: dict[str, Any]) -> None:
        """`mode` is octal text ("644") or a number."""
        mode = wish.get("mode")
        try:
            bits = int(mode, 8) if isinstance(mode, str) else int(mode or 0)
        except (ValueError, TypeError):
            raise Refusal(400, "`mode` is not octal") from None
        self.content(wish.get("path")).chmod(bits & 0o777)

    @_refuses
    def compress(self, wish: dict[str, Any]) -> None:
        """Into a .zip or .tar.gz, by the name of `to`."""
        paths = wish.get("paths")
        if not isinstance(paths, list) or not paths:
            raise Refusal(400, "`paths` is not a list of paths")
        sources, target = [self.content(path) for path in paths], self.resolve(wish.get("to"))
        if os.path.lexists(target):
            raise FileExistsError
        pack(sources, target, Path(os.path.realpath(self.root)))

    @_refuses
    def extract(self, wish: dict[str, Any]) -> None:
        archive, target = self.content(wish.get("path")), self.resolve(wish.get("to"))
        unpack(archive, target)

    @_refuses
    def delete(self, path: str) -> None:
        target = self.resolve(path)
        if target == Path(os.path.realpath(self.root)):
            raise Refusal(400, "the server's own directory stays")
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink()


def _raise(error: OSError) -> None:
    raise error


def _entry(item: os.DirEntry[str]) -> dict[str, Any]:
    info = item.stat(follow_symlinks=False)
    return {"name": _text(item.name), **_described(info), "mode": f"{info.st_mode & 0o777:03o}"}


def _found(path: Path, root: Path) -> dict[str, Any]:
    inside = path.relative_to(root).as_posix()
    return {"path": _text(inside), "name": _text(path.name), **_described(path.lstat())}


def _described(info: os.stat_result) -> dict[str, Any]:
    kind = "link" if stat.S_ISLNK(info.st_mode) else "directory" if stat.S_ISDIR(info.st_mode) else "file"
    return {"type": kind, "size": info.st_size, "modified": int(info.st_mtime)}


def _text(name: str) -> str:
    """A name need not be UTF-8; JSON must."""
    return os.fsencode(name).decode(errors="replace")


def _open(path: Path) -> BinaryIO:
    return open(path, "rb")


def stream_file(path: Path, wanted: str | None) -> Response:
    """The file, or the one range that `wanted` (a Range header) names. Raises OSError, Refusal(416)."""
    size = path.stat().st_size
    start, end = parse_range(wanted, size)
    headers = [
        ("Accept-Ranges", "bytes"),
        ("ETag", etag_of(path)),
        ("Last-Modified", formatdate(path.stat().st_mtime, usegmt=True)),
    ]
    if wanted is not None:
        headers.append(("Content-Range", f"bytes {start}-{end - 1}/{size}"))
    pieces = _pieces(path, start, end)
    status = 200 if wanted is None else 206
    return Response(
        status, content_type="application/octet-stream", headers=tuple(headers), stream=pieces, length=end - start
    )


def etag_of(path: Path) -> str:
    """Another one after every change: a strong validator. Raises OSError."""
    info = path.stat()
    return f'"{info.st_ino:x}-{info.st_size:x}-{info.st_mtime_ns:x}"'


async def _pieces(path: Path, start: int, end: int) -> AsyncGenerator[bytes, None]:
    with _open(path) as source:
        source.seek(start)
        while start < end and (piece := source.read(min(CHUNK, end - start))):
            start += len(piece)
            yield piece
            await trio.lowlevel.checkpoint()


def parse_range(wanted: str | None, size: int) -> tuple[int, int]:
    """The half-open range of bytes; Refusal(416) where it cannot be satisfied. Only `bytes=a-b`, `a-`, `-n`."""
    if wanted is None:
        return 0, size
    unit, _, span = wanted.partition("=")
    first, dash, last = span.partition("-")
    if unit != "bytes" or not dash or not (first + last).isdigit():
        raise Refusal(416, "the range is not understood")
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
    else:
        start, end = max(0, size - int(last)), size
    if start >= end:
        raise Refusal(416, f"the file has {size} bytes")
    return start, end


def pack(sources: list[Path], target: Path, root: Path) -> None:
    if target.suffix == ".zip":
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for source in sources:
                for path in [source, *source.rglob("*")] if source.is_dir() else [source]:
                    archive.write(path, path.relative_to(root))
        return
    with tarfile.open(target, "w:gz", compresslevel=1) as bundle:
        for source in sources:
            bundle.add(source, source.relative_to(root).as_posix(), filter=lambda info: info)


def unpack(archive: Path, target: Path) -> None:
    """Members that would land outside never do: zipfile strips their names, tarfile's data filter refuses them."""
    target.mkdir(parents=True, exist_ok=True)
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as bundle:
            bundle.extractall(target)
        return
    with tarfile.open(archive, "r:*") as bundle:
        bundle.extractall(target, filter="data")
