"""Whatever is asked and answered: with the fast lane, program and client see what they see without it."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway.ide import HOST, ZONE, Guest, Scene, guest, open_scene
from tests.gateway.peer import Answer
from zlh.wire.http import Fields

ASKS = 3
"""Nothing is known of the first of these heads, and everything of the last."""

names = st.sampled_from(
    (
        *("Accept", "Accept-Language", "Range", "X-A", "x-b", "Referer", "Content-Type", "If-None-Match", "Via"),
        *("Connection", "Keep-Alive", "TE", "Trailer", "Upgrade", "Proxy-Authorization", "Proxy-Connection"),
        *("Cookie", "Authorization", "Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Expect"),
        *("X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "Forwarded", "X-Request-Id", "Host"),
    )
)
words = st.sampled_from(
    (
        *("", "x", "0", "close", "keep-alive", "x-a", "Keep-Alive, X-A", "upgrade", "100-continue", "a, b"),
        *("own=1", "zlh-pass=bad", "zlh-pass=good", "zlh-ide-1=x; own=2", " own=1 ; zlh-x=2", "Basic abc"),
        *("Bearer zlh_key", f"http://{HOST}", "https://evil.example", "same-origin", "cross-site", "navigate"),
        *("document", "127.0.0.1", "10.0.0.1, 10.0.0.2", HOST, "\x80\xff", "tab\there", "  blanks  "),
    )
)
odd = st.sampled_from(
    (
        *("no colon", ": no name", "X Y: z", " folded: x", "X: a\x00b", "X: a\nY: b", "X: a\rb", "X : y"),
        *("Content-Length: 0", "Content-Length: x", "Content-Length: 00", "Content-Length: -1", f"Host: {HOST}"),
        *("Transfer-Encoding: gzip", "X: " + "y" * 9000, "X-Long: " + "z" * 300),
    )
)
plain = st.builds("{}: {}".format, names, words)
lines = st.lists(plain, max_size=8).flatmap(
    lambda usual: st.lists(odd, max_size=1).map(lambda strange: [*usual, *strange])
)
targets = st.sampled_from(
    (
        "/",
        "/a/b?c=d",
        "/a//b",
        "//evil/",
        "/?token=x",
        "/x?mytoken=y",
        "/.zlh/start2",
        "/%00",
        "/a b",
        "/#x",
        "*",
        "x",
        "/\\x",
    )
)
answer_names = st.sampled_from(
    (
        *("Server", "Date", "ETag", "Content-Type", "Cache-Control", "Vary", "X-A", "x-request-id", "Alt-Svc"),
        *("Connection", "Keep-Alive", "Upgrade", "X-Accel-Redirect", "X-Sendfile", "NEL", "Report-To", "Trailer"),
        *("Strict-Transport-Security", "Service-Worker-Allowed", "Set-Cookie", "Location", "Clear-Site-Data"),
    )
)
answer_words = st.sampled_from(
    (
        "x",
        "",
        "close",
        "keep-alive",
        "x-a",
        "text/event-stream",
        "text/html",
        "a=b",
        "zlh-pass=evil",
        "/x",
        "\xe4",
        "/ide/1/",
    )
)
answer_lines = st.lists(st.builds("{}: {}".format, answer_names, answer_words) | odd, max_size=8)
starts = st.sampled_from(
    (
        "HTTP/1.1 200 OK",
        "HTTP/1.1 404 Nope",
        "HTTP/1.1 304 Not Modified",
        "HTTP/1.0 200 OK",
        "HTTP/1.1 200",
        "HTTP/2 200",
        "HTTP/1.1 999 X",
    )
)
lengths = st.sampled_from(
    ("Content-Length: 5", "content-length:  5 ", "Content-Length: 05", "Content-Length: 3", "Content-Length: 0")
)

Seen = tuple[list[Any], list[Any]]


async def asked_three_times(lane: bool, zone: str, target: str, asks: list[str], answer: bytes | None) -> Seen:
    """What the client got, and what the program did."""
    async with open_scene(zone=zone) as scene:
        if not lane:
            scene.gateway._express = None
        host, prefix = (HOST, "") if zone else ("api", "/ide/6001")
        cookie = "zlh-pass=good" if zone else "zlh-ide-6001=good"
        async with guest(scene, host=host, cookie=cookie) as peer:
            await peer.ask("GET", f"{prefix}/first")
            if answer is not None:
                scene.program.answer = lambda head, body: answer
            head = "\r\n".join((f"GET {prefix}{target} HTTP/1.1", f"Host: {host}", f"Cookie: {cookie}", *asks))
            return await _several(scene, peer, head.encode("latin1") + b"\r\n\r\n")


async def _several(scene: Scene, peer: Guest, raw: bytes) -> Seen:
    got: list[Any] = []
    for _ in range(ASKS):
        await peer.send(raw)
        answer = await peer.answer()
        got.append(_told(answer))
        if not answer.head.keeps_alive:
            assert await peer.closed()
            got.append(peer.buffer)
            break
    heads = [(head.method, head.target, _own(head.fields)) for head in scene.program.heads]
    return got, heads


def _told(answer: Answer) -> Any:
    """Without what is different every time; a refusal tells its request's id."""
    refused = (b"content-type", b"application/json") in answer.head.fields
    body = b"" if refused else answer.body
    fields = [field for field in _own(answer.head.fields) if not (refused and field[0] == b"content-length")]
    return answer.status, sorted(fields), body


def _own(fields: Fields) -> Fields:
    return [field for field in fields if field[0] != b"x-request-id" or field[1] in (b"x", b"0")]


quickly = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@quickly
@given(st.sampled_from((ZONE, "")), targets, lines)
async def test_requests(zone: str, target: str, asks: list[str]) -> None:
    quick = await asked_three_times(True, zone, target, asks, None)
    assert quick == await asked_three_times(False, zone, target, asks, None)


@quickly
@given(st.sampled_from((ZONE, "")), starts, answer_lines, lengths)
async def test_answers(zone: str, start: str, said: list[str], length: str) -> None:
    answer = "\r\n".join((start, *said, length)).encode("latin1") + b"\r\n\r\n"
    if " 304 " not in start:
        answer += b"hello"
    quick = await asked_three_times(True, zone, "/x", [], answer)
    assert quick == await asked_three_times(False, zone, "/x", [], answer)
