"""Websocket frames (RFC 6455) as values: built from bytes, decoded from whatever a read brought. No I/O, no clock.

Extensions are never negotiated here, so a reserved bit is a violation and nothing is ever decompressed.
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass
from enum import IntEnum

_ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FIN = 0x80
_MASKED = 0x80
_COMPRESSED = 0x40
MAX_CONTROL_PAYLOAD = 125


class Opcode(IntEnum):
    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class CloseCode(IntEnum):
    """Close codes that this product sends; 44xx are ours and mirror HTTP 4xx. NO_STATUS never goes on the wire."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    NO_STATUS = 1005
    ABNORMAL = 1006
    INVALID_PAYLOAD = 1007
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL = 1011
    RESTART = 1012
    TRY_AGAIN = 1013
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    GONE = 4404


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Binary:
    data: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    data: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    data: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """The peer closes. `code` is CloseCode.NO_STATUS where its close frame was empty."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Violation:
    """The peer broke the protocol or a limit: answer with a close frame of `code` and drop the connection."""

    code: int
    reason: str


Event = Text | Binary | Ping | Pong | Close | Violation


def accept_key(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept value for a Sec-WebSocket-Key (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _ACCEPT_GUID, usedforsecurity=False).digest())


def new_key() -> bytes:
    """A fresh Sec-WebSocket-Key for a client's handshake."""
    return base64.b64encode(os.urandom(16))


def is_key(key: bytes) -> bool:
    """Whether this is the base64 of sixteen bytes, as Sec-WebSocket-Key must be."""
    try:
        return len(key) == 24 and len(base64.b64decode(key, validate=True)) == 16
    except ValueError:
        return False


def mask_payload(payload: bytes | bytearray | memoryview, mask: bytes) -> bytes:
    """XORs with a four-byte mask; doing it twice gives the payload back. One big integer is faster than a loop."""
    size = len(payload)
    if size == 0:
        return b""
    stream = (mask * ((size + 3) // 4))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(stream, "little")).to_bytes(size, "little")


def _header(opcode: int, size: int, mask_bit: int, fin: bool) -> bytes:
    first = opcode | _FIN if fin else opcode
    if size < 126:
        return bytes((first, mask_bit | size))
    if size < 1 << 16:
        return bytes((first, mask_bit | 126)) + size.to_bytes(2, "big")
    return bytes((first, mask_bit | 127)) + size.to_bytes(8, "big")


def server_frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """An unmasked frame, as a server sends it."""
    return _header(opcode, len(payload), 0, fin) + payload


def client_frame(opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bytes | None = None) -> bytes:
    """A masked frame, as a client sends it; `mask` is four random bytes unless given."""
    mask = os.urandom(4) if mask is None else mask
    return _header(opcode, len(payload), _MASKED, fin) + mask + mask_payload(payload, mask)


def close_payload(code: int, reason: str = "") -> bytes:
    """The payload of a close frame; the reason is cut at a character's end to the 123 bytes that fit."""
    encoded = reason.encode()[: MAX_CONTROL_PAYLOAD - 2]
    return code.to_bytes(2, "big") + encoded.decode(errors="ignore").encode()


def parse_close(payload: bytes) -> Close | Violation:
    if not payload:
        return Close(CloseCode.NO_STATUS, "")
    if len(payload) == 1:
        return Violation(CloseCode.PROTOCOL_ERROR, "a close payload of one byte")
    code = int.from_bytes(payload[:2], "big")
    # RFC 6455, 7.4 and the IANA registry: 1004 to 1006 and 1015 are never sent, 3000 to 4999 are free to use.
    if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        return Violation(CloseCode.PROTOCOL_ERROR, f"close code {code}")
    try:
        reason = payload[2:].decode()
    except UnicodeDecodeError:
        return Violation(CloseCode.INVALID_PAYLOAD, "a close reason that is not UTF-8")
    return Close(code, reason)


def check_frame_start(
    first: int, second: int, *, masked: bool, open_message: bool, compressed: bool = False
) -> str | None:
    """What is wrong with the first two bytes of a frame, or None. `open_message`: fragments of one came already;
    `compressed`: permessage-deflate (RFC 7692) was negotiated, whose bit marks the first frame of a message."""
    opcode = first & 0x0F
    allowed = _COMPRESSED if compressed and opcode in (Opcode.TEXT, Opcode.BINARY) else 0
    if first & 0x70 & ~allowed:
        return "reserved bits are set"
    if bool(second & _MASKED) != masked:
        return "frames from a client must be masked" if masked else "frames from a server must not be masked"
    if opcode >= 0x8:
        if opcode > Opcode.PONG:
            return f"opcode {opcode}"
        if not first & _FIN:
            return "a fragmented control frame"
        if second & 0x7F > MAX_CONTROL_PAYLOAD:
            return "a control frame of more than 125 bytes"
        return None
    if opcode > Opcode.BINARY:
        return f"opcode {opcode}"
    if open_message and opcode != Opcode.CONTINUATION:
        return "a new message inside a fragmented one"
    if not open_message and opcode == Opcode.CONTINUATION:
        return "a continuation of nothing"
    return None


class FrameDecoder:
    """Turns a peer's bytes into events, whatever the chunks they come in.

    `masked`: the peer is a client. `max_message` is in bytes, over all fragments of a message; `max_fragments` counts
    the frames of one message. A Violation or Close is the last event: everything after it is ignored.
    """

    def __init__(self, *, masked: bool, max_message: int = 1 << 20, max_fragments: int = 1024) -> None:
        self._masked = masked
        self._max_message = max_message
        self._max_fragments = max_fragments
        self._buffer = bytearray()
        self._wanted = 2
        self._opcode = 0
        self._parts = bytearray()
        self._fragments = 0
        self.ended = False

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete, in order. Never raises."""
        events: list[Event] = []
        if not self.ended:
            self._buffer += data
            self._take_frames(events)
        return events

    def _take_frames(self, events: list[Event]) -> None:
        buffer = self._buffer
        position = 0
        while len(buffer) - position >= self._wanted:
            step = self._next_frame(position, events)
            if self.ended:
                buffer.clear()
                return
            if step:
                position += step
                self._wanted = 2
        if position:
            del buffer[:position]

    def _next_frame(self, start: int, events: list[Event]) -> int:
        """The length of the whole frame at `start`, handled; or 0, with `_wanted` bytes needed to go on."""
        buffer = self._buffer
        first = buffer[start]
        second = buffer[start + 1]
        problem = check_frame_start(first, second, masked=self._masked, open_message=bool(self._fragments))
        if problem is not None:
            return self._fail(events, CloseCode.PROTOCOL_ERROR, problem)
        size = second & 0x7F
        head = 2
        if size >= 126:
            extended = 2 if size == 126 else 8
            head += extended
            if len(buffer) - start < head:
                self._wanted = head
                return 0
            size = int.from_bytes(buffer[start + 2 : start + head], "big")
            if size < 126 or (extended == 8 and size < 1 << 16):
                return self._fail(events, CloseCode.PROTOCOL_ERROR, "a length that is not in its shortest form")
        if first & 0x0F < 0x8 and len(self._parts) + size > self._max_message:
            return self._fail(events, CloseCode.TOO_BIG, f"a message of more than {self._max_message} bytes")
        body = start + head + (4 if self._masked else 0)
        end = body + size
        if len(buffer) < end:
            self._wanted = end - start
            return 0
        payload = bytes(buffer[body:end])
        if self._masked:
            payload = mask_payload(payload, bytes(buffer[body - 4 : body]))
        self._frame(first & 0x0F, bool(first & _FIN), payload, events)
        return end - start

    def _frame(self, opcode: int, fin: bool, payload: bytes, events: list[Event]) -> None:
        if opcode >= 0x8:
            self._control(opcode, payload, events)
        elif fin and not self._fragments:
            self._message(opcode, payload, events)
        else:
            self._fragment(opcode, fin, payload, events)

    def _control(self, opcode: int, payload: bytes, events: list[Event]) -> None:
        if opcode == Opcode.PING:
            events.append(Ping(payload))
        elif opcode == Opcode.PONG:
            events.append(Pong(payload))
        else:
            events.append(parse_close(payload))
            self.ended = True

    def _fragment(self, opcode: int, fin: bool, payload: bytes, events: list[Event]) -> None:
        if opcode != Opcode.CONTINUATION:
            self._opcode = opcode
        self._fragments += 1
        if self._fragments > self._max_fragments:
            self._fail(events, CloseCode.POLICY, f"a message of more than {self._max_fragments} fragments")
            return
        self._parts += payload
        if fin:
            whole = bytes(self._parts)
            self._parts = bytearray()
            self._fragments = 0
            self._message(self._opcode, whole, events)

    def _message(self, opcode: int, payload: bytes, events: list[Event]) -> None:
        if opcode == Opcode.BINARY:
            events.append(Binary(payload))
            return
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            self._fail(events, CloseCode.INVALID_PAYLOAD, "text that is not UTF-8")
            return
        events.append(Text(text))

    def _fail(self, events: list[Event], code: CloseCode, reason: str) -> int:
        events.append(Violation(code, reason))
        self.ended = True
        return 0
