"""Uploads that are continued: tus 1.0.0 over broken connections, restarts and second thoughts."""

from __future__ import annotations

import base64
from datetime import timedelta
from pathlib import Path

import pytest

from tests.gateway.peer import Answer, Peer, connect, until
from tests.gateway.transfers import (
    AUTH,
    FILES,
    MIB,
    TUS,
    Yard,
    answer_bytes,
    request_head,
    saying,
    scripted_yard,
    yard,
)
from zlh.gateway import Limits
from zlh.model.agent_calls import Feature
from zlh.model.transfers import UploadState
from zlh.store.uploads import BATCH

UPLOADS = f"{FILES}/uploads"
PIECE = "Content-Type: application/offset+octet-stream"


def metadata(**values: str) -> str:
    pairs = [f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items()]
    return f"Upload-Metadata: {','.join(pairs)}"


async def begin(made: Yard, length: int, **values: str) -> str:
    answer = await made.ask("POST", UPLOADS, TUS, f"Upload-Length: {length}", metadata(**(values or {"path": "big"})))
    assert answer.status == 201, answer.body
    location = answer.field("location")
    assert location is not None
    return location


async def append(made: Yard, location: str, offset: int, data: bytes, *lines: str) -> Answer:
    return await made.ask("PATCH", location, TUS, PIECE, f"Upload-Offset: {offset}", *lines, body=data)


async def offset_of(made: Yard, location: str) -> int:
    answer = await made.ask("HEAD", location, TUS)
    assert answer.status == 200
    return int(answer.field("upload-offset") or "-1")


def part_of(made: Yard, location: str) -> Path:
    return made.root / ".zlh-uploads" / location.rpartition("/")[2]


async def test_a_file_in_pieces(tmp_path: Path) -> None:
    async with yard(tmp_path) as made:
        (made.root / "world").mkdir()
        location = await begin(made, 10, path="world", filename="level ü.dat")
        assert location.startswith(f"{UPLOADS}/")
        assert await offset_of(made, location) == 0
        first = await append(made, location, 0, b"0123")
        assert (first.status, first.field("upload-offset")) == (204, "4")
        assert first.field("upload-expires") == "Sat, 02 May 2026 00:00:00 GMT"
        head = await made.ask("HEAD", location, TUS)
        assert (head.field("upload-offset"), head.field("upload-length")) == ("4", "10")
        assert head.field("cache-control") == "no-store"
        assert not (made.root / "world/level ü.dat").exists()
        last = await append(made, location, 4, b"456789")
        assert (last.status, last.field("upload-offset")) == (204, "10")
        assert (made.root / "world/level ü.dat").read_bytes() == b"0123456789"
        assert not part_of(made, location).exists()
        # Who lost that last answer asks again.
        assert await offset_of(made, location) == 10
        assert (await append(made, location, 10, b"")).status == 204
        await until(lambda: made.quiet)
        assert made.book.entries == [("up", "world/level ü.dat", 10, 204)]


async def test_what_the_server_can_is_told(tmp_path: Path) -> None:
    async with yard(tmp_path) as made:
        answer = await made.ask("OPTIONS", UPLOADS)
        assert (answer.status, answer.field("tus-version")) == (204, "1.0.0")
        assert answer.field("tus-extension") == "creation,expiration,termination"


async def test_an_empty_file_and_one_that_is_replaced(tmp_path: Path) -> None:
    async with yard(tmp_path) as made:
        (made.root / "old").write_bytes(b"before")
        await begin(made, 0, filename="empty")
        assert (made.root / "empty").read_bytes() == b""
        location = await begin(made, 3, filename="old")
        await append(made, location, 0, b"new")
        assert (made.root / "old").read_bytes() == b"new"


async def test_a_broken_connection_goes_on_where_it_stopped(tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096
    async with yard(tmp_path) as made:
        location = await begin(made, len(data))
        sent = 0
        while sent < len(data):
            async with connect(made.port) as peer:
                head = (
                    f"PATCH {location} HTTP/1.1\r\nHost: x\r\n{AUTH}\r\n{TUS}\r\n{PIECE}\r\nUpload-Offset: {sent}\r\n"
                )
                await peer.send(f"{head}Content-Length: {len(data) - sent}\r\n\r\n".encode())
                await peer.send(data[sent : sent + 300_000])
                if sent + 300_000 < len(data):
                    await until(lambda before=sent: part_of(made, location).stat().st_size > before)  # type: ignore[misc]
                else:
                    assert (await peer.answer()).status == 204
            await until(lambda: made.quiet)
            sent = await offset_of(made, location)
        assert (made.root / "big").read_bytes() == data


async def test_chunked_pieces(tmp_path: Path) -> None:
    async with yard(tmp_path) as made:
        location = await begin(made, 5)
        async with connect(made.port) as peer:
            head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\n{AUTH}\r\n{TUS}\r\n{PIECE}\r\nUpload-Offset: 0\r\n"
            await peer.send(f"{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".encode())
            assert (await peer.answer()).status == 204
        assert (made.root / "big").read_bytes() == b"abcde"
        # More than there is to come.
        for _ in range(2):
            location = await begin(made, 5)
            async with connect(made.port) as peer:
                head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\n{AUTH}\r\n{TUS}\r\n{PIECE}\r\nUpload-Offset: 0\r\n"
                await peer.send(f"{head}Transfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n".encode())
                answer = await peer.answer()
                assert (answer.status, answer.json["code"]) == (413, "too_large")
            assert (await append(made, location, 0, b"abcdef")).status == 413
            await until(lambda: made.quiet)


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Upload-Length: 5", metadata(path="a")], 412),
        (["Tus-Resumable: 0.2.2", "Upload-Length: 5", metadata(path="a")], 412),
        ([TUS, metadata(path="a")], 400),
        ([TUS, "Upload-Defer-Length: 1", metadata(path="a")], 400),
        ([TUS, "Upload-Length: -5", metadata(path="a")], 400),
        ([TUS, "Upload-Length: 5", "Upload-Length: 7", metadata(path="a")], 400),
        ([TUS, "Upload-Length: 9999999999999999", metadata(path="a")], 400),
        ([TUS, "Upload-Length: 5"], 400),
        ([TUS, "Upload-Length: 5", "Upload-Metadata: path !!!"], 400),
        ([TUS, "Upload-Length: 5", "Upload-Metadata: path /w=="], 400),
        ([TUS, "Upload-Length: 5", "Upload-Metadata: path YQ==,path Yg=="], 400),
        ([TUS, "Upload-Length: 5", metadata(path="a"), metadata(path="b")], 400),
        ([TUS, "Upload-Length: 5", metadata(path="fold"), metadata(filename="er/a")], 400),
        ([TUS, "Upload-Length: 5", metadata(path="../a")], 400),
        ([TUS, "Upload-Length: 5", metadata(filename="a/b")], 400),
        ([TUS, "Upload-Length: 5", metadata(path=".zlh-uploads/a")], 400),
        ([TUS, "Upload-Length: 5", metadata(path="folder")], 409),
        ([TUS, "Upload-Length: 5", metadata(path="not/there")], 404),
        ([TUS, "Upload-Length: 99999999999", metadata(path="a")], 413),
    ],
)
async def test_what_cannot_be_begun(tmp_path: Path, lines: list[str], status: int) -> None:
    async with yard(tmp_path, disk=MIB) as made:
        (made.root / "folder").mkdir()
        answer = await made.ask("POST", UPLOADS, "Content-Length: 0", *lines)
        assert answer.status == status
        assert answer.field("tus-resumable") == "1.0.0"
        assert answer.field("tus-version") == ("1.0.0" if status == 412 else None)
        assert made.database.uploads == {}
        assert (await made.ask("POST", UPLOADS, TUS, "Upload-Length: 1", metadata(path="a"), body=b"x")).status == 400


async def test_what_cannot_be_continued(tmp_path: Path) -> None:
    async with yard(tmp_path) as made:
        location = await begin(made, 10)
        await append(made, location, 0, b"0123")
        wrong = await append(made, location, 3, b"3456")
        assert (wrong.status, wrong.json["code"], wrong.json["details"]) == (409, "wrong_offset", {"offset": 4})
        assert wrong.field("tus-resumable") == "1.0.0"
        plain = ["PATCH", location, TUS, "Upload-Offset: 4"]
        assert (await made.ask(*plain, "Content-Type: text/plain", body=b"x")).status == 415
        assert (await made.ask("PATCH", location, TUS, PIECE, body=b"x")).status == 400
        twice = [TUS, PIECE, "Upload-Offset: 4", "Upload-Offset: 4"]
        assert (await made.ask("PATCH", location, *twice, body=b"x")).status == 400
        packed = [TUS, PIECE, "Upload-Offset: 4", "Content-Encoding: gzip"]
        assert (await made.ask("PATCH", location, *packed, body=b"x")).status == 415
        assert (await made.ask("PATCH", location, PIECE, "Upload-Offset: 4", body=b"x")).status == 412
        for method in ("HEAD", "DELETE"):
            assert (await made.ask(method, f"{UPLOADS}/nothing", TUS)).status == 404
            assert (await made.ask(method, location.replace("5001", "5002"), TUS)).status == 404
        assert await offset_of(made, location) == 4


async def test_who_cannot_say_patch_or_delete_says_it_in_a_field(tmp_path: Path) -> None:
    async with yard(tmp_path) as made:
        location = await begin(made, 4)
        patch = [TUS, PIECE, "X-HTTP-Method-Override: PATCH"]
        assert (await made.ask("POST", location, *patch, "Upload-Offset: 0", body=b"ab")).status == 204
        assert await offset_of(made, location) == 2
        # What changes something cannot be said by a method that does not.
        assert (await made.ask("HEAD", location, TUS, "X-HTTP-Method-Override: DELETE")).status == 200
        for nonsense in ("PUT", "patch", "GET", ""):
            line = f"X-HTTP-Method-Override: {nonsense}"
            assert (await made.ask("POST", location, TUS, PIECE, line, "Upload-Offset: 2", body=b"c")).status == 404
        delete = [TUS, "X-HTTP-Method-Override: DELETE", "Content-Length: 0"]
        assert (await made.ask("POST", location, *delete)).status == 204
        assert (await made.ask("HEAD", location, TUS)).status == 404


async def test_what_is_removed_is_gone(tmp_path: Path) -> None:
    async with yard(tmp_path) as made:
        location = await begin(made, 10)
        await append(made, location, 0, b"0123")
        assert (await made.ask("DELETE", location, TUS)).status == 204
        assert not part_of(made, location).exists()
        assert (await made.ask("HEAD", location, TUS)).status == 404
        assert (await append(made, location, 4, b"4")).status == 404


async def test_an_upload_whose_bytes_are_gone(tmp_path: Path) -> None:
    async with yard(tmp_path) as made:
        location = await begin(made, 10)
        part_of(made, location).unlink()
        assert (await made.ask("HEAD", location, TUS)).status == 404
        assert made.database.uploads == {}


async def test_whoever_comes_later_takes_over(tmp_path: Path) -> None:
    async with yard(tmp_path) as made, connect(made.port) as peer:
        location = await begin(made, 10)
        head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\n{AUTH}\r\n{TUS}\r\n{PIECE}\r\nUpload-Offset: 0\r\n"
        await peer.send(f"{head}Content-Length: 10\r\n\r\n0123".encode())
        await until(lambda: part_of(made, location).stat().st_size == 4)
        # The first connection is open and silent: nobody knows whether its client still lives.
        assert await offset_of(made, location) == 4
        answer = await peer.answer()
        assert (answer.status, answer.json["code"]) == (423, "upload_locked")
        assert (await append(made, location, 4, b"456789")).status == 204
        assert (made.root / "big").read_bytes() == b"0123456789"
        await until(lambda: made.quiet)


@pytest.mark.parametrize("state", [UploadState.OPEN, UploadState.MOVING])
async def test_a_crash_before_the_file_was_put_into_its_place(tmp_path: Path, state: UploadState) -> None:
    async with yard(tmp_path) as made:
        location = await begin(made, 4)
        part_of(made, location).write_bytes(b"0123")
        made.database.move(location.rpartition("/")[2], state)
        assert await offset_of(made, location) == 4
        assert (made.root / "big").read_bytes() == b"0123"
        assert [upload.state for upload in made.database.uploads.values()] == [UploadState.DONE]


async def test_a_crash_after_the_file_was_put_into_its_place(tmp_path: Path) -> None:
    async with yard(tmp_path) as made:
        location = await begin(made, 4)
        made.database.move(location.rpartition("/")[2], UploadState.MOVING)
        part_of(made, location).rename(made.root / "big")
        assert await offset_of(made, location) == 4
        assert [upload.state for upload in made.database.uploads.values()] == [UploadState.DONE]


async def test_what_nobody_comes_back_for_is_removed(tmp_path: Path) -> None:
    async with yard(tmp_path) as made:
        old, done = await begin(made, 10), await begin(made, 0, path="done")
        kept = await begin(made, 10)
        made.now[0] += timedelta(hours=23)
        # Its day begins anew with what it brings.
        await append(made, kept, 0, b"0")
        assert await made.uploads.sweep() == 0
        made.now[0] += timedelta(hours=2)
        assert (await made.ask("HEAD", old, TUS)).status == 404
        assert await made.uploads.sweep() == 2
        assert not part_of(made, old).exists()
        assert (made.root / "done").exists()
        assert await offset_of(made, kept) == 1
        assert len(made.database.uploads) == 1
        assert (await made.ask("HEAD", done, TUS)).status == 404


async def test_however_many_they_are(tmp_path: Path) -> None:
    async with yard(tmp_path) as made:
        for _ in range(BATCH + 20):
            made.database.begin(5001, "done", 10, made.now[0])
        assert await made.uploads.sweep() == BATCH + 20
        assert made.database.uploads == {}


async def test_what_an_unreachable_agent_has_waits(tmp_path: Path) -> None:
    async with scripted_yard(saying(b"")) as made:
        made.database.begin(5001, "big", 10, made.now[0])
        assert await made.uploads.sweep() == 0
        assert len(made.database.uploads) == 1
        # Later again, and not before everybody else.
        assert await made.uploads.sweep() == 0


async def test_an_agent_that_cannot_append() -> None:
    async def handler(peer: Peer) -> None:
        head = await request_head(peer)
        listing = answer_bytes(200, {"path": "", "entries": []})
        await peer.send(
            listing
            if head.startswith(b"GET /files?")
            else answer_bytes(200, {})
            if b"directory" in head
            else answer_bytes(404, {})
        )

    async with scripted_yard(handler) as made:
        answer = await made.ask("POST", UPLOADS, TUS, "Upload-Length: 5", metadata(path="a"))
        assert (answer.status, answer.json["details"]["feature"]) == (501, Feature.RESUMABLE_UPLOADS)
        assert made.database.uploads == {}


async def test_a_listing_that_would_take_long_to_read_is_not_read() -> None:
    """Everybody waits while one is read."""
    asked = []

    async def handler(peer: Peer) -> None:
        asked.append((await request_head(peer)).split()[0])
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (5 * MIB))
        await peer.send(b'{"entries": [' + b" " * (5 * MIB - 15) + b"]}")

    async with scripted_yard(handler) as made:
        answer = await made.ask("POST", UPLOADS, TUS, "Upload-Length: 3", metadata(path="big"))
        assert (answer.status, answer.json["code"], asked) == (502, "agent_unreachable", [b"GET"])


async def test_an_agent_that_counts_otherwise() -> None:
    async def handler(peer: Peer) -> None:
        head = await request_head(peer)
        if head.startswith(b"PATCH"):
            await peer.send(b"HTTP/1.1 204 No Content\r\nConnection: close\r\nUpload-Offset: 7\r\n\r\n")
        else:
            await peer.send(answer_bytes(200, {"entries": [{"name": "0" * 32, "size": 0}, 7, {"name": 1}]}))

    async with scripted_yard(handler, limits=Limits(answer_seconds=2.0)) as made:
        location = await begin(made, 10)
        answer = await append(made, location, 0, b"0123")
        assert (answer.status, answer.json["code"]) == (502, "agent_unreachable")
        assert made.book.entries == []


async def test_the_end_of_the_right_ends_it(tmp_path: Path) -> None:
    async with yard(tmp_path) as made, connect(made.port) as peer:
        location = await begin(made, 10)
        head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\n{AUTH}\r\n{TUS}\r\n{PIECE}\r\nUpload-Offset: 0\r\n"
        await peer.send(f"{head}Content-Length: 10\r\n\r\n0123".encode())
        await until(lambda: part_of(made, location).stat().st_size == 4)
        made.server.doorkeeper.grants[-1].end(4401, "signed out")
        assert (await peer.answer()).status == 401
        await until(lambda: made.quiet)
        assert await offset_of(made, location) == 4
