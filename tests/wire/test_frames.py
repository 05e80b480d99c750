"""The websocket codec: what is built is decoded, in any chunks; what breaks the rules ends the stream."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlh.wire.frames import (
    Binary,
    Close,
    CloseCode,
    Event,
    FrameDecoder,
    Opcode,
    Ping,
    Pong,
    Text,
    Violation,
    accept_key,
    client_frame,
    close_payload,
    is_key,
    mask_payload,
    new_key,
    parse_close,
    server_frame,
)


def decode(data: bytes, cuts: list[int], *, masked: bool, **limits: int) -> list[Event]:
    decoder = FrameDecoder(masked=masked, **limits)
    edges = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    events: list[Event] = []
    for start, end in itertools.pairwise(edges):
        events += decoder.feed(data[start:end])
    return events


def build(event: Event, masked: bool) -> bytes:
    frame = client_frame if masked else server_frame
    match event:
        case Text(text):
            return frame(Opcode.TEXT, text.encode())
        case Binary(data):
            return frame(Opcode.BINARY, data)
        case Ping(data):
            return frame(Opcode.PING, data)
        case Pong(data):
            return frame(Opcode.PONG, data)
        case _:
            raise AssertionError(event)


small = st.binary(max_size=125)
events = st.one_of(
    st.text(max_size=300).map(Text),
    st.binary(max_size=300).map(Binary),
    st.integers(65530, 65540).map(lambda size: Binary(b"x" * size)),
    small.map(Ping),
    small.map(Pong),
)


@given(st.lists(events, max_size=6), st.lists(st.integers(0, 3000), max_size=20), st.booleans())
def test_what_is_built_is_decoded_in_any_chunks(wanted: list[Event], cuts: list[int], masked: bool) -> None:
    data = b"".join(build(event, masked) for event in wanted)
    assert decode(data, cuts, masked=masked) == wanted


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=30), st.booleans())
def test_any_bytes_give_the_same_events_in_any_chunks(data: bytes, cuts: list[int], masked: bool) -> None:
    whole = decode(data, [], masked=masked, max_message=64, max_fragments=3)
    assert decode(data, cuts, masked=masked, max_message=64, max_fragments=3) == whole


@given(st.text(min_size=1, max_size=200), st.integers(1, 5), st.lists(st.integers(0, 900), max_size=10))
def test_fragments_with_pings_between_them_are_one_message(text: str, size: int, cuts: list[int]) -> None:
    payload = text.encode()
    parts = [payload[i : i + size] for i in range(0, len(payload), size)]
    data = b""
    for index, part in enumerate(parts):
        opcode = Opcode.TEXT if index == 0 else Opcode.CONTINUATION
        data += client_frame(opcode, part, fin=index == len(parts) - 1) + client_frame(Opcode.PING, b"p")
    got = decode(data, cuts, masked=True)
    assert [event for event in got if isinstance(event, Text)] == [Text(text)]
    assert got.count(Ping(b"p")) == len(parts)


@given(st.binary(max_size=100), st.binary(min_size=4, max_size=4))
def test_masking_twice_gives_the_payload_back(payload: bytes, mask: bytes) -> None:
    masked = mask_payload(payload, mask)
    assert masked == bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    assert mask_payload(masked, mask) == payload


def violation(data: bytes, *, masked: bool = True, **limits: int) -> int:
    last = decode(data, [], masked=masked, **limits)[-1]
    assert isinstance(last, Violation), last
    return last.code


@pytest.mark.parametrize(
    ("data", "masked", "code"),
    [
        (server_frame(Opcode.TEXT, b"x"), True, CloseCode.PROTOCOL_ERROR),
        (client_frame(Opcode.TEXT, b"x"), False, CloseCode.PROTOCOL_ERROR),
        (client_frame(0x3, b"x"), True, CloseCode.PROTOCOL_ERROR),
        (client_frame(0xB, b"x"), True, CloseCode.PROTOCOL_ERROR),
        (b"\xc1\x81\0\0\0\0x", True, CloseCode.PROTOCOL_ERROR),  # RSV1, a compressed message
        (client_frame(Opcode.PING, b"x" * 126), True, CloseCode.PROTOCOL_ERROR),
        (client_frame(Opcode.PING, b"x", fin=False), True, CloseCode.PROTOCOL_ERROR),
        (client_frame(Opcode.CONTINUATION, b"x"), True, CloseCode.PROTOCOL_ERROR),
        (
            client_frame(Opcode.TEXT, b"x", fin=False) + client_frame(Opcode.TEXT, b"x"),
            True,
            CloseCode.PROTOCOL_ERROR,
        ),
        (client_frame(Opcode.TEXT, b"\xff"), True, CloseCode.INVALID_PAYLOAD),
        (b"\x82\x7e\x00\x05hello", False, CloseCode.PROTOCOL_ERROR),  # five bytes in the sixteen-bit form
        (b"\x82\x7f\x80\0\0\0\0\0\0\0", False, CloseCode.TOO_BIG),
        (client_frame(Opcode.CLOSE, b"\x03"), True, CloseCode.PROTOCOL_ERROR),
        (client_frame(Opcode.CLOSE, b"\x03\xed"), True, CloseCode.PROTOCOL_ERROR),  # 1005
        (client_frame(Opcode.CLOSE, b"\x03\xe8\xff"), True, CloseCode.INVALID_PAYLOAD),
    ],
    ids=[
        "unmasked",
        "masked",
        "opcode 3",
        "opcode 11",
        "compressed",
        "long ping",
        "ping in pieces",
        "stray continuation",
        "text within text",
        "not UTF-8",
        "length in a long form",
        "length beyond all",
        "half a close code",
        "close code 1005",
        "close reason not UTF-8",
    ],
)
def test_broken_rules_end_the_stream(data: bytes, masked: bool, code: CloseCode) -> None:
    assert violation(data, masked=masked) == code


def test_a_message_over_the_limit_is_refused_at_its_head() -> None:
    assert violation(client_frame(Opcode.BINARY, b"x" * 101)[:8], max_message=100) == CloseCode.TOO_BIG
    halves = client_frame(Opcode.BINARY, b"x" * 60, fin=False) + client_frame(Opcode.CONTINUATION, b"x" * 60)
    assert violation(halves, max_message=100) == CloseCode.TOO_BIG


def test_too_many_fragments_are_refused() -> None:
    first = client_frame(Opcode.BINARY, b"", fin=False)
    data = first + client_frame(Opcode.CONTINUATION, b"", fin=False) * 3
    assert violation(data, max_fragments=3) == CloseCode.POLICY


def test_nothing_comes_after_the_close() -> None:
    decoder = FrameDecoder(masked=True)
    close = client_frame(Opcode.CLOSE, close_payload(4401, "token ended"))
    assert decoder.feed(close + client_frame(Opcode.TEXT, b"late")) == [Close(4401, "token ended")]
    assert decoder.feed(client_frame(Opcode.TEXT, b"later")) == []


@given(st.text(max_size=200))
def test_a_close_reason_is_cut_to_what_fits(reason: str) -> None:
    payload = close_payload(1000, reason)
    assert len(payload) <= 125
    closed = parse_close(payload)
    assert isinstance(closed, Close)
    assert reason.startswith(closed.reason)
    assert len(closed.reason.encode()) == len(reason.encode()) or len(closed.reason.encode()) > 119


def test_the_handshake_key_of_the_rfc() -> None:
    assert accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert is_key(new_key())
    assert not is_key(b"dGhlIHNhbXBsZSBub25jZQ")
    assert not is_key(b"!!!!!!!!!!!!!!!!!!!!!!==")
