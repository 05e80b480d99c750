"""Files up and down through the whole product: what a customer's browser does, and what it does after a crash."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
from collections.abc import AsyncIterator

import httpx
import pytest
import trio

from tests.journeys.process import DemoProcess
from zlh.demo.portal import Portal

TUS = {"Tus-Resumable": "1.0.0"}
PIECE = {**TUS, "Content-Type": "application/offset+octet-stream"}
LARGE = hashlib.sha256(b"large").digest() * 300_000


@pytest.fixture
async def files(customer: Portal, game: int, raw: httpx.AsyncClient) -> str:
    await customer.until(game, "running")
    return f"/api/game/{game}/files"


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


async def test_up_and_down(raw: httpx.AsyncClient, files: str, game: int) -> None:
    where = {"path": "transferred ☃.bin"}
    made = await raw.put(f"{files}/content", params=where, content=pieces(LARGE))
    assert made.status_code == 201, made.text
    got = await raw.get(f"{files}/content", params=where)
    assert got.content == LARGE
    assert got.headers["etag"] == made.headers["etag"]
    recorded = (await raw.get("/api/audit", params={"action": "file.upload"})).json()["audit"]
    assert recorded[0]["details"]["bytes"] == len(LARGE)
    part = await raw.get(f"{files}/content", params=where, headers={"Range": "bytes=7-15"})
    assert (part.status_code, part.content) == (206, LARGE[7:16])
    late = await raw.put(f"{files}/content", params=where, content=b"x", headers={"If-Match": '"another"'})
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    sent = [("file", (name, LARGE[:size])) for name, size in (("one.bin", 5), ("two.bin", 2_000_000))]
    by_form = await raw.post(f"{files}/upload", params={"path": ""}, files=sent)
    assert [each["size"] for each in by_form.json()["files"]] == [5, 2_000_000]
    assert (await raw.get(f"{files}/content", params={"path": "two.bin"})).content == LARGE[:2_000_000]
    assert (await raw.get(f"/api/dev/{game}/files/content", params=where)).status_code == 404


async def test_who_may_not(raw: httpx.AsyncClient, stranger: Portal, files: str) -> None:
    where = {"path": "server.properties"}
    for token in (None, stranger.token):
        headers = {"Authorization": f"Bearer {token}"} if token else {"Authorization": ""}
        for method in ("GET", "PUT"):
            answer = await raw.request(method, f"{files}/content", params=where, headers=headers)
            assert answer.status_code == (404 if token else 401)


async def test_a_withdrawn_key_ends_what_it_had_begun(raw: httpx.AsyncClient, files: str) -> None:
    made = (await raw.post("/api/auth/api-keys", json={"name": "files", "scopes": ["files"]})).json()
    headers = {"Authorization": f"Bearer {made['key']}"}
    ended = trio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b"x" * 1000
            await trio.sleep(0.05)

    async def upload() -> None:
        try:
            answer = await raw.put(f"{files}/content", params={"path": "cut"}, content=slowly(), headers=headers)
            assert answer.status_code == 401
        except httpx.TransportError:
            pass
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(upload)
        await trio.sleep(0.5)
        assert (await raw.delete(f"/api/auth/api-keys/{made['apiKey']['id']}")).status_code in (200, 204)
        with trio.fail_after(5):
            await ended.wait()
    assert (await raw.get(f"{files}/content", params={"path": "cut"})).status_code == 404


async def test_an_upload_survives_the_death_of_the_api(
    raw: httpx.AsyncClient, customer: Portal, demo: DemoProcess, files: str, game: int
) -> None:
    named = base64.b64encode(b"survivor.bin").decode()
    wish = {**TUS, "Upload-Length": str(len(LARGE)), "Upload-Metadata": f"filename {named}"}
    begun = await raw.post(f"{files}/uploads", headers=wish)
    assert begun.status_code == 201, begun.text
    location = begun.headers["location"]
    half = len(LARGE) // 2

    async def some(data: bytes) -> AsyncIterator[bytes]:
        async for piece in pieces(data):
            yield piece
        os.kill(demo.ready["pids"]["api"], signal.SIGKILL)
        # Until it is noticed that nobody is there any more; none of it arrives.
        while True:
            await trio.sleep(0.1)
            yield b"x"

    before = demo.ready["pids"]["api"]
    with pytest.raises(httpx.TransportError):
        await raw.patch(location, headers={**PIECE, "Upload-Offset": "0"}, content=some(LARGE[:half]))
    with trio.fail_after(60):
        while demo.ready["pids"]["api"] == before:  # noqa: ASYNC110 - another process writes it
            await trio.sleep(0.05)
    await customer.until(game, "running")
    told = await raw.head(location, headers=TUS)
    assert told.status_code == 200
    offset = int(told.headers["upload-offset"])
    assert 0 < offset <= half
    done = await raw.patch(location, headers={**PIECE, "Upload-Offset": str(offset)}, content=LARGE[offset:])
    assert (done.status_code, done.headers["upload-offset"]) == (204, str(len(LARGE)))
    assert (await raw.get(f"{files}/content", params={"path": "survivor.bin"})).content == LARGE


async def test_a_backup_is_downloaded(raw: httpx.AsyncClient, files: str, game: int) -> None:
    backups = f"/api/game/{game}/backups"
    made = await raw.post(backups, json={"name": "to take home"})
    assert made.status_code == 202, made.text
    backup = made.json()["id"]
    with trio.fail_after(30):
        while True:
            listed = (await raw.get(backups)).json()["backups"]
            if [each["state"] for each in listed if each["id"] == backup] == ["ready"]:
                break
            await trio.sleep(0.1)
    archive = await raw.get(f"{backups}/{backup}/download")
    assert archive.status_code == 200
    assert archive.content.startswith(b"\x1f\x8b")
    assert (await raw.delete(f"{backups}/{backup}")).status_code < 300
    recorded = (await raw.get("/api/audit", params={"action": "backup.download"})).json()["audit"]
    assert recorded[0]["details"]["backup"] == backup
