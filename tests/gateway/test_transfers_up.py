"""Uploads through the gateway: raw and by form, under conditions, within the disk, from clients and to agents that
fail."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import pytest
import trio

from tests.gateway.peer import Peer, connect, until
from tests.gateway.transfers import AUTH, FILES, MIB, answer_bytes, request_head, saying, scripted_yard, yard
from zlh.gateway import Limits
from zlh.model.agent_calls import Feature

CONTENT = f"{FILES}/content?path="
FORM = f"{FILES}/upload?path="


def left_behind(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.name.endswith(".part"))


async def test_a_file_is_made_and_replaced(tmp_path: Path) -> None:
    async with yard(tmp_path) as made, connect(made.port) as peer:
        first = await peer.ask("PUT", f"{CONTENT}a.txt", AUTH, body=b"one")
        assert (first.status, first.body) == (201, b"")
        # Beyond what the control plane takes.
        second = await peer.ask("PUT", f"{CONTENT}a.txt", AUTH, body=b"x" * (3 * MIB))
        assert second.status == 204
        assert (made.root / "a.txt").stat().st_size == 3 * MIB
        assert second.field("etag") not in (None, first.field("etag"))
        assert (await peer.ask("HEAD", f"{CONTENT}a.txt", AUTH)).field("etag") == second.field("etag")
        await until(lambda: made.quiet)
        assert made.book.entries == [("up", "a.txt", 3, 201), ("up", "a.txt", 3 * MIB, 204)]


async def test_a_chunked_file_and_one_that_waits_to_be_asked_for(tmp_path: Path) -> None:
    async with yard(tmp_path) as made, connect(made.port) as peer:
        await peer.send(f"PUT {CONTENT}a HTTP/1.1\r\nHost: x\r\n{AUTH}\r\n".encode())
        await peer.send(b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
        while b"100 Continue\r\n\r\n" not in peer.buffer:
            assert await peer.more()
        peer.buffer = b""
        await peer.send(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        assert (await peer.answer()).status == 201
        assert (made.root / "a").read_bytes() == b"abcde"
        assert (await peer.ask("PUT", f"{CONTENT}empty", AUTH, "Content-Length: 0")).status == 201


async def test_two_editors_do_not_overwrite_each_other(tmp_path: Path) -> None:
    async with yard(tmp_path) as made, connect(made.port) as peer:
        etag = (await peer.ask("PUT", f"{CONTENT}a", AUTH, body=b"one")).field("etag")
        two = await peer.ask("PUT", f"{CONTENT}a", AUTH, f"If-Match: {etag}", body=b"two")
        assert two.status == 204
        assert (await peer.ask("PUT", f"{CONTENT}a", AUTH, "If-Match: *", body=b"two")).status == 204
    for lines in ([f"If-Match: {etag}"], ["If-None-Match: *"], ['If-Match: "a", "b"'], [f"If-Match: W/{etag}"]):
        async with yard(tmp_path) as made:
            refused = await made.ask("PUT", f"{CONTENT}a", *lines, body=b"three")
            assert (refused.status, refused.json["code"]) == (412, "precondition_failed")
            assert refused.json["details"]["etag"]
            assert (await made.ask("PUT", f"{CONTENT}new", "If-Match: *", body=b"x")).status == 412
            assert (await made.ask("PUT", f"{CONTENT}a", 'If-None-Match: "x"', body=b"x")).status == 400
            assert (made.root / "a").read_bytes() == b"two"
    async with yard(tmp_path) as made:
        assert (await made.ask("PUT", f"{CONTENT}new", "If-None-Match: *", body=b"x")).status == 201


async def test_what_is_the_wrong_version_is_not_sent_at_all() -> None:
    methods = []

    async def handler(peer: Peer) -> None:
        methods.append((await request_head(peer)).split()[0])
        await peer.send(b'HTTP/1.1 200 OK\r\nETag: "2"\r\nContent-Length: 0\r\n\r\n')

    async with scripted_yard(handler) as made:
        # A weak tag is of no version of the bytes.
        for condition in ('If-Match: "1"', "If-None-Match: *", 'If-Match: W/"2"', 'If-Match: "1", W/"2"'):
            answer = await made.ask("PUT", f"{CONTENT}a", condition, body=b"three")
            assert (answer.status, answer.json["details"]) == (412, {"etag": '"2"'})
        assert methods == [b"GET"] * 4


async def test_a_part_or_something_packed_takes_no_files_place(tmp_path: Path) -> None:
    async with yard(tmp_path) as made:
        (made.root / "a").write_bytes(b"0123456789")
        for line, status in (("Content-Range: bytes 0-1/10", 400), ("Content-Encoding: gzip", 415)):
            assert (await made.ask("PUT", f"{CONTENT}a", line, body=b"xx")).status == status
        assert (await made.ask("PUT", f"{CONTENT}b", "Content-Encoding: identity", body=b"xx")).status == 201
        assert (made.root / "a").read_bytes() == b"0123456789"


async def test_the_agent_judges_again_when_all_has_come(tmp_path: Path) -> None:
    async with yard(tmp_path) as made, connect(made.port) as peer:
        etag = (await peer.ask("PUT", f"{CONTENT}a", AUTH, body=b"one")).field("etag")
        await peer.send(f"PUT {CONTENT}a HTTP/1.1\r\nHost: x\r\n{AUTH}\r\nIf-Match: {etag}\r\n".encode())
        await peer.send(b"Content-Length: 4\r\n\r\nla")
        await until(lambda: left_behind(made.root))
        (made.root / "a").write_bytes(b"somebody else's")
        await peer.send(b"te")
        answer = await peer.answer()
        assert (answer.status, answer.json["code"]) == (412, "precondition_failed")
        assert (made.root / "a").read_bytes() == b"somebody else's"
        assert left_behind(made.root) == []


async def test_an_agent_without_versions_is_not_asked_to_write() -> None:
    methods = []

    async def handler(peer: Peer) -> None:
        methods.append((await request_head(peer)).split()[0])
        await peer.send(answer_bytes(200, {}))

    async with scripted_yard(handler) as made:
        for _ in range(2):
            answer = await made.ask("PUT", f"{CONTENT}a", 'If-Match: "1"', body=b"two")
            assert (answer.status, answer.json["code"]) == (501, "agent_unsupported")
        assert made.agents.lacking == {Feature.FILE_VERSIONS}
        # The second time nobody was asked at all.
        assert methods == [b"GET"]


async def test_what_does_not_fit_is_refused_before_a_byte_of_it(tmp_path: Path) -> None:
    async with yard(tmp_path, disk=10 * MIB, used=6 * MIB) as made:
        for target in (f"{CONTENT}a", FORM):
            async with connect(made.port) as peer:
                method = "POST" if target == FORM else "PUT"
                await peer.send(f"{method} {target} HTTP/1.1\r\nHost: x\r\n{AUTH}\r\n".encode())
                await peer.send(b"Content-Length: 10000000000\r\nExpect: 100-continue\r\n\r\n")
                answer = await peer.answer()
                assert (answer.status, answer.json["code"]) == (413, "disk_full")
                assert answer.json["details"] == {"limit": 10 * MIB, "used": 6 * MIB, "wanted": 10_000_000_000}
        assert (await made.ask("PUT", f"{CONTENT}a", body=b"x" * 4 * MIB)).status == 201
        assert left_behind(made.root) == []


async def test_two_at_once_do_not_get_the_same_room(tmp_path: Path) -> None:
    async with yard(tmp_path, disk=10 * MIB, used=0) as made, connect(made.port) as peer:
        await peer.send(
            f"PUT {CONTENT}a HTTP/1.1\r\nHost: x\r\n{AUTH}\r\nContent-Length: {8 * MIB}\r\n\r\nx".encode()
        )
        await until(lambda: left_behind(made.root))
        assert (await made.ask("PUT", f"{CONTENT}b", body=b"x" * 3 * MIB)).status == 413
        assert (await made.ask("PUT", f"{CONTENT}b", body=b"x" * MIB)).status == 201
        await peer.send(b"x" * (8 * MIB - 1))
        assert (await peer.answer()).status == 201
        # What was promised is given back.
        assert (await made.ask("PUT", f"{CONTENT}b", body=b"x" * 9 * MIB)).status == 204


async def test_a_chunked_body_is_cut_where_the_disk_ends(tmp_path: Path) -> None:
    async with yard(tmp_path, disk=2 * MIB, used=None) as made, connect(made.port) as peer:
        await peer.send(f"PUT {CONTENT}a HTTP/1.1\r\nHost: x\r\n{AUTH}\r\n".encode())
        await peer.send(b"Transfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(40):
                await peer.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        except trio.BrokenResourceError:
            pass
        answer = await peer.answer()
        assert (answer.status, answer.json["code"]) == (413, "disk_full")
        await until(lambda: made.quiet and not left_behind(made.root))
        assert not (made.root / "a").exists()
        assert made.book.entries[0][3] == 413


async def test_two_chunked_bodies_share_what_is_left(tmp_path: Path) -> None:
    async with yard(tmp_path, disk=2 * MIB, used=0) as made, connect(made.port) as first:
        await first.send(f"PUT {CONTENT}a HTTP/1.1\r\nHost: x\r\n{AUTH}\r\n".encode())
        await first.send(b"Transfer-Encoding: chunked\r\n\r\n" + b"180000\r\n" + b"x" * 0x180000 + b"\r\n")
        await until(lambda: any((made.root / name).stat().st_size >= MIB for name in left_behind(made.root)))
        async with connect(made.port) as second:
            await second.send(f"PUT {CONTENT}b HTTP/1.1\r\nHost: x\r\n{AUTH}\r\n".encode())
            await second.send(b"Transfer-Encoding: chunked\r\n\r\n")
            try:
                for _ in range(24):
                    await second.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            except trio.BrokenResourceError:
                pass
            answer = await second.answer()
            assert (answer.status, answer.json["code"]) == (413, "disk_full")
        await first.send(b"0\r\n\r\n")
        assert (await first.answer()).status == 201
        await until(lambda: made.quiet and not left_behind(made.root))


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (answer_bytes(507, {"error": "no space left on device"}), 507, "disk_full"),
        (answer_bytes(400, {"error": "not a file"}), 400, "agent_refused"),
        (answer_bytes(401, {"error": "who"}), 502, "agent_refused"),
        (answer_bytes(201, {}), 502, "agent_unreachable"),
        (b"nonsense\r\n\r\n", 502, "agent_unreachable"),
        (b"", 502, "agent_unreachable"),
    ],
    ids=["full", "refused", "our-token", "too-early", "no-http", "closed"],
)
async def test_an_agent_that_answers_before_the_end(words: bytes, status: int, code: str) -> None:
    async with scripted_yard(saying(words)) as made, connect(made.port) as peer:
        await peer.send(f"PUT {CONTENT}a HTTP/1.1\r\nHost: x\r\n{AUTH}\r\nContent-Length: 9\r\n\r\nhalf".encode())
        answer = await peer.answer()
        assert (answer.status, answer.json["code"]) == (status, code)
        await until(lambda: made.quiet)
        assert made.book.entries == [("up", "a", 4, status)]


async def test_an_agent_that_takes_all_and_says_nothing() -> None:
    async def handler(peer: Peer) -> None:
        await peer.closed()

    async with scripted_yard(handler, limits=Limits(answer_seconds=0.3)) as made:
        answer = await made.ask("PUT", f"{CONTENT}a", body=b"half")
        assert (answer.status, answer.json["code"]) == (502, "agent_unreachable")
        assert answer.json["details"] == {"mayTakeEffect": True}


async def test_an_agent_that_does_not_read() -> None:
    async def handler(peer: Peer) -> None:
        await trio.sleep_forever()

    async with scripted_yard(handler, limits=Limits(write_seconds=1.0), disk=1 << 40) as made:
        sent = 0
        async with connect(made.port) as peer:
            head = f"PUT {CONTENT}a HTTP/1.1\r\nHost: x\r\n{AUTH}\r\nContent-Length: 99999999999\r\n\r\n"
            await peer.send(head.encode())
            with trio.move_on_after(0.4):
                while True:
                    await peer.send(b"x" * 65536)
                    sent += 65536
            # What the sockets' buffers hold: the client is held back.
            assert sent < 60 * MIB
            answer = await peer.answer()
            assert (answer.status, answer.json["code"]) == (502, "agent_unreachable")
        await until(lambda: made.quiet)


async def test_ten_gigabytes_of_which_ten_bytes_come(tmp_path: Path) -> None:
    async with yard(tmp_path, limits=Limits(body_progress_seconds=0.5), disk=1 << 40) as made:
        async with connect(made.port) as peer:
            head = f"PUT {CONTENT}a HTTP/1.1\r\nHost: x\r\n{AUTH}\r\nContent-Length: 10000000000\r\n\r\n"
            await peer.send(head.encode() + b"0123456789")
            answer = await peer.answer()
            assert (answer.status, answer.json["code"]) == (408, "request_timeout")
        await until(lambda: made.quiet and not left_behind(made.root))
        assert not (made.root / "a").exists()


async def test_a_client_that_goes_away_leaves_what_was_there(tmp_path: Path) -> None:
    async with yard(tmp_path) as made:
        (made.root / "a").write_bytes(b"before")
        for framing in ("Content-Length: 100000", "Transfer-Encoding: chunked"):
            async with connect(made.port) as peer:
                await peer.send(f"PUT {CONTENT}a HTTP/1.1\r\nHost: x\r\n{AUTH}\r\n{framing}\r\n\r\n".encode())
                await peer.send(b"4\r\nhalf\r\n")
                await until(lambda: left_behind(made.root))
            await until(lambda: made.quiet and not left_behind(made.root))
        assert (made.root / "a").read_bytes() == b"before"
        assert [entry[3] for entry in made.book.entries] == [None, None]


async def test_a_long_upload_that_breaks_off_leaves_nothing_open(tmp_path: Path) -> None:
    """Beyond a length the bytes go through a pipe of the kernel's, which has ends to be closed."""
    async with yard(tmp_path) as made:
        before = len(os.listdir("/proc/self/fd"))
        for ending in ("gone", "grant"):
            async with connect(made.port) as peer:
                head = f"PUT {CONTENT}a HTTP/1.1\r\nHost: x\r\n{AUTH}\r\nContent-Length: {64 * MIB}\r\n\r\n"
                await peer.send(head.encode())
                await peer.send(b"x" * 8 * MIB)
                await until(lambda: left_behind(made.root))
                if ending == "grant":
                    made.server.doorkeeper.grants[-1].end(4401, "signed out")
                    assert (await peer.answer()).status == 401
            await until(lambda: made.quiet and not left_behind(made.root))
        await until(lambda: made.server.gateway.stats().connections == 0)
        assert len(os.listdir("/proc/self/fd")) <= before
        assert [entry[3] for entry in made.book.entries] == [None, 401]
        assert not (made.root / "a").exists()


@pytest.mark.parametrize(
    "body", [b"zz\r\n", b"4\r\nhalfx\r\n", b"4\nhalf\n", b"-1\r\n\r\n"], ids=["size", "longer", "lf", "negative"]
)
async def test_a_malformed_body_writes_nothing(tmp_path: Path, body: bytes) -> None:
    async with yard(tmp_path) as made, connect(made.port) as peer:
        await peer.send(
            f"PUT {CONTENT}a HTTP/1.1\r\nHost: x\r\n{AUTH}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        await peer.send(body)
        assert (await peer.answer()).status == 400
        await until(lambda: made.quiet and not left_behind(made.root))
        assert not (made.root / "a").exists()


async def test_the_end_of_the_right_ends_an_upload(tmp_path: Path) -> None:
    async with yard(tmp_path) as made, connect(made.port) as peer:
        await peer.send(f"PUT {CONTENT}a HTTP/1.1\r\nHost: x\r\n{AUTH}\r\nContent-Length: 99\r\n\r\nhalf".encode())
        await until(lambda: left_behind(made.root))
        made.server.doorkeeper.grants[0].end(4403, "the account is suspended")
        answer = await peer.answer()
        assert (answer.status, answer.json["code"]) == (403, "forbidden")
        await until(lambda: made.quiet and not left_behind(made.root))
        assert made.book.entries == [("up", "a", 4, 403)]


@pytest.mark.parametrize(
    "path", ["", "../a", "/a", "a/../../b", "a%5cb", "%2e%2e/a", ".zlh-uploads", ".zlh-uploads/b", "a%0ab"]
)
async def test_a_path_that_leads_elsewhere(tmp_path: Path, path: str) -> None:
    async with yard(tmp_path) as made:
        assert (await made.ask("PUT", CONTENT + path, body=b"x")).status == 400


# Forms


def form(*parts: tuple[str, bytes], end: bytes = b"--B--\r\n") -> bytes:
    """A multipart body; each part is the rest of its Content-Disposition, and its data."""
    head = 'Content-Disposition: form-data; name="f"'
    return b"".join(f"--B\r\n{head}{more}\r\n\r\n".encode() + data + b"\r\n" for more, data in parts) + end


def named(name: str, data: bytes) -> tuple[str, bytes]:
    return f'; filename="{name}"\r\nContent-Type: text/html', data


KIND = "Content-Type: multipart/form-data; boundary=B"


async def test_a_form_with_several_files(tmp_path: Path) -> None:
    async with yard(tmp_path) as made:
        (made.root / "mods").mkdir()
        (made.root / "mods/b").write_bytes(b"before")
        large = bytes(range(256)) * 8192 + b"\r\n--BX" + b"\r\n--" * 10_000
        body = form(named("a.jar", b"one"), ("", b"a field"), named("b", large), named("", b""), named("ü ☃", b""))
        async with connect(made.port) as peer:
            answer = await peer.ask("POST", f"{FORM}mods", AUTH, KIND, body=body)
            assert answer.status == 201
            assert answer.json == {
                "files": [
                    {"path": "mods/a.jar", "size": 3, "created": True},
                    {"path": "mods/b", "size": len(large), "created": False},
                    {"path": "mods/ü ☃", "size": 0, "created": True},
                ]
            }
            assert (await peer.ask("HEAD", f"{CONTENT}mods/a.jar", AUTH)).status == 200
        assert (made.root / "mods/b").read_bytes() == large
        assert (made.root / "mods/ü ☃").read_bytes() == b""
        await until(lambda: made.quiet)
        assert [entry[1:] for entry in made.book.entries] == [
            ("mods/a.jar", 3, 201),
            ("mods/b", len(large), 201),
            ("mods/ü ☃", 0, 201),
        ]


@pytest.mark.parametrize("name", ["../a", "a/b", "/a", "..", ".", "a\\b", "%2e%2e", "a%2fb", "x" * 300])
async def test_a_form_puts_files_into_one_folder(tmp_path: Path, name: str) -> None:
    async with yard(tmp_path) as made:
        body = form(named("good", b"x"), named(name.replace("\\", "\\\\"), b"x"))
        answer = await made.ask("POST", FORM, KIND, body=body)
        assert answer.status == 400
        assert answer.json["details"]["written"] == ["good"]
        assert os.listdir(made.root) == ["good"]
        assert not (tmp_path / "a").exists()
        await until(lambda: made.quiet)


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("Content-Type: text/plain", b"x", 415),
        ("X-None: none", b"x", 415),
        ("Content-Type: multipart/form-data", b"x", 400),
        (f"Content-Type: multipart/form-data; boundary={'b' * 71}", b"x", 400),
        (KIND, b"no boundary at all", 400),
        (KIND, form(named("a", b"x"), end=b""), 400),
        (KIND, form(named("a", b"x"), end=b"--B\r\n"), 400),
        (KIND, b"--B\r\nno-disposition: x\r\n\r\nx\r\n--B--\r\n", 400),
        (KIND, b'--B\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n--B--\r\n', 400),
        (KIND, form(("", b"only a field")), 400),
        (KIND, form(), 400),
        (KIND, b"--B\r\n" + b"X: " + b"y" * MIB + b"\r\n\r\n\r\n--B--\r\n", 413),
        (KIND, form(*[("", b"x")] * 300), 413),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else None,
)
async def test_what_is_no_form(tmp_path: Path, kind: str, body: bytes, status: int) -> None:
    async with yard(tmp_path) as made:
        answer = await made.ask("POST", FORM, kind, body=body)
        assert answer.status == status
        assert not (made.root / "a").exists() or body.startswith(form(named("a", b"x"), end=b""))
        await until(lambda: made.quiet and not left_behind(made.root))


async def test_a_form_that_breaks_off_in_a_file(tmp_path: Path) -> None:
    async with yard(tmp_path) as made:
        body = form(named("a", b"whole"), named("b", b"half"), end=b"")[:-6]
        async with connect(made.port) as peer:
            await peer.send(
                f"POST {FORM} HTTP/1.1\r\nHost: x\r\n{AUTH}\r\n{KIND}\r\nContent-Length: 9999\r\n\r\n".encode()
            )
            await peer.send(body)
            await until(lambda: (made.root / "a").exists())
        await until(lambda: made.quiet and not left_behind(made.root))
        assert not (made.root / "b").exists()
        assert made.book.entries[0] == ("up", "a", 5, 201)


async def test_a_form_whose_folder_is_missing(tmp_path: Path) -> None:
    async with yard(tmp_path) as made:
        answer = await made.ask("POST", FORM + quote("not/there"), KIND, body=form(named("a", b"x")))
        assert (answer.status, answer.json["details"]) == (400, {"written": []})
