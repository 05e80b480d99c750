"""What a customer does with a running game: files, players, the console without a websocket, mods; a stranger nothing
of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.agents import until
from tests.journeys.process import DemoProcess
from zlh.demo.portal import Portal

FOLDER = "journey"
ODD = "a #?&%+ 50%off é\u0301 👩‍🚀 'quoted' \"twice\" [x] {y}; ~`!@$^*()=|<>,"


@dataclass
class Game:
    """One game container as its owner sees it."""

    http: httpx.AsyncClient
    base: str

    async def ask(self, method: str, path: str, wanted: int, body: Any = None, /, **query: str) -> Any:
        """The answer, which must have that status."""
        answer = await self.http.request(method, f"{self.base}/{path}", json=body, params=query)
        assert answer.status_code == wanted, (method, path, answer.text)
        return answer.json() if answer.content else None

    async def names(self, folder: str) -> dict[str, dict[str, Any]]:
        listed = await self.ask("GET", "files", 200, path=folder)
        return {entry["name"]: entry for entry in listed["entries"]}


@pytest.fixture
async def own(customer: Portal, raw: httpx.AsyncClient, game: int) -> AsyncIterator[Game]:
    await customer.until(game, "running")
    own = Game(raw, f"/api/game/{game}")
    yield own
    await own.http.request("DELETE", f"{own.base}/files", params={"path": FOLDER})


async def test_files(own: Game) -> None:
    await own.ask("POST", "files/directory", 201, {"path": f"{FOLDER}/{ODD}"})
    await own.ask("POST", "files/directory", 409, {"path": f"{FOLDER}/{ODD}"})
    assert list(await own.names(FOLDER)) == [ODD]

    inside = f"{FOLDER}/{ODD}"
    await own.ask("POST", "files/compress", 200, {"paths": [inside], "to": f"{FOLDER}/one.zip"})
    await own.ask("POST", "files/copy", 200, {"from": f"{FOLDER}/one.zip", "to": f"{inside}/Copy.ZIP.zip"})
    await own.ask("POST", "files/chmod", 200, {"path": f"{FOLDER}/one.zip", "mode": "640"})
    one = (await own.names(FOLDER))["one.zip"]
    assert (one["type"], one["mode"], one["size"] > 0, one["modified"][-1]) == ("file", "640", True, "Z")

    found = await own.ask("GET", "files/search", 200, path=FOLDER, q="copy.z")
    assert [(entry["path"], entry["name"]) for entry in found["entries"]] == [
        (f"{inside}/Copy.ZIP.zip", "Copy.ZIP.zip")
    ]
    assert found["truncated"] is False
    assert (await own.ask("GET", "files/search", 200, path=FOLDER, q="i", limit="1"))["truncated"] is True

    await own.ask("POST", "files/rename", 409, {"from": f"{FOLDER}/one.zip", "to": f"{inside}/Copy.ZIP.zip"})
    move = {"from": f"{FOLDER}/one.zip", "to": f"{inside}/Copy.ZIP.zip", "replace": True}
    await own.ask("POST", "files/move", 200, move)
    await own.ask("POST", "files/rename", 200, {"from": inside, "to": f"{FOLDER}/plain"})
    assert list(await own.names(FOLDER)) == ["plain"]

    archive = {"path": f"{FOLDER}/plain/Copy.ZIP.zip", "to": f"{FOLDER}/apart"}
    await own.ask("POST", "files/extract", 200, archive)
    assert ODD in await own.names(f"{FOLDER}/apart/{FOLDER}")
    await own.ask("DELETE", "files", 204, path=FOLDER)
    missing = await own.ask("GET", "files", 404, path=FOLDER)
    assert (missing["code"], missing["error"]) == ("agent_refused", "no such file or directory")
    for path in ("../etc", "/etc", "%2e%2e", ".zlh-uploads"):
        assert (await own.ask("DELETE", "files", 400, path=path))["code"] == "invalid"


async def test_players_and_the_console(own: Game) -> None:
    assert (await own.ask("POST", "console/command", 202, {"command": "join journeyman"})) == {"ok": True}

    async def joined() -> bool:
        return "journeyman" in (await own.ask("GET", "players", 200, fresh="true"))["names"]

    await until(joined)
    cached = await own.ask("GET", "players", 200)
    assert cached["max"] == 20
    assert cached["observedAt"].endswith("Z")
    history = await own.ask("GET", "console/history", 200, lines="200")
    assert any("journeyman joined" in line for line in history["lines"])
    assert len((await own.ask("GET", "console/history", 200, lines="1"))["lines"]) == 1
    await own.ask("POST", "console/command", 202, {"command": "leave journeyman"})
    await own.ask("POST", "console/command", 400, {"command": "two\nlines"})


async def test_mods(own: Game) -> None:
    shop = (await own.ask("GET", "mods/search", 200, q="lith"))["mods"]
    assert [mod["id"] for mod in shop] == ["lithium"]
    wish = {"source": "modrinth", "id": "lithium", "version": "0.1.0"}
    assert (await own.ask("POST", "mods", 202, wish)) == {"id": "lithium"}
    assert (await own.ask("POST", "mods", 409, wish))["code"] == "agent_refused"
    newer = (await own.ask("GET", "mods/updates", 200))["updates"]
    assert {"id": "lithium", "current": "0.1.0", "latest": "0.15.0"} in newer
    await own.ask("PATCH", "mods/lithium", 200, {"enabled": False, "version": "0.15.0"})
    [mod] = [mod for mod in (await own.ask("GET", "mods", 200))["mods"] if mod["id"] == "lithium"]
    assert (mod["enabled"], mod["version"]) == (False, "0.15.0")
    await own.ask("DELETE", "mods/lithium", 204)
    assert (await own.ask("DELETE", "mods/lithium", 404))["error"] == "no mod lithium"


async def test_a_dev_container_has_files_and_its_ides_power(
    customer: Portal, raw: httpx.AsyncClient, demo: DemoProcess
) -> None:
    vmid = demo.ready["vmids"]["dev"]
    dev = Game(raw, f"/api/dev/{vmid}")

    async def running() -> bool:
        return bool((await dev.ask("GET", "code-server", 200))["state"] == "running")

    await customer.until(vmid, "running")
    await until(running, 20)
    assert (await dev.ask("POST", "code-server/restart", 202)) == {"ok": True}
    await until(running, 20)
    assert (await dev.ask("POST", "code-server/start", 409))["code"] == "agent_refused"
    assert (await dev.ask("GET", "files", 200))["path"] == ""
    assert (await customer.refused("GET", f"/api/dev/{vmid}/mods")) == 404
    server = Game(raw, f"/api/servers/{vmid}/agent")
    version = (await server.ask("GET", "version", 200))["version"]
    assert (await server.ask("GET", "update", 200))["current"] == version


async def test_a_stranger_finds_nothing(stranger: Portal, game: int) -> None:
    for method, path in (
        ("GET", "files"),
        ("DELETE", "files?path=world"),
        ("GET", "files/search?q=x"),
        ("GET", "players"),
        ("GET", "console/history"),
        ("GET", "mods"),
        ("DELETE", "mods/lithium"),
    ):
        assert await stranger.refused(method, f"/api/game/{game}/{path}") == 404, path
        assert await stranger.refused(method, f"/api/dev/{game}/{path}") == 404, path
