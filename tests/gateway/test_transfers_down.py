"""Downloads through the gateway: what comes through, what does not, and how each ends."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
import trio

from tests.gateway.peer import Peer, connect, until
from tests.gateway.transfers import (
    AUTH,
    FILES,
    MIB,
    answer_bytes,
    request_head,
    saying,
    scripted_yard,
    yard,
)
from zlh.gateway import Limits
from zlh.model.agent_calls import Feature
from zlh.simulators.agent.faults import Fault, FaultName

CONTENT = f"{FILES}/content?path="
BACKUP = "/api/game/5001/backups/b1/download"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd"


async def test_a_file_comes_as_a_file(tmp_path: Path) -> None:
    async with yard(tmp_path) as made:
        (made.root / "world").mkdir()
        (made.root / "world/level.dat").write_bytes(b"0123456789" * 1000)
        async with connect(made.port) as peer:
            # Over one connection: the answers are framed.
            for _ in range(2):
                answer = await peer.ask("GET", f"{CONTENT}world/level.dat", AUTH)
                assert (answer.status, answer.body) == (200, b"0123456789" * 1000)
            assert (
                answer.field("content-disposition")
                == "attachment; filename=\"level.dat\"; filename*=UTF-8''level.dat"
            )
            assert answer.field("x-content-type-options") == "nosniff"
            policies = [value for name, value in answer.head.fields if name == b"content-security-policy"]
            assert b"sandbox" in policies
            etag = answer.field("etag")
            head = await peer.ask("HEAD", f"{CONTENT}world/level.dat", AUTH)
            assert (head.status, head.field("content-length"), head.field("etag")) == (200, "10000", etag)
            same = await peer.ask("GET", f"{CONTENT}world/level.dat", AUTH, f"If-None-Match: {etag}")
            assert (same.status, same.body, same.field("etag")) == (304, b"", etag)
            assert same.field("content-type") is None, "it would take the place of the file's in a cache"
            part = await peer.ask("GET", f"{CONTENT}world/level.dat", AUTH, "Range: bytes=5-9")
            assert (part.status, part.body) == (206, b"56789")
            assert part.field("content-range") == "bytes 5-9/10000"
            other = await peer.ask("GET", f"{CONTENT}world/level.dat", AUTH, "Range: bytes=5-9", 'If-Range: "old"')
            assert (other.status, len(other.body)) == (200, 10_000)
            beyond = await peer.ask("GET", f"{CONTENT}world/level.dat", AUTH, "Range: bytes=20000-")
            assert (beyond.status, beyond.json["code"]) == (416, "range_not_satisfiable")
        await until(lambda: made.quiet)
        assert made.book.entries == []


@pytest.mark.parametrize(
    "name", ['quo"te.txt', "semi;colon", "ümläut ☃.txt", "100%", "a%20b", "new mod (1).jar", "'", "~", " x ", "#?&="]
)
async def test_odd_names(tmp_path: Path, name: str) -> None:
    async with yard(tmp_path) as made:
        (made.root / name).write_bytes(b"here")
        answer = await made.ask("GET", CONTENT + quote(name, safe=""))
        assert (answer.status, answer.body) == (200, b"here")
        told = answer.field("content-disposition")
        assert told is not None
        assert told.endswith("''" + quote(name, safe=""))
        assert told.count('"') == 2


async def test_a_backup_is_told_to_the_record(tmp_path: Path) -> None:
    async with scripted_yard(saying(GOOD)) as made:
        answer = await made.ask("GET", BACKUP)
        assert (answer.status, answer.body) == (200, b"abcd")
        assert "backup-b1.tar.gz" in (answer.field("content-disposition") or "")
        assert (await made.ask("HEAD", BACKUP)).field("content-length") == "4"
        assert made.book.entries == [("down", "b1", 4, 200)]


@pytest.mark.parametrize(
    ("target", "lines", "status", "code"),
    [
        (f"{CONTENT}a", [], 401, "unauthenticated"),
        (f"{CONTENT}a", ["Authorization: Bearer bad"], 401, "unauthenticated"),
        (f"{CONTENT}a", ["Authorization: Basic good"], 401, "unauthenticated"),
        (f"{CONTENT}a", ["Authorization: Bearer alien"], 403, "forbidden"),
        (f"{CONTENT}a".replace("5001", "404"), [AUTH], 404, "not_found"),
        (f"{CONTENT}a".replace("game", "dev"), [AUTH], 404, "not_found"),
        (f"{CONTENT}", [AUTH], 400, "invalid"),
        (f"{FILES}/content", [AUTH], 400, "invalid"),
        (f"{CONTENT}a&path=b", [AUTH], 400, "invalid"),
        (f"{CONTENT}../etc/passwd", [AUTH], 400, "invalid"),
        (f"{CONTENT}/etc/passwd", [AUTH], 400, "invalid"),
        (f"{CONTENT}a/%2e%2e/b", [AUTH], 400, "invalid"),
        (f"{CONTENT}%252e%252e%252fb", [AUTH], 400, "invalid"),
        (f"{CONTENT}a%00b", [AUTH], 400, "invalid"),
        (f"{CONTENT}a%0d%0ab", [AUTH], 400, "invalid"),
        (f"{CONTENT}%ff", [AUTH], 400, "invalid"),
        (f"{CONTENT}.zlh-uploads/x", [AUTH], 400, "invalid"),
        (f"{CONTENT}a", [AUTH, "Content-Length: 3"], 400, "bad_request"),
        (f"{CONTENT}a", [AUTH, "Transfer-Encoding: chunked"], 400, "bad_request"),
        (f"{CONTENT}a", [AUTH, "Upgrade: websocket", "Connection: upgrade"], 400, "bad_request"),
    ],
)
async def test_what_is_refused_never_reaches_the_agent(target: str, lines: list[str], status: int, code: str) -> None:
    asked = []

    async def handler(peer: Peer) -> None:
        asked.append(await request_head(peer))

    async with scripted_yard(handler) as made, connect(made.port) as peer:
        await peer.send("\r\n".join([f"GET {target} HTTP/1.1", "Host: x", *lines]).encode() + b"\r\n\r\n")
        answer = await peer.answer()
        assert (answer.status, answer.json["code"]) == (status, code)
        assert asked == []
        assert made.quiet


async def test_a_refused_head_has_no_body() -> None:
    async with scripted_yard(saying(GOOD)) as made, connect(made.port) as peer:
        await peer.send(f"HEAD {CONTENT}a HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert (await peer.read_head()).status == 401
        await peer.closed()
        assert peer.buffer == b""


async def test_nobody_learns_the_secrets_of_the_other() -> None:
    asked = []

    async def handler(peer: Peer) -> None:
        asked.append(await request_head(peer))
        await peer.send(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/html\r\nSet-Cookie: a=b\r\n"
            b"Authorization: Bearer mine\r\nContent-Disposition: inline\r\nAccess-Control-Allow-Origin: *\r\n"
            b"Content-Security-Policy: default-src *\r\nX-Request-Id: forged\r\nServer: agent\r\n"
            b"Refresh: 0; url=https://evil.example\r\n\r\nhi"
        )

    async with scripted_yard(handler) as made:
        fields = ("Cookie: session=1", "X-Forwarded-For: 1.2.3.4", "X-Api-Key: k", "Origin: https://portal.example")
        answer = await made.ask("GET", f"{CONTENT}a", *fields)
        told = {name for name, _ in answer.head.fields}
    assert not told & {b"set-cookie", b"authorization", b"server", b"refresh"}
    assert answer.field("content-disposition") == "attachment; filename=\"a\"; filename*=UTF-8''a"
    assert answer.field("access-control-allow-origin") == "https://portal.example"
    assert answer.field("x-request-id") != "forged"
    assert b"*" not in dict(answer.head.fields)[b"content-security-policy"]
    said = asked[0].lower()
    assert b"authorization: bearer agent-token-of-5001" in said
    assert not [word for word in (b"good", b"cookie", b"1.2.3.4", b"api-key", b"origin") if word in said]


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (answer_bytes(401, {"error": "who are you"}), 502, "agent_refused"),
        (answer_bytes(403, {"error": "no"}), 502, "agent_refused"),
        (answer_bytes(400, {"error": "a directory"}), 400, "agent_refused"),
        (answer_bytes(500, {"error": "broken", "details": {"why": "disk"}}), 500, "agent_refused"),
        (answer_bytes(302, {}, "Location: http://evil.example"), 502, "agent_refused"),
        (b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\nzz", 500, "agent_refused"),
        (b"HTTP/1.1 500 X\r\nContent-Length: 99999999\r\n\r\n{", 500, "agent_refused"),
        (b"SSH-2.0-OpenSSH\r\n", 502, "agent_unreachable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 502, "agent_unreachable"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", 502, "agent_unreachable"),
        (b"HTTP/1.1 101 Switching\r\n\r\n", 502, "agent_unreachable"),
        # Nobody asked for a part, or said what version there is already.
        (b"HTTP/1.1 206 Part\r\nContent-Range: bytes 0-0/9\r\nContent-Length: 1\r\n\r\nx", 502, "agent_unreachable"),
        (b"HTTP/1.1 304 Same\r\n\r\n", 502, "agent_unreachable"),
        (b"HTTP/1.1 200", 502, "agent_unreachable"),
        (b"", 502, "agent_unreachable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", 502, "agent_unreachable"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n", 502, "agent_unreachable"),
    ],
)
async def test_an_agent_that_fails_is_told(words: bytes, status: int, code: str) -> None:
    async with scripted_yard(saying(words)) as made:
        answer = await made.ask("GET", f"{CONTENT}a")
        assert (answer.status, answer.json["code"]) == (status, code)
        assert made.agents.lacking == set()
        await until(lambda: made.quiet)


async def test_an_agent_that_is_not_there(tmp_path: Path) -> None:
    async with yard(tmp_path) as made:
        made.agents.port = 1
        answer = await made.ask("GET", f"{CONTENT}a")
        assert (answer.status, answer.json["code"]) == (502, "agent_unreachable")


async def test_an_agent_that_never_answers() -> None:
    async def handler(peer: Peer) -> None:
        await request_head(peer)
        await peer.closed()

    async with scripted_yard(handler, limits=Limits(answer_seconds=0.3)) as made:
        answer = await made.ask("GET", f"{CONTENT}a")
        assert (answer.status, answer.json["code"]) == (502, "agent_unreachable")
        await until(lambda: made.quiet)


async def test_a_file_that_is_missing_is_no_missing_feature(tmp_path: Path) -> None:
    async with yard(tmp_path) as made:
        answer = await made.ask("GET", f"{CONTENT}nothing")
        assert (answer.status, answer.json["code"]) == (404, "agent_refused")
        assert (await made.ask("GET", BACKUP)).status == 404
        assert made.agents.lacking == set()
        assert made.agent is not None
        made.agent.faults.set(Fault(FaultName.OLD_VERSION))
        answer = await made.ask("GET", f"{CONTENT}nothing")
        assert (answer.status, answer.json["code"]) == (501, "agent_unsupported")
        assert made.agents.lacking == {Feature.FILES}
        assert (await made.ask("GET", BACKUP)).status == 501


@pytest.mark.parametrize(
    "words",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ],
    ids=["length", "chunked"],
)
async def test_half_a_body_is_never_taken_for_a_whole_one(words: bytes) -> None:
    async with scripted_yard(saying(words)) as made, connect(made.port) as peer:
        await peer.send(f"GET {CONTENT}a HTTP/1.1\r\nHost: x\r\n{AUTH}\r\n\r\n".encode())
        head = await peer.read_head()
        await peer.closed()
        assert b"half" in peer.buffer
        assert head.length == 10 or not peer.buffer.endswith(b"0\r\n\r\n")
        await until(lambda: made.quiet)
        assert made.server.gateway.stats().refusals["cut"] == 1


async def test_more_than_was_said_is_left_out() -> None:
    words = GOOD + b"HTTP/1.1 200 smuggled"
    async with scripted_yard(saying(words)) as made, connect(made.port) as peer:
        for _ in range(2):
            assert (await peer.ask("GET", f"{CONTENT}a", AUTH)).body == b"abcd"


async def test_bodies_without_a_length() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    ended = b"HTTP/1.1 200 OK\r\n\r\nabcde"
    for words in (chunked, ended):
        async with scripted_yard(saying(words)) as made, connect(made.port) as peer:
            assert (await peer.ask("GET", f"{CONTENT}a", AUTH)).body == b"abcde"
            assert (await peer.ask("HEAD", f"{CONTENT}a", AUTH)).body == b""
            await peer.send(f"GET {CONTENT}a HTTP/1.0\r\n{AUTH}\r\n\r\n".encode())
            answer = await peer.answer()
            assert (answer.body, answer.head.chunked) == (b"abcde", False)


async def endless(peer: Peer) -> None:
    await request_head(peer)
    await flood(peer)


async def flood(peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
    while True:
        await peer.send(b"x" * 65536)


async def test_an_agent_that_stalls_is_cut_and_a_slow_reader_is_not() -> None:
    async def handler(peer: Peer) -> None:
        await request_head(peer)
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
        await peer.closed()

    async with scripted_yard(handler, limits=Limits(stall_seconds=0.3)) as made, connect(made.port) as peer:
        await peer.send(f"GET {CONTENT}a HTTP/1.1\r\nHost: x\r\n{AUTH}\r\n\r\n".encode())
        await peer.closed()
        assert peer.buffer.endswith(b"half")
        await until(lambda: made.quiet)
    async with scripted_yard(endless, limits=Limits(stall_seconds=1.0)) as made, connect(made.port) as peer:
        await peer.send(f"GET {CONTENT}a HTTP/1.1\r\nHost: x\r\n{AUTH}\r\n\r\n".encode())
        await peer.read_head()
        assert made.server.gateway.stats().transfers == 1
        await trio.sleep(2.5)
        for _ in range(20):
            assert await peer.more()


async def test_who_does_not_read_holds_the_agent_back_and_is_closed() -> None:
    sent = [0]

    async def handler(peer: Peer) -> None:
        await request_head(peer)
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
        while True:
            await peer.send(b"x" * 65536)
            sent[0] += 65536

    async with scripted_yard(handler, limits=Limits(write_seconds=1.0)) as made, connect(made.port) as peer:
        await peer.send(f"GET {CONTENT}a HTTP/1.1\r\nHost: x\r\n{AUTH}\r\n\r\n".encode())
        await peer.read_head()
        await until(lambda: made.quiet)
        # What the sockets' buffers hold, and a piece.
        assert sent[0] < 40 * MIB


async def test_a_client_that_goes_away_stops_the_agent() -> None:
    stopped = trio.Event()

    async def handler(peer: Peer) -> None:
        try:
            await endless(peer)
        finally:
            stopped.set()

    async with scripted_yard(handler) as made:
        async with connect(made.port) as peer:
            await peer.send(f"GET {BACKUP} HTTP/1.1\r\nHost: x\r\n{AUTH}\r\n\r\n".encode())
            await peer.read_head()
        with trio.fail_after(5):
            await stopped.wait()
        await until(lambda: made.quiet and made.server.gateway.stats().connections == 0)
        ((kind, name, size, status),) = made.book.entries
        assert (kind, name, status) == ("down", "b1", None)
        assert size > 0


@pytest.mark.parametrize(("code", "status"), [(4401, 401), (4403, 403), (4404, 404)])
async def test_the_end_of_the_right_ends_the_transfer_at_once(code: int, status: int) -> None:
    asked, quiet = trio.Event(), trio.Event()

    async def handler(peer: Peer) -> None:
        head = await request_head(peer)
        asked.set()
        if b"silent" in head:
            await peer.closed()
            quiet.set()
        await flood(peer)

    async with scripted_yard(handler) as made:
        grants = made.server.doorkeeper.grants
        async with connect(made.port) as peer:
            await peer.send(f"GET {CONTENT}silent HTTP/1.1\r\nHost: x\r\n{AUTH}\r\n\r\n".encode())
            await asked.wait()
            grants[0].end(code, "over")
            answer = await peer.answer()
            assert (answer.status, answer.json["error"]) == (status, "over")
            with trio.fail_after(5):
                await quiet.wait()
        async with connect(made.port) as peer:
            await peer.send(f"GET {CONTENT}a HTTP/1.1\r\nHost: x\r\n{AUTH}\r\n\r\n".encode())
            await peer.read_head()
            grants[1].end(code, "over")
            began = trio.current_time()
            await peer.closed()
            assert trio.current_time() - began < 5
        await until(lambda: made.quiet)


async def test_only_so_many_at_once() -> None:
    async with scripted_yard(endless, limits=Limits(transfers=2)) as made:
        async with connect(made.port) as one, connect(made.port) as two:
            for peer in (one, two):
                await peer.send(f"GET {CONTENT}a HTTP/1.1\r\nHost: x\r\n{AUTH}\r\n\r\n".encode())
                await peer.read_head()
            answer = await made.ask("GET", f"{CONTENT}a")
            assert (answer.status, answer.json["code"]) == (429, "too_many_transfers")
        await until(lambda: made.quiet)
        assert (await made.ask("HEAD", f"{CONTENT}a")).status == 200


async def test_other_methods_and_spellings_are_nobodys(tmp_path: Path) -> None:
    async with yard(tmp_path) as made:
        for method, target in [
            ("POST", f"{CONTENT}a"),
            ("PUT", BACKUP),
            ("GET", f"{FILES}/content/?path=a"),
            ("GET", "/api/game/05001/files/content?path=a"),
            ("GET", "/api/game/5001/files%2fcontent?path=a"),
            ("GET", "/api/game/5001/backups/..%2f..%2fstatus/download"),
            ("GET", "/api/game/5001/backups/../download"),
            ("GET", f"{FILES}/uploads"),
            ("GET", f"{FILES}/uploads/a.b"),
        ]:
            assert (await made.ask(method, target)).status in (404, 405), (method, target)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("PUT", f"{CONTENT}new.txt"),
        ("POST", f"{FILES}/upload?path="),
        ("OPTIONS", f"{FILES}/uploads"),
        ("POST", f"{FILES}/uploads"),
        ("HEAD", f"{FILES}/uploads/abc"),
        ("PATCH", f"{FILES}/uploads/abc"),
        ("DELETE", f"{FILES}/uploads/abc"),
    ],
)
async def test_the_suspended_fetch_and_bring_nothing(tmp_path: Path, method: str, target: str) -> None:
    suspended = "Authorization: Bearer suspended"
    async with yard(tmp_path) as made:
        (made.root / "world.dat").write_bytes(b"mine")
        async with connect(made.port) as peer:
            fetched = await peer.ask("GET", f"{CONTENT}world.dat", suspended)
            assert (fetched.status, fetched.body) == (200, b"mine")
            assert (await peer.ask("HEAD", f"{CONTENT}world.dat", suspended)).status == 200
            assert (await peer.ask("GET", "/api/game/5001/backups/none/download", suspended)).status == 404
        async with connect(made.port) as peer:
            refused = await peer.ask(method, target, suspended)
            assert refused.status == 403
            assert method == "HEAD" or refused.json["code"] == "suspended"
        assert [each.name for each in made.root.iterdir()] == ["world.dat"]
        await until(lambda: made.quiet)
