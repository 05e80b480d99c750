from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlh.wire.chunked import LAST_CHUNK, ChunkedDecoder, TooLargeError, chunk
from zlh.wire.http import HeadError


def decode(data: bytes, cuts: list[int], **limits: int) -> tuple[bytes, bytes | str]:
    decoder = ChunkedDecoder(**limits)
    edges = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    body = rest = b""
    try:
        for start, end in itertools.pairwise(edges):
            if decoder.done:
                rest += data[start:end]
                continue
            body += decoder.feed(data[start:end])
    except (HeadError, TooLargeError) as error:
        return b"", type(error).__name__
    return body, decoder.rest + rest if decoder.done else "unfinished"


@given(
    st.lists(st.binary(max_size=80), max_size=8), st.lists(st.integers(0, 800), max_size=20), st.binary(max_size=9)
)
def test_what_is_built_is_decoded_in_any_pieces(parts: list[bytes], cuts: list[int], rest: bytes) -> None:
    data = b"".join(chunk(part) for part in parts) + LAST_CHUNK + rest
    assert decode(data, cuts) == (b"".join(parts), rest)


chunk_bytes = st.lists(
    st.sampled_from([b"\r\n", b"\r", b"\n", b"0", b"3", b"a", b"abc", b";x", b" ", b"\0"]), max_size=14
)


@given(chunk_bytes.map(b"".join), st.lists(st.integers(0, 40), max_size=20))
def test_any_bytes_end_the_same_in_any_pieces(data: bytes, cuts: list[int]) -> None:
    _, whole = decode(data, [], max_body=20)
    _, pieces = decode(data, cuts, max_body=20)
    # A malformed line may be noticed only once it has ended, but never taken for a body.
    assert pieces == whole


@pytest.mark.parametrize(
    "data",
    [
        b"x\r\n",
        b"-1\r\n",
        b"0x3\r\nabc\r\n",
        b"\r\n",
        b" 3\r\nabc\r\n",
        b"3\nabc\r\n",
        b"3\r\nabcd\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"123456789\r\n",
        b"3;\0\r\nabc\r\n",
        b"3;" + b"x" * 600,
        b"0\r\nA : b\r\n\r\n",
        b"0\r\n" + b"A: b\r\n" * 2000,
    ],
)
def test_malformed_chunks_are_refused(data: bytes) -> None:
    with pytest.raises(HeadError):
        ChunkedDecoder().feed(data)


def test_limits() -> None:
    with pytest.raises(TooLargeError):
        ChunkedDecoder(10).feed(b"b\r\n")
    with pytest.raises(TooLargeError):
        ChunkedDecoder(10).feed(chunk(b"x" * 8) + b"3\r\n")
    with pytest.raises(TooLargeError):
        ChunkedDecoder().feed((b"1;" + b"x" * 500 + b"\r\nx\r\n") * 1000)


def test_extensions_and_trailers_are_dropped() -> None:
    assert decode(b"3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\nGET", []) == (b"abc", b"GET")
