"""The parts of the contract that the driver only forwards: files, mods, backups, code-server."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.agents import DEV, GAME, TOKEN, start_agent, until
from tests.plain import PLAIN
from zlh.simulators.agent import SimulatedAgent


@asynccontextmanager
async def http(agent: SimulatedAgent, token: str = TOKEN) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {token}"}
    base = f"http://{agent.address}:{agent.port}"
    async with httpx.AsyncClient(base_url=base, headers=headers, trust_env=False, verify=PLAIN, timeout=10) as client:
        yield client


async def put(client: httpx.AsyncClient, path: str, content: bytes) -> int:
    return (await client.put("/files/content", params={"path": path}, content=content)).status_code


async def get(client: httpx.AsyncClient, path: str, **headers: str) -> httpx.Response:
    return await client.get("/files/content", params={"path": path}, headers=headers)


async def test_every_request_needs_the_token(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path, config=GAME)
    async with http(agent, "wrong") as client:
        for path in ("/health", "/files", "/nothing"):
            assert (await client.get(path)).status_code == 401
    async with http(agent) as client:
        assert (await client.get("/nothing")).status_code == 404
        assert (await client.post("/console/command", content=b"[")).status_code == 400
        assert (await client.post("/console/command", json={"command": 7})).status_code == 400


async def test_files(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path, config=GAME)
    async with http(agent) as client:
        assert await put(client, "a.txt", b"hello world") == 201
        assert await put(client, "a.txt", b"hello there") == 204
        whole = await get(client, "a.txt")
        assert (whole.status_code, whole.content) == (200, b"hello there")
        for span, content in (("bytes=6-", b"there"), ("bytes=0-4", b"hello"), ("bytes=-3", b"ere")):
            part = await get(client, "a.txt", Range=span)
            assert (part.status_code, part.content) == (206, content)
        for span in ("bytes=99-", "bytes=-0"):
            assert (await get(client, "a.txt", Range=span)).status_code == 416
        assert (await client.post("/files/directory", json={"path": "d/e"})).status_code == 201
        assert (await client.post("/files/copy", json={"from": "a.txt", "to": "d/b.txt"})).status_code == 200
        assert (await client.post("/files/rename", json={"from": "d/b.txt", "to": "d/c.txt"})).status_code == 200
        assert (await client.post("/files/rename", json={"from": "d/c.txt", "to": "a.txt"})).status_code == 409
        assert (await client.post("/files/chmod", json={"path": "d/c.txt", "mode": "600"})).status_code == 200
        listed = (await client.get("/files", params={"path": "d"})).json()["entries"]
        assert [(entry["name"], entry["type"], entry["mode"]) for entry in listed] == [
            ("c.txt", "file", "600"),
            ("e", "directory", "755"),
        ]
        for name in ("d.zip", "d.tar.gz"):
            assert (await client.post("/files/compress", json={"paths": ["d"], "to": name})).status_code == 200
            assert (await client.post("/files/extract", json={"path": name, "to": f"x-{name}"})).status_code == 200
            assert (await get(client, f"x-{name}/d/c.txt")).content == b"hello there"
            assert (await client.post("/files/compress", json={"paths": ["d"], "to": name})).status_code == 409
            assert await put(client, name, b"no archive") == 204
            broken = await client.post("/files/extract", json={"path": name, "to": "x"})
            assert (broken.status_code, broken.json()["error"]) == (400, "it is no archive that can be read")
        assert (await client.delete("/files", params={"path": "d"})).status_code == 204
        assert (await client.get("/files", params={"path": "d"})).status_code == 404
        assert (await client.delete("/files", params={"path": ""})).status_code == 400


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "..", "a\0b", "out/passwd", "out"])
async def test_nothing_outside_the_root_is_reached(nursery, tmp_path, path):
    agent = await start_agent(nursery, tmp_path, config=GAME)
    (tmp_path / "server").mkdir(exist_ok=True)
    (tmp_path / "server" / "out").symlink_to("/etc")
    async with http(agent) as client:
        assert (await get(client, path)).status_code == 400
        assert await put(client, path, b"x") == 400
        wish = {"path": path, "from": path, "to": path, "paths": [path], "mode": "777"}
        for verb in ("directory", "copy", "compress", "extract", "chmod"):
            if path == "out" and verb == "directory":
                continue
            assert (await client.post(f"/files/{verb}", json=wish)).status_code == 400
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.name != "state.json") == ["server"]


async def test_an_archive_cannot_leave_the_root(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path, config=GAME)
    evil = io.BytesIO()
    with tarfile.open(fileobj=evil, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../../evil.txt"))
    async with http(agent) as client:
        assert await put(client, "evil.tar.gz", evil.getvalue()) == 201
        assert (await client.post("/files/extract", json={"path": "evil.tar.gz", "to": "x"})).status_code == 400
    assert not list(tmp_path.parent.glob("**/evil.txt"))


async def test_an_upload_that_breaks_off_leaves_nothing(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path, config=GAME)
    (tmp_path / "server").mkdir(exist_ok=True)
    head = f"PUT /files/content?path=a HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 999\r\n\r\nhalf"
    stream = await trio.open_tcp_stream(agent.address, agent.port)
    await stream.send_all(head.encode())
    await until(lambda: bool(list((tmp_path / "server").glob("*.part"))) or bool(_hidden(tmp_path)))
    await stream.aclose()
    await until(lambda: not _hidden(tmp_path))
    assert not (tmp_path / "server" / "a").exists()


def _hidden(directory: Path) -> list[Path]:
    return [path for path in (directory / "server").iterdir() if path.name.endswith(".part")]


async def test_a_large_file_streams_both_ways(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path, config=GAME)
    (tmp_path / "server").mkdir(exist_ok=True)
    piece = bytes(range(256)) * 4096

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(32):
            yield piece

    async with http(agent) as client:
        sent = await client.put("/files/content", params={"path": "big"}, content=pieces())
        assert sent.status_code == 201
        size = 0
        async with client.stream("GET", "/files/content", params={"path": "big"}) as answer:
            async for part in answer.aiter_bytes():
                size += len(part)
        assert size == 32 * len(piece)


async def test_mods(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path, config=GAME)
    async with http(agent) as client:
        found = (await client.get("/mods/search", params={"q": "SOD"})).json()["mods"]
        assert [mod["id"] for mod in found] == ["sodium"]
        wish = {"source": "modrinth", "id": "sodium"}
        assert (await client.post("/mods", json=wish)).status_code == 202
        assert (await client.post("/mods", json=wish)).status_code == 409
        assert (await client.post("/mods", json={"source": "modrinth", "id": "none"})).status_code == 404
        assert (await client.post("/mods", json={"source": "odd", "id": "x"})).status_code == 400
        from_url = {"source": "url", "url": "https://example.org/mods/own.jar"}
        assert (await client.post("/mods", json=from_url)).json() == {"id": "own"}
        assert (await client.patch("/mods/sodium", json={"enabled": False})).json()["enabled"] is False
        assert (await client.delete("/mods/own")).status_code == 204
        assert (await client.delete("/mods/own")).status_code == 404
        [mod] = (await client.get("/mods")).json()["mods"]
        assert (mod["id"], mod["enabled"]) == ("sodium", False)


async def test_code_server(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path / "dev")
    async with http(agent, "bootstrap-token") as client:
        assert (await client.get("/dev/code-server")).status_code == 404
        assert (await client.post("/config", json=DEV)).status_code == 202
    async with http(agent) as client:

        def state(wanted: str) -> Callable[[], Any]:
            async def reached() -> bool:
                return bool((await client.get("/dev/code-server")).json()["state"] == wanted)

            return reached

        await until(state("running"))
        assert (await client.post("/dev/code-server/start")).status_code == 409
        assert (await client.post("/dev/code-server/stop")).status_code == 202
        assert (await client.post("/dev/code-server/stop")).status_code == 409
        assert (await client.post("/dev/code-server/restart")).status_code == 202
        await until(state("running"))
