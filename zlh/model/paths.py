"""Paths in a container, as customers write them: normalised and refused here, once, whoever passes them on.

A path is relative to the container's server root, in POSIX manner. What is refused is what some program on the way
might read as another file than the one that was checked: parents, absolute paths, backslashes, control characters,
and percent escapes of any of those (a name with a percent sign of its own is fine).

Unicode is left as it is: on Linux a name is bytes, NFC and NFD spellings are two files, and every name that a list
shows must be one that can be read and deleted.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import unquote_to_bytes

from zlh.model.errors import InvalidError

LONGEST_NAME: Final = 255
LONGEST_PATH: Final = 4096
"""Both in bytes of UTF-8; NAME_MAX and PATH_MAX of Linux."""

UPLOADS: Final = ".zlh-uploads"
"""Where uploads wait until they are whole, below the server root: ours alone, never listed, never named."""

MOST_ESCAPED: Final = 8
"""So many times over may a percent sign be escaped in a name."""

_RESERVED = (b".", b"..", UPLOADS.encode())
# A "/" or "." written longer than it needs to be, which a careless decoder takes for one (CVE-2000-0884).
_OVERLONG = re.compile(rb"[\xc0\xc1]|\xe0[\x80-\x9f]|\xf0[\x80-\x8f]")


def clean_path(text: str, *, field: str = "path") -> str:
    """`text` in its one spelling: no empty parts, no ".", no slash at either end; "" is the server root.

    Raises InvalidError that names `field`.
    """
    try:
        return checked_path(text)
    except ValueError as error:
        raise InvalidError.of((field, str(error))) from None


def checked_path(text: str) -> str:
    """As `clean_path`, but raises ValueError with the problem in words."""
    if len(_utf8(text)) > LONGEST_PATH:
        raise ValueError(f"is longer than {LONGEST_PATH} bytes")
    if text.startswith("/"):
        raise ValueError("must be relative to the server's directory")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    for part in parts:
        _check_name(part)
    if parts and parts[0] == UPLOADS:
        raise ValueError(f"{UPLOADS} is where unfinished uploads wait")
    return "/".join(parts)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError("is not Unicode text") from None


def _check_name(name: str) -> None:
    if name == "..":
        raise ValueError("must be without '..'")
    if "\\" in name:
        raise ValueError("must not contain backslashes")
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise ValueError("must not contain control characters")
    raw = name.encode()
    if len(raw) > LONGEST_NAME:
        raise ValueError(f"has a name of more than {LONGEST_NAME} bytes")
    if _hides_something(raw):
        raise ValueError("must not contain escaped separators, parents or control characters")


def _hides_something(raw: bytes) -> bool:
    """Whether decoding percent escapes, as often as anything does, gives what would have been refused. What is
    escaped more often hides something: nobody names a file so, and each time costs."""
    for _ in range(MOST_ESCAPED + 1):
        decoded = unquote_to_bytes(raw)
        if decoded == raw:
            return False
        if decoded in _RESERVED or re.search(rb"[\x00-\x1f\x7f/\\]", decoded) or _OVERLONG.search(decoded):
            return True
        raw = decoded
    return True
