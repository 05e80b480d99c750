"""Which addresses are transfers, and of what."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum

from zlh.model.containers import ContainerType
from zlh.wire.http import RequestHead

_PREFIXES = (b"/api/game/", b"/api/dev/")
_PATH = re.compile(
    rb"/api/(?P<ctype>game|dev)/(?P<vmid>[1-9][0-9]{0,8})/(?:"
    rb"(?P<content>files/content)|(?P<form>files/upload)|(?P<uploads>files/uploads)"
    rb"|files/uploads/(?P<upload>[0-9A-Za-z_-]{1,64})"
    rb"|backups/(?P<backup>[0-9A-Za-z_-][0-9A-Za-z._-]{0,63})/download)"
)


class Kind(StrEnum):
    CONTENT = "content"
    FORM = "form"
    UPLOADS = "uploads"
    UPLOAD = "upload"
    BACKUP = "backup"


METHODS: dict[Kind, frozenset[bytes]] = {
    Kind.CONTENT: frozenset((b"GET", b"HEAD", b"PUT")),
    Kind.FORM: frozenset((b"POST",)),
    Kind.UPLOADS: frozenset((b"OPTIONS", b"POST")),
    Kind.UPLOAD: frozenset((b"OPTIONS", b"HEAD", b"PATCH", b"DELETE")),
    Kind.BACKUP: frozenset((b"GET", b"HEAD")),
}


_INSTEAD = b"x-http-method-override"
_OVERRIDDEN = (b"PATCH", b"DELETE")


@dataclass(frozen=True, slots=True)
class Address:
    """`name` is the id of an upload or a backup, else empty."""

    ctype: ContainerType
    vmid: int
    kind: Kind
    name: str

    @property
    def uploads(self) -> str:
        """Where uploads of this container are begun."""
        return f"/api/{self.ctype}/{self.vmid}/files/uploads"


def address_of(head: RequestHead) -> Address | None:
    """None for what is no transfer, another method of an address of one included. A browser that asks whether it may
    ask (CORS) is answered as everywhere else."""
    if not head.target.startswith(_PREFIXES):
        return None
    match = _PATH.fullmatch(head.path)
    if match is None or match.lastgroup is None:
        return None
    kind = Kind(match.lastgroup)
    method = _instead(head) if kind is Kind.UPLOAD else head.method
    if method not in METHODS[kind] or (
        head.method == b"OPTIONS" and head.get(b"access-control-request-method") is not None
    ):
        return None
    name = match[kind.value].decode() if kind in (Kind.UPLOAD, Kind.BACKUP) else ""
    return Address(ContainerType(match["ctype"].decode()), int(match["vmid"]), kind, name)


def meant(head: RequestHead) -> RequestHead:
    """The head of a transfer, with the method that is meant."""
    return replace(head, method=_instead(head)) if head.get(_INSTEAD) is not None else head


def _instead(head: RequestHead) -> bytes:
    """For clients that cannot say PATCH or DELETE, tus has a field that says it for POST."""
    wanted = head.get(_INSTEAD)
    return wanted if wanted in _OVERRIDDEN and head.method == b"POST" else head.method
