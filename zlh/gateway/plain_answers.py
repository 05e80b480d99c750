"""Answers that need no thought: of known length, with nothing in their heads that speaks for others, sets cookies or
sends browsers elsewhere.

A program says most of its field lines again and again. What becomes of a line is found out once, by the same
functions as for every other answer, and kept.
"""

from __future__ import annotations

from typing import TypeVar

from zlh.gateway.ide_fields import answer_fields
from zlh.ide import Place
from zlh.wire.http import (
    MAX_FIELDS,
    MAX_HEAD,
    HeadError,
    ResponseHead,
    build_fields,
    build_response,
    end_to_end,
    parse_response,
)

T = TypeVar("T")

REMEMBERED = 4096
LONGEST_LINE = 256

_LENGTH = b"\r\ncontent-length: "
# What a place has to say something to, or what is about the one connection.
_UNUSUAL = frozenset(
    (
        b"content-location",
        b"location",
        b"service-worker-allowed",
        b"set-cookie",
        b"transfer-encoding",
        b"upgrade",
    )
)
_STREAM = (b"content-type", b"text/event-stream")
_KEEP_ALIVE = frozenset((b"keep-alive",))
_DROPPED = frozenset((b"x-request-id",))


class UnusualError(Exception):
    """Somebody else has to look at this answer; it may be wrong, too."""


class PlainAnswers:
    """`place` is any of the kind that all places here are of: with a prefix or without."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._starts: dict[bytes, tuple[bytes, bool]] = {}
        self._lines: dict[bytes, bytes] = {}

    def read(self, head: bytes) -> tuple[bytes, int]:
        """What the client gets, without the head's last field and its empty line; and the length of the body. `head`
        is without its empty line. Raises UnusualError."""
        start, *lines = head.split(b"\r\n")
        if len(head) > MAX_HEAD or len(lines) > MAX_FIELDS:
            raise UnusualError
        begun, has_body = self._starts.get(start) or self._begin(start)
        known = self._lines
        try:
            built = begun + b"".join([known[line] for line in lines])
        except KeyError:
            built = begun + b"".join([self._line(line) for line in lines])
        at = built.find(_LENGTH)
        if (at < 0 and has_body) or (at >= 0 and built.find(_LENGTH, at + 1) >= 0):
            raise UnusualError
        if not has_body:
            return built, 0
        at += len(_LENGTH)
        return built, int(built[at : built.find(b"\r", at)])

    def _begin(self, start: bytes) -> tuple[bytes, bool]:
        """The status line, and whether a body follows."""
        answer = _parsed(start)
        if answer.status < 200 or answer.status == 204 or not answer.minor:
            raise UnusualError
        begun = build_response(answer.status, []).removesuffix(b"\r\n"), answer.has_body(b"GET")
        if len(start) <= LONGEST_LINE:
            _remember(self._starts, start, begun)
        return begun

    def _line(self, line: bytes) -> bytes:
        """What becomes of a field line: nothing of some."""
        found = self._lines.get(line)
        if found is not None:
            return found
        answer = _parsed(b"HTTP/1.1 200 OK\r\n" + line)
        (field,) = answer.fields
        if field[0] in _UNUSUAL or field == _STREAM or not answer.connection <= _KEEP_ALIVE:
            raise UnusualError
        if answer.length is not None:
            field = (field[0], b"%d" % answer.length)
        built = build_fields(answer_fields(end_to_end([field], answer.connection, _DROPPED), self._place, ()))
        if len(line) <= LONGEST_LINE:
            _remember(self._lines, line, built)
        return built


def _parsed(head: bytes) -> ResponseHead:
    try:
        return parse_response(head)
    except HeadError:
        raise UnusualError from None


def _remember(memory: dict[bytes, T], line: bytes, found: T) -> None:
    """Lines that were never seen before may come for ever: when there are many, all are learned anew."""
    if len(memory) >= REMEMBERED:
        memory.clear()
    memory[line] = found
