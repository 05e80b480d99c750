"""Uploads and downloads as the API document tells them: the gateway serves them itself, and so they are in no route
table (`zlh.gateway.transfers`)."""

from __future__ import annotations

from typing import Any, Final

from zlh.api.rights import security
from zlh.model.access import Permission, Scope
from zlh.model.containers import ContainerType

_BYTES: Final = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_PATH: Final = {
    "name": "path",
    "in": "query",
    "required": True,
    "schema": {"type": "string"},
    "description": "Below the server's directory.",
}
_TUS: Final = {"name": "Tus-Resumable", "in": "header", "required": True, "schema": {"const": "1.0.0"}}
_FILES: Final = (Permission.FILES, Scope.FILES)
_BACKUPS: Final = (Permission.BACKUPS, Scope.BACKUPS)


def _field(name: str, kind: str = "string", *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": required, "schema": {"type": kind}}


def _answer(description: str, headers: tuple[str, ...] = (), content: dict[str, Any] | None = None) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": description}
    if headers:
        answer["headers"] = {name: {"schema": {"type": "string"}} for name in headers}
    return answer if content is None else {**answer, "content": content}


def _operation(
    summary: str,
    needs: tuple[Permission, Scope],
    status: int,
    answer: str,
    *parameters: dict[str, Any],
    body: dict[str, Any] | None = None,
    content: dict[str, Any] | None = None,
    headers: tuple[str, ...] = (),
    also: dict[str, Any] | None = None,
    suspended: bool = False,
) -> dict[str, Any]:
    """`headers` are those of the good answer, `also` is what else may be a good one, by status."""
    permission, scope = needs
    also_suspended = " A suspended account may, too." if suspended else ""
    described: dict[str, Any] = {
        "summary": summary,
        "description": f"For every signed-in account. Somebody with whom the server was shared needs the permission "
        f"`{permission.value}`. An API key needs the scope `{scope.value}`.{also_suspended}",
        "parameters": [*parameters],
        "responses": {
            str(status): _answer(answer, headers, content),
            **(also or {}),
            "default": {
                "description": "A refusal",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        },
        "security": security(scope),
        "x-role": "customer",
        "x-permission": permission.value,
    }
    if body is not None:
        described["requestBody"] = {"required": True, "content": body}
    return described


_READ: Final = (_field("Range"), _field("If-None-Match"), _field("If-Range"))
_ABOUT: Final = ("ETag", "Last-Modified", "Accept-Ranges", "Content-Length", "Content-Disposition")
_PARTS: Final = {
    "206": _answer("The bytes of that range", (*_ABOUT, "Content-Range"), _BYTES),
    "304": _answer("It is the version of `If-None-Match`", ("ETag",)),
}
_FORM: Final = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
        }
    }
}
_WRITTEN: Final = {
    "application/json": {
        "schema": {
            "type": "object",
            "properties": {
                "files": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "path": {"type": "string"},
                            "size": {"type": "integer"},
                            "created": {"type": "boolean"},
                        },
                    },
                }
            },
        }
    }
}
_META: Final = {
    **_field("Upload-Metadata", required=True),
    "description": "`path` and `filename`, each in base64: the file `filename` in the directory `path`; where only "
    "one of the two is given, it is the file's whole path.",
}
_PIECE: Final = {"application/offset+octet-stream": {"schema": {"type": "string", "format": "binary"}}}

_SPOKEN: Final = _operation(
    "What of tus 1.0.0 is spoken", _FILES, 204, "In these", headers=("Tus-Resumable", "Tus-Version", "Tus-Extension")
)

# Below /api/game/{vmid} and /api/dev/{vmid}.
_BELOW: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "/files/content": {
        "get": _operation(
            "Download a file, whole or a range of it",
            _FILES,
            200,
            "Its bytes",
            _PATH,
            *_READ,
            content=_BYTES,
            headers=_ABOUT,
            also=_PARTS,
            suspended=True,
        ),
        "head": _operation(
            "The size and version of a file",
            _FILES,
            200,
            "As for GET, without the bytes",
            _PATH,
            headers=_ABOUT,
            suspended=True,
        ),
        "put": _operation(
            "Write a file; with If-Match only over the version that was read",
            _FILES,
            204,
            "Written; `ETag` is its version",
            _PATH,
            _field("If-Match"),
            _field("If-None-Match"),
            body=_BYTES,
            headers=("ETag",),
            also={"201": _answer("Written, and it is new", ("ETag",))},
        ),
    },
    "/files/upload": {
        "post": _operation(
            "Upload files into a folder by form", _FILES, 201, "Written", _PATH, body=_FORM, content=_WRITTEN
        )
    },
    "/files/uploads": {
        "options": _SPOKEN,
        "post": _operation(
            "Begin an upload that can be continued (tus 1.0.0)",
            _FILES,
            201,
            "Begun; `Location` is where it goes on",
            _TUS,
            _field("Upload-Length", "integer", required=True),
            _META,
            headers=("Location", "Tus-Resumable", "Upload-Expires"),
        ),
    },
    "/files/uploads/{upload_id}": {
        "options": _SPOKEN,
        "head": _operation(
            "How much of an upload has arrived",
            _FILES,
            200,
            "In `Upload-Offset`",
            _TUS,
            headers=("Upload-Offset", "Upload-Length", "Upload-Metadata", "Tus-Resumable", "Upload-Expires"),
        ),
        "patch": _operation(
            "The next bytes of an upload",
            _FILES,
            204,
            "Taken; `Upload-Offset` is where it goes on. With the last one the file is in its place",
            _TUS,
            _field("Upload-Offset", "integer", required=True),
            body=_PIECE,
            headers=("Upload-Offset", "Tus-Resumable", "Upload-Expires"),
        ),
        "delete": _operation("Give an upload up", _FILES, 204, "Nothing is left of it", _TUS),
    },
    "/backups/{backup_id}/download": {
        "get": _operation(
            "Download a backup, whole or a range of it",
            _BACKUPS,
            200,
            "Its bytes",
            *_READ,
            content=_BYTES,
            headers=_ABOUT,
            also=_PARTS,
            suspended=True,
        ),
        "head": _operation(
            "The size of a backup's archive",
            _BACKUPS,
            200,
            "As for GET, without the bytes",
            headers=_ABOUT,
            suspended=True,
        ),
    },
}


def _in_path(template: str) -> list[dict[str, Any]]:
    names = ["vmid", *(name for name in ("upload_id", "backup_id") if f"{{{name}}}" in template)]
    kinds = {"vmid": "integer"}
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": kinds.get(name, "string")}}
        for name in names
    ]


def transfers() -> dict[str, dict[str, Any]]:
    """The paths of the document, each with its operations."""
    return {
        f"/api/{ctype.value}/{{vmid}}{below}": {
            method: {**operation, "parameters": [*_in_path(below), *operation["parameters"]]}
            for method, operation in operations.items()
        }
        for ctype in ContainerType
        for below, operations in _BELOW.items()
    }
