"""A container's files: what is small enough to be passed on. Contents are moved by the gateway."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from zlh.api.bodies import Body, Query, printable
from zlh.api.forwarding import LONG_SECONDS, Forwarded, Told
from zlh.model.access import Permission, Scope
from zlh.model.agent_calls import Feature
from zlh.model.paths import UPLOADS, checked_path
from zlh.model.servers import rfc3339_of

OCTAL = re.compile("0?[0-7]{3}")
KINDS = ("file", "directory", "link")
ARCHIVES = (".zip", ".tar.gz")
LATEST_SECOND = 253_402_300_799
"""The last one of the year 9999: RFC 3339 ends there."""


def _named(path: str) -> str:
    if not path:
        raise ValueError("must name something in the server's directory")
    return path


def _archive(path: str) -> str:
    if not path.endswith(ARCHIVES):
        raise ValueError(f"must end in {' or '.join(ARCHIVES)}")
    return path


def _octal(mode: str) -> str:
    if OCTAL.fullmatch(mode) is None:
        raise ValueError("must be three octal digits, such as 644")
    return mode


def _as_written(text: str) -> str:
    """Names are found in the spelling that they have."""
    printable(text)
    return text


def _kind(value: object) -> object:
    return "other" if isinstance(value, str) and value not in KINDS else value


def _moment(value: object) -> object:
    """Agents tell Unix seconds or RFC 3339; what is neither is not known."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        if isinstance(value, str):
            at = datetime.fromisoformat(value)
            return rfc3339_of(at if at.tzinfo else at.replace(tzinfo=UTC))
        return rfc3339_of(datetime.fromtimestamp(min(max(value, 0), LATEST_SECOND), UTC))
    except (ValueError, OverflowError):
        return None


Path = Annotated[str, AfterValidator(checked_path), Field(examples=["world/level.dat"])]
"""Relative to the server's directory; "" is that directory itself."""
Named = Annotated[str, AfterValidator(checked_path), AfterValidator(_named), Field(examples=["world/level.dat"])]
Mode = Annotated[
    str, AfterValidator(_octal), Field(examples=["644"], json_schema_extra={"pattern": f"^{OCTAL.pattern}$"})
]
Size = Annotated[int, Field(ge=0)]
Moment = Annotated[str | None, BeforeValidator(_moment)]
Kind = Annotated[Literal["file", "directory", "link", "other"], BeforeValidator(_kind)]


class Entry(Told):
    """`size` in bytes, `mode` as octal text."""

    name: str
    type: Kind
    size: Size
    modified: Moment = None
    mode: str | None = None


class Listing(Told):
    path: str = ""
    entries: list[Entry]


class Found(Told):
    """`path` is the whole path, `name` its last part."""

    path: str
    name: str
    type: Kind
    size: Size
    modified: Moment = None


class FoundFiles(Told):
    """`truncated`: there are more than `limit`."""

    entries: list[Found]
    truncated: bool


class ListQuery(Query):
    path: Path = ""


class NamedQuery(Query):
    path: Named


class SearchQuery(Query):
    """`q` is a part of the name, whatever the case; below `path`."""

    path: Path = ""
    q: Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_as_written)]
    limit: Annotated[int, Field(ge=1, le=1000)] = 200


class MakeDirectory(Body):
    path: Named


class RenameFile(Body):
    source: Annotated[Named, Field(alias="from")]
    to: Named

    @model_validator(mode="after")
    def _not_into_itself(self) -> Self:
        if self.to.startswith(f"{self.source}/"):
            raise ValueError("a directory cannot go into itself")
        return self


class MoveFile(RenameFile):
    """`replace`: what is at `to` gives way."""

    replace: bool = False


class CopyFile(RenameFile):
    pass


class CompressFiles(Body):
    """The ending of `to` says what becomes of it: .zip or .tar.gz."""

    paths: Annotated[list[Named], Field(min_length=1, max_length=1000)]
    to: Annotated[Named, AfterValidator(_archive), Field(examples=["world.zip"])]


class ExtractArchive(Body):
    """Into the directory `to`, which is made where it is missing."""

    path: Named
    to: Path = ""


class ChangeMode(Body):
    """`mode` is octal text, as `chmod` takes it."""

    path: Named
    mode: Mode


def tidy_listing(listing: Listing, wish: Mapping[str, Any]) -> Listing:
    """With the path that was asked for, and without what is ours."""
    path = wish.get("path", "")
    entries = [entry for entry in listing.entries if path or entry.name != UPLOADS]
    return listing.model_copy(update={"path": path, "entries": entries})


def tidy_found(found: FoundFiles, wish: Mapping[str, Any]) -> FoundFiles:
    entries = [entry for entry in found.entries if entry.path.split("/", 1)[0] != UPLOADS]
    return found.model_copy(update={"entries": entries})


def _file(method: str, path: str, summary: str, **given: Any) -> Forwarded:
    feature = given.pop("feature", Feature.FILES)
    return Forwarded(
        method=method,
        path=path,
        summary=summary,
        feature=feature,
        permission=Permission.FILES,
        scope=Scope.FILES,
        **given,
    )


FROM_TO = {"from": "path", "to": "to"}

FILES = (
    _file(
        "GET",
        "files",
        "A directory",
        answer=Listing,
        query=ListQuery,
        tidy=tidy_listing,
        max_body=4 << 20,
        suspended=True,
    ),
    _file(
        "DELETE",
        "files",
        "Delete a file, or a directory with all that is in it",
        status=204,
        query=NamedQuery,
        action="file.delete",
        facts={"path": "path"},
        seconds=LONG_SECONDS,
    ),
    _file(
        "GET",
        "files/search",
        "Files and directories by a part of their name",
        feature=Feature.FILE_SEARCH,
        answer=FoundFiles,
        query=SearchQuery,
        tidy=tidy_found,
        seconds=30.0,
        suspended=True,
    ),
    _file(
        "POST",
        "files/directory",
        "Make a directory, and those above it",
        status=201,
        body=MakeDirectory,
        action="file.directory",
        facts={"path": "path"},
    ),
    _file("POST", "files/rename", "Rename", body=RenameFile, action="file.rename", facts=FROM_TO),
    _file(
        "POST",
        "files/move",
        "Move, in place of what is there if that is wanted",
        agent="/files/rename",
        body=MoveFile,
        action="file.move",
        facts=FROM_TO,
    ),
    _file("POST", "files/copy", "Copy", body=CopyFile, action="file.copy", facts=FROM_TO, seconds=LONG_SECONDS),
    _file(
        "POST",
        "files/compress",
        "Make an archive",
        body=CompressFiles,
        action="file.compress",
        facts={"paths": "paths", "to": "to"},
        seconds=LONG_SECONDS,
    ),
    _file(
        "POST",
        "files/extract",
        "Take an archive apart",
        body=ExtractArchive,
        action="file.extract",
        facts={"path": "path", "to": "to"},
        seconds=LONG_SECONDS,
    ),
    _file(
        "POST",
        "files/chmod",
        "Change what may be done with a file",
        body=ChangeMode,
        action="file.chmod",
        facts={"path": "path", "mode": "mode"},
    ),
)
