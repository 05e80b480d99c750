"""Heads: what is well formed is read exactly, what could be read in two ways is refused, nothing can be injected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlh.wire.http import HeadError, build_request, build_response, end_to_end, parse_request, parse_response

GOOD = b"GET /a?b=1 HTTP/1.1\r\nHost: api.example.com:8080"


def test_a_plain_request() -> None:
    head = parse_request(GOOD + b"\r\nConnection: Keep-Alive, X-Hop\r\nX-Hop: 1\r\nAccept: \t*/* \r\nEmpty:")
    assert (head.method, head.target, head.minor, head.host) == (b"GET", b"/a?b=1", 1, b"api.example.com:8080")
    assert (head.path, head.query, head.length, head.keeps_alive) == (b"/a", b"b=1", 0, True)
    assert head.get(b"accept") == b"*/*"
    assert head.get(b"empty") == b""
    assert head.get(b"absent") is None
    forwarded = end_to_end(head.fields, head.connection, frozenset((b"accept",)))
    assert forwarded == [(b"host", b"api.example.com:8080"), (b"empty", b"")]


def test_bodies_and_upgrades() -> None:
    assert parse_request(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 12").length == 12
    assert parse_request(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked").length is None
    assert parse_request(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue").expects_continue
    assert parse_request(GOOD + b"\r\nUpgrade: WebSocket\r\nConnection: upgrade").upgrade == b"websocket"
    assert parse_request(GOOD + b"\r\nUpgrade: websocket").upgrade == b""
    assert not parse_request(GOOD + b"\r\nConnection: close").keeps_alive
    assert not parse_request(b"GET / HTTP/1.0").keeps_alive
    assert parse_request(b"GET / HTTP/1.0\r\nConnection: keep-alive").keeps_alive
    assert parse_request(b"GET / HTTP/1.1\r\nHost: [::1]:80").host == b"[::1]:80"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"PRI * HTTP/2.0", 400),
        (b"", 400),
        (b"GET /", 400),
        (b"GET  / HTTP/1.1\r\nHost: x", 400),
        (b"GET / HTTP/1.1 \r\nHost: x", 400),
        (b" GET / HTTP/1.1\r\nHost: x", 400),
        (b"G(T / HTTP/1.1\r\nHost: x", 400),
        (b"GET / HTTP/2.0\r\nHost: x", 505),
        (b"GET / HTTP/1.2\r\nHost: x", 505),
        (b"GET / HTTP/11\r\nHost: x", 400),
        (b"GET / http/1.1\r\nHost: x", 400),
        (b"GET / HTTP/1.1", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: x", 400),
        (b"GET / HTTP/1.1\r\nHost: a b", 400),
        (b"GET / HTTP/1.1\r\nHost: x@y", 400),
        (b"GET / HTTP/1.1\r\nHost:", 400),
        (b"GET http://x/ HTTP/1.1\r\nHost: x", 400),
        (b"GET /\xc3\xa4 HTTP/1.1\r\nHost: x", 400),
        (b"GET /#a HTTP/1.1\r\nHost: x", 400),
        (b"GET * HTTP/1.1\r\nHost: x", 400),
        (b"GET //evil.example/a HTTP/1.1\r\nHost: x", 400),
        (b"get / HTTP/1.1\r\nHost: x", 400),
        (b"Head / HTTP/1.1\r\nHost: x", 400),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x", 501),
        (b"TRACE / HTTP/1.1\r\nHost: x", 501),
        (b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nHost: x", 414),
        (GOOD + b"\r\nA: " + b"a" * 32768, 431),
        (GOOD + b"\r\nA: b" * 100, 431),
        (GOOD + b"\r\n folded: x", 400),
        (GOOD + b"\r\nA: b\r\n\tc", 400),
        (GOOD + b"\nA: b", 400),
        (GOOD + b"\rA: b", 400),
        (GOOD + b"\r\nA: b\0", 400),
        (GOOD + b"\r\nA: b\x7f", 400),
        (GOOD + b"\r\nA : b", 400),
        (GOOD + b"\r\nA", 400),
        (GOOD + b"\r\n: b", 400),
        (GOOD + b"\r\nA\xe4: b", 400),
        (GOOD + b"\r\nAuthorization: a\r\nAuthorization: b", 400),
        (GOOD + b"\r\nExpect: tea", 417),
        (GOOD + b"\r\nContent-Length: 1\r\nContent-Length: 1", 400),
        (GOOD + b"\r\nContent-Length: 1, 1", 400),
        (GOOD + b"\r\nContent-Length: +1", 400),
        (GOOD + b"\r\nContent-Length: -1", 400),
        (GOOD + b"\r\nContent-Length: 0x1", 400),
        (GOOD + b"\r\nContent-Length: 1_0", 400),
        (GOOD + b"\r\nContent-Length:", 400),
        (GOOD + b"\r\nContent-Length: 1\r\nTransfer-Encoding: chunked", 400),
        (GOOD + b"\r\nTransfer-Encoding: chunked\r\nContent-Length: 1", 400),
        (GOOD + b"\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        (GOOD + b"\r\nTransfer-Encoding: gzip, chunked", 400),
        (GOOD + b"\r\nTransfer-Encoding: chunked, identity", 400),
        (GOOD + b"\r\nTransfer-Encoding: xchunked", 400),
        (GOOD + b"\r\nTransfer-Encoding: \x0bchunked", 400),
        (GOOD + b"\r\nTransfer-Encoding : chunked", 400),
        (GOOD + b"\r\nTransfer-Encoding:", 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked", 400),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(head: bytes, status: int) -> None:
    with pytest.raises(HeadError) as caught:
        parse_request(head)
    assert caught.value.status == status


@given(st.binary(max_size=300))
def test_any_bytes_are_a_head_or_a_refusal(data: bytes) -> None:
    for parse in (parse_request, parse_response):
        try:
            parse(data)
        except HeadError as error:
            refused = error.status
        else:
            refused = 400
        assert 400 <= refused < 600


@given(st.binary(max_size=60))
def test_any_bytes_in_a_field_line_never_make_another_field(data: bytes) -> None:
    try:
        head = parse_request(GOOD + b"\r\nX-A: " + data)
    except HeadError:
        return
    assert [name for name, _ in head.fields] == [b"host", b"x-a"]
    assert head.fields[1][1] == data.strip(b" \t")


names = st.one_of(st.sampled_from([b"x-a", b"set-cookie", b"x_b"]), st.binary(min_size=1, max_size=8))
values = st.one_of(st.from_regex(rb"[ -~]{0,20}", fullmatch=True), st.binary(max_size=12))


@given(st.lists(st.tuples(names, values), max_size=5), st.binary(max_size=20))
def test_what_is_built_reads_back_as_it_was_meant(fields: list[tuple[bytes, bytes]], target: bytes) -> None:
    meant = [(name.lower(), value.strip(b" \t")) for name, value in fields]
    try:
        request = build_request(b"GET", b"/" + target, [(b"host", b"x"), *fields])
        response = build_response(200, fields)
    except ValueError:
        return
    assert request.endswith(b"\r\n\r\n")
    # No name of the strategy decides about framing, so whatever could be built must be read, and as it was meant.
    assert parse_request(request[:-4]).fields == [(b"host", b"x"), *meant]
    assert parse_response(response[:-4]).fields == meant


@pytest.mark.parametrize("reason", [b"OK\r\nX: y", b"O\0K", b"\xff"])
def test_a_reason_cannot_inject(reason: bytes) -> None:
    with pytest.raises(ValueError):
        build_response(200, [], reason)


def test_responses() -> None:
    head = parse_response(b"HTTP/1.1 200 All is well\r\nContent-Length: 5\r\nConnection: close")
    assert (head.status, head.reason, head.length, head.keeps_alive) == (200, b"All is well", 5, False)
    assert head.has_body(b"GET")
    assert not head.has_body(b"HEAD")
    assert parse_response(b"HTTP/1.1 200\r\nTransfer-Encoding: chunked").chunked
    assert not parse_response(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5").has_body(b"GET")
    assert not parse_response(b"HTTP/1.0 200 OK").keeps_alive


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/2 200 OK",
        b"HTTP/1.1 99 x",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip",
        b"ICY 200 OK",
    ],
)
def test_ambiguous_responses_are_refused(head: bytes) -> None:
    with pytest.raises(HeadError):
        parse_response(head)
