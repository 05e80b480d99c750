"""Chunked bodies (RFC 9112, 7.1): decoded with limits, built again for the next hop."""

from __future__ import annotations

import re

from zlh.wire.http import HeadError

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[\t\x20-\x7e]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00-\x08\x0a-\x1f\x7f]*")
_MAX_LINE = 512
_MAX_TRAILERS = 8 * 1024

LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk; empty data gives nothing, for an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


class TooLargeError(Exception):
    """The body is longer than it may be."""


class ChunkedDecoder:
    """Decodes a chunked body from whatever chunks the reads bring. Extensions and trailers are checked and dropped.

    `max_body` bounds the decoded bytes; None for a body that is passed on as it comes. A peer that sends one byte to
    a chunk costs more than its data: `max_overhead` bytes of framing are allowed per decoded byte, plus 64 KiB.
    `lines` is how many lines of framing the last `feed` met.
    """

    def __init__(self, max_body: int | None = None, *, max_overhead: int = 8) -> None:
        self._max_body = max_body
        self._max_overhead = max_overhead
        self._buffer = bytearray()
        self._left = 0
        self._in_trailers = False
        self._ends_chunk = False
        self._framing = 0
        self._trailers = 0
        self.decoded = 0
        self.lines = 0
        self.done = False

    @property
    def rest(self) -> bytes:
        """What came after the body's end; belongs to the next message."""
        return bytes(self._buffer) if self.done else b""

    def feed(self, data: bytes) -> bytes:
        """The decoded bytes. Raises HeadError (malformed) or TooLargeError; the decoder is of no use afterwards."""
        buffer = self._buffer
        buffer += data
        self.lines = 0
        out = bytearray()
        while not self.done:
            if self._left:
                if not self._take_data(out):
                    break
            elif not self._take_line():
                break
        return bytes(out)

    def _take_data(self, out: bytearray) -> bool:
        piece = self._buffer[: self._left]
        if not piece:
            return False
        out += piece
        del self._buffer[: len(piece)]
        self._left -= len(piece)
        self.decoded += len(piece)
        self._ends_chunk = self._left == 0
        return True

    def _take_line(self) -> bool:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > _MAX_LINE:
                raise HeadError("a chunk line that does not end")
            if b"\n" in self._buffer or (self._ends_chunk and len(self._buffer) >= 2):
                raise HeadError("a malformed chunk")
            return False
        if end > _MAX_LINE:
            raise HeadError("a chunk line that is too long")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        self.lines += 1
        self._framing += end + 2
        if self._framing > 64 * 1024 + self._max_overhead * self.decoded:
            raise TooLargeError("more framing than body")
        self._line(line)
        return True

    def _line(self, line: bytes) -> None:
        if self._ends_chunk:
            if line:
                raise HeadError("a chunk that is longer than its size")
            self._ends_chunk = False
        elif self._in_trailers:
            self._trailer(line)
        else:
            self._size(line)

    def _size(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise HeadError("a malformed chunk size")
        size = int(match[1], 16)
        if size == 0:
            self._in_trailers = True
        elif self._max_body is not None and self.decoded + size > self._max_body:
            raise TooLargeError(f"a body of more than {self._max_body} bytes")
        self._left = size

    def _trailer(self, line: bytes) -> None:
        if not line:
            self.done = True
            return
        self._trailers += len(line) + 2
        if self._trailers > _MAX_TRAILERS or _TRAILER.fullmatch(line) is None:
            raise HeadError("malformed trailers")
