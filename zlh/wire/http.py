"""HTTP/1.1 heads, parsed strictly and built so that nothing can be injected. No I/O.

httptools splits the field lines; everything that decides where a message ends, and everything that two parsers could
read differently, is checked here: bytes that are neither text nor CRLF, folded lines, fields that must be single,
lengths, codings, host and target. Field names come out in lower case, values without surrounding blanks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus

import httptools

HEAD_END = b"\r\n\r\n"
MAX_HEAD = 32 * 1024
MAX_FIELDS = 100
MAX_TARGET = 8 * 1024

Fields = list[tuple[bytes, bytes]]

_CONTROLS = bytes(set(range(0x20)) - {0x09, 0x0A, 0x0D}) + b"\x7f"
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# Not two slashes first: some read a host there.
_TARGET = re.compile(rb"/(?!/)[\x21\x22\x24-\x7e]*")
_HOST = re.compile(rb"(?:[A-Za-z0-9._\-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_LENGTH = re.compile(rb"[0-9]{1,15}")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([^\r\n]*))?")

# A second one of these changes what the request means, so it is refused even where it repeats the first.
_SINGLE = frozenset(
    (
        b"authorization",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"origin",
        b"sec-websocket-key",
        b"sec-websocket-version",
        b"transfer-encoding",
    )
)

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)


class HeadError(Exception):
    """A head that is refused. `status` is what a client is told: 400, 414, 417, 431, 501 or 505."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


@dataclass(slots=True)
class RequestHead:
    """A valid request head. `length` is the body's length in bytes (0 for none), or None where it is chunked.

    `host` is empty only for HTTP/1.0. `connection` are the lower-case tokens of the Connection field; `upgrade` is
    the lower-case Upgrade value where that field is named there, else empty.
    """

    method: bytes
    target: bytes
    minor: int
    fields: Fields
    host: bytes
    length: int | None
    connection: frozenset[bytes]
    upgrade: bytes
    expects_continue: bool

    @property
    def path(self) -> bytes:
        """The target without its query, not decoded."""
        return self.target.partition(b"?")[0]

    @property
    def query(self) -> bytes:
        return self.target.partition(b"?")[2]

    @property
    def keeps_alive(self) -> bool:
        """Whether the client wants to go on with this connection after the answer."""
        if self.minor == 0:
            return b"keep-alive" in self.connection
        return b"close" not in self.connection

    def get(self, name: bytes) -> bytes | None:
        """The first value of a field, by its lower-case name."""
        for field, value in self.fields:
            if field == name:
                return value
        return None


@dataclass(slots=True)
class ResponseHead:
    """A valid response head. `length` is None where no Content-Length came; `chunked` and a length never meet.

    Whether a body follows depends on the request too: see `has_body`.
    """

    status: int
    minor: int
    reason: bytes
    fields: Fields
    length: int | None
    chunked: bool
    connection: frozenset[bytes]
    upgrade: bytes

    @property
    def keeps_alive(self) -> bool:
        if self.minor == 0:
            return b"keep-alive" in self.connection
        return b"close" not in self.connection

    def has_body(self, method: bytes) -> bool:
        """Whether bytes of a body follow this head when it answers `method` (RFC 9112, 6.3)."""
        return not (method == b"HEAD" or self.status < 200 or self.status in (204, 304))


def parse_request(head: bytes) -> RequestHead:
    """Parses a head without its closing empty line. Raises HeadError."""
    line, fields = _split(head)
    parts = line.split(b" ")
    if len(parts) != 3:
        raise HeadError("the request line is not a method, a target and a version")
    method, target, version = parts
    minor = _request_version(method, version)
    _check_target(method, target)
    host = length = coding = None
    connection: frozenset[bytes] = frozenset()
    upgrade = expect = b""
    seen = set()
    for name, value in fields:
        if name in _SINGLE:
            if name in seen:
                raise HeadError(f"more than one {name.decode()} field")
            seen.add(name)
            if name == b"host":
                host = value
            elif name == b"content-length":
                length = _length(value)
            elif name == b"transfer-encoding":
                coding = value
            elif name == b"expect":
                expect = value.lower()
        elif name == b"connection":
            connection |= _tokens(value)
        elif name == b"upgrade":
            upgrade = value.lower()
    if expect and expect != b"100-continue":
        raise HeadError("an expectation that cannot be met", 417)
    return RequestHead(
        method=method,
        target=target,
        minor=minor,
        fields=fields,
        host=_host(host, minor),
        length=None if _is_chunked(coding, length, minor) else length or 0,
        connection=connection,
        upgrade=upgrade if b"upgrade" in connection else b"",
        expects_continue=bool(expect) and minor == 1,
    )


def parse_response(head: bytes) -> ResponseHead:
    """Parses an upstream's head without its closing empty line. Raises HeadError."""
    line, fields = _split(head)
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise HeadError("not an HTTP/1 status line")
    minor = int(match[1])
    length = coding = None
    connection: frozenset[bytes] = frozenset()
    upgrade = b""
    for name, value in fields:
        if name == b"content-length":
            if length is not None:
                raise HeadError("more than one content-length field")
            length = _length(value)
        elif name == b"transfer-encoding":
            if coding is not None:
                raise HeadError("more than one transfer-encoding field")
            coding = value
        elif name == b"connection":
            connection |= _tokens(value)
        elif name == b"upgrade":
            upgrade = value.lower()
    return ResponseHead(
        status=int(match[2]),
        minor=minor,
        reason=match[3] or b"",
        fields=fields,
        length=length,
        chunked=_is_chunked(coding, length, minor),
        connection=connection,
        upgrade=upgrade,
    )


class _FieldCollector:
    """What httptools calls back. The type of a value is None where nothing stood behind the colon."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: Fields = []

    def on_header(self, name: bytes, value: bytes | None) -> None:
        self.fields.append((name.lower(), (value or b"").strip(b" \t")))


def _split(head: bytes) -> tuple[bytes, Fields]:
    """The first line and the fields; refuses what could be read in two ways."""
    if len(head) > MAX_HEAD:
        raise HeadError(f"a head of more than {MAX_HEAD} bytes", 431)
    lines = head.count(b"\r\n")
    if head.count(b"\r") != lines or head.count(b"\n") != lines:
        raise HeadError("a line that does not end in CRLF")
    if len(head.translate(None, _CONTROLS)) != len(head):
        raise HeadError("a control byte")
    if b"\n " in head or b"\n\t" in head:
        raise HeadError("a folded field line")
    if lines > MAX_FIELDS:
        raise HeadError(f"more than {MAX_FIELDS} fields", 431)
    line, _, block = head.partition(b"\r\n")
    if not block:
        return line, []
    collector = _FieldCollector()
    # A request line of our own: the parser is only asked to split fields, for requests and responses alike.
    try:
        httptools.HttpRequestParser(collector).feed_data(b"GET / HTTP/1.1\r\n" + block + HEAD_END)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise HeadError("a malformed field line") from error
    if len(collector.fields) != lines:
        raise HeadError("a malformed field line")
    return line, collector.fields


def _request_version(method: bytes, version: bytes) -> int:
    if _TOKEN.fullmatch(method) is None or len(method) > 32:
        raise HeadError("a malformed method")
    if method == b"PRI":
        raise HeadError("HTTP/2 is not spoken here")
    if method != method.upper():
        # Case matters in a method, but Hypercorn overlooks it: a "head" would be answered like a HEAD.
        raise HeadError("a method that is not in capitals")
    if version == b"HTTP/1.1":
        return 1
    if version == b"HTTP/1.0":
        return 0
    if re.fullmatch(rb"HTTP/[0-9]\.[0-9]", version):
        raise HeadError("only HTTP/1.0 and HTTP/1.1 are spoken here", 505)
    raise HeadError("a malformed version")


def _check_target(method: bytes, target: bytes) -> None:
    if method in (b"CONNECT", b"TRACE"):
        raise HeadError(f"{method.decode()} is not supported", 501)
    if len(target) > MAX_TARGET:
        raise HeadError(f"a target of more than {MAX_TARGET} bytes", 414)
    if _TARGET.fullmatch(target) is None and not (target == b"*" and method == b"OPTIONS"):
        raise HeadError("a target that is not a path of printable ASCII")


def _host(host: bytes | None, minor: int) -> bytes:
    if host is None:
        if minor == 1:
            raise HeadError("no host field")
        return b""
    if _HOST.fullmatch(host) is None:
        raise HeadError("a malformed host")
    return host


def _length(value: bytes) -> int:
    if _LENGTH.fullmatch(value) is None:
        raise HeadError("a malformed content-length")
    return int(value)


def _is_chunked(coding: bytes | None, length: int | None, minor: int) -> bool:
    if coding is None:
        return False
    if length is not None:
        raise HeadError("both content-length and transfer-encoding")
    if minor == 0:
        raise HeadError("a transfer-encoding in HTTP/1.0")
    if coding.lower() != b"chunked":
        raise HeadError("a transfer-encoding other than chunked")
    return True


def _tokens(value: bytes) -> frozenset[bytes]:
    return frozenset(token.strip(b" \t") for token in value.lower().split(b","))


def end_to_end(fields: Fields, connection: frozenset[bytes], drop: frozenset[bytes] = frozenset()) -> Fields:
    """The fields that go on to the next hop: without hop-by-hop ones, those that Connection names, and `drop`. Host
    stays whatever is said of it: no request can do without."""
    named = connection - {b"close", b"host", b"keep-alive", b"upgrade"}
    gone = HOP_BY_HOP | drop | named if named else HOP_BY_HOP | drop
    return [field for field in fields if field[0] not in gone]


def build_request(method: bytes, target: bytes, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A whole HTTP/1.1 request head. Raises ValueError where anything in it would end a line early."""
    if _TOKEN.fullmatch(method) is None or (_TARGET.fullmatch(target) is None and target != b"*"):
        raise ValueError("a method or target that cannot be sent")
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, build_fields(fields))


def build_response(
    status: int, fields: Iterable[tuple[bytes, bytes]], reason: bytes | None = None, *, prebuilt: bytes = b""
) -> bytes:
    """A whole HTTP/1.1 response head; `reason` is the standard phrase unless given, `prebuilt` is what `build_fields`
    made of more fields. Raises ValueError as above."""
    if reason is None:
        reason = _PHRASES.get(status, b"")
    elif not reason.isascii() or not reason.decode().isprintable():
        raise ValueError("a reason that cannot be sent")
    return b"HTTP/1.1 %d %b\r\n%b%b\r\n" % (status, reason, prebuilt, build_fields(fields))


def build_fields(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The lines of a head's fields. Raises ValueError as above."""
    lines = [b"%b: %b\r\n" % field for field in fields if _is_name(field[0])]
    block = b"".join(lines)
    # Each line ends once and holds no other line end or control byte: cheaper than looking at every value.
    ends = (block.count(b"\r\n"), block.count(b"\r"), block.count(b"\n"))
    if ends != (len(lines),) * 3 or len(block.translate(None, _CONTROLS)) != len(block):
        raise ValueError("a field that cannot be sent")
    return block


@lru_cache(maxsize=4096)
def _is_name(name: bytes) -> bool:
    """True, or ValueError."""
    if _TOKEN.fullmatch(name) is None:
        raise ValueError("a field name that cannot be sent")
    return True


_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
