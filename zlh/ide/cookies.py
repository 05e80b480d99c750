"""Cookies at a place: ours, which says who comes, and those of the program in the container, which stay there.

The program never sees our cookie and cannot set it; its own cookies belong to its host alone, in path mode to its
path.
"""

from __future__ import annotations

from zlh.ide.places import Place
from zlh.wire.http import Fields

_OURS = (b"zlh-", b"__host-zlh-", b"__secure-zlh-")


def pass_name(place: Place, *, secure: bool) -> bytes:
    """The name of the cookie that holds the pass. A prefix (RFC 6265bis) keeps pages of other hosts from setting
    it."""
    if place.prefix:
        return b"%bzlh-ide-%d" % (b"__Secure-" if secure else b"", place.vmid)
    return b"__Host-zlh-pass" if secure else b"zlh-pass"


def pass_cookie(place: Place, value: str, seconds: float, *, secure: bool) -> bytes:
    """The Set-Cookie value that gives the pass to the browser, for as long as it is good."""
    name = pass_name(place, secure=secure)
    path = place.prefix + b"/"
    end = b"; Secure" if secure else b""
    return b"%b=%b; Path=%b; Max-Age=%d; HttpOnly; SameSite=Lax%b" % (name, value.encode(), path, int(seconds), end)


def take_pass(fields: Fields, name: bytes) -> tuple[list[str], Fields]:
    """What the cookie of that name holds (more than one value where somebody planted another), and the fields without
    any cookie of ours."""
    found: list[str] = []
    rest: Fields = []
    for field, value in fields:
        if field != b"cookie":
            rest.append((field, value))
            continue
        kept = []
        for pair in value.split(b";"):
            key, _, content = pair.strip(b" \t").partition(b"=")
            if key == name:
                found.append(content.decode("latin1"))
            elif pair and not _is_ours(key):
                kept.append(pair.strip(b" \t"))
        if kept:
            rest.append((field, b"; ".join(kept)))
    return found, rest


def confine(cookie: bytes, place: Place) -> bytes | None:
    """The program's Set-Cookie value without a Domain, in path mode below the place's path; None for one that it may
    not set: ours, and one without a name, which comes back as whatever its value says."""
    pair, *attributes = cookie.split(b";")
    name, equals, _ = pair.strip(b" \t").partition(b"=")
    if not equals or not name.strip(b" \t") or _is_ours(name.strip(b" \t")):
        return None
    kept = [pair.strip(b" \t")]
    for attribute in attributes:
        key, _, value = attribute.strip(b" \t").partition(b"=")
        key = key.strip(b" \t").lower()
        if key == b"domain" or (key == b"path" and place.prefix):
            if key == b"path":
                kept.append(b"Path=" + _below(value.strip(b" \t"), place.prefix))
            continue
        if attribute.strip(b" \t"):
            kept.append(attribute.strip(b" \t"))
    if place.prefix and not any(each.lower().startswith(b"path=") for each in kept[1:]):
        kept.append(b"Path=" + place.prefix + b"/")
    return b"; ".join(kept)


def _below(path: bytes, prefix: bytes) -> bytes:
    if path == prefix or path.startswith(prefix + b"/"):
        return path
    return prefix + (path if path.startswith(b"/") else b"/")


def _is_ours(name: bytes) -> bool:
    return name.lower().startswith(_OURS)
