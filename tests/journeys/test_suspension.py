"""A suspension through the whole product: containers are off, data is fetched, and after it all is as before."""

from __future__ import annotations

import httpx
from trio_websocket import open_websocket_url

from tests.journeys.process import DemoProcess
from tests.journeys.test_friends import ended
from zlh.demo.portal import Portal
from zlh.demo.wishes import GAME


async def test_suspended_fetched_and_back(stranger: Portal, operator: Portal, demo: DemoProcess) -> None:
    made = await stranger.order(GAME)
    await stranger.follow(made["operation"])
    vmid = made["vmid"]
    await stranger.until(vmid, "running")
    account = (await stranger.get("/api/auth/me"))["user"]["id"]
    overseen = f"/api/operators/accounts/{account}"
    headers = {"Authorization": f"Bearer {stranger.token}"}
    async with httpx.AsyncClient(base_url=demo.ready["url"], headers=headers, timeout=30, trust_env=False) as raw:
        content = {"url": f"/api/game/{vmid}/files/content", "params": {"path": "kept.txt"}}
        assert (await raw.put(**content, content=b"kept")).status_code == 201
        console = f"ws{demo.ready['url'].removeprefix('http')}/api/servers/{vmid}/console/stream"
        bearer = [(b"Authorization", f"Bearer {stranger.token}".encode())]
        async with open_websocket_url(console, extra_headers=bearer) as connection:
            await operator.post(f"{overseen}/suspend", {"reason": "the bill was not paid"})
            assert await ended(connection) == 4403
        assert (await stranger.get("/api/auth/me"))["user"]["suspended_at"] is not None
        server = await stranger.until(vmid, "host offline")
        assert server["suspended"] is True
        assert await stranger.refused("POST", f"/api/servers/{vmid}/host/start") == 403
        assert await stranger.refused("POST", f"/api/servers/{vmid}/game/start") == 403
        assert (await raw.get(**content)).status_code == 409

        retrieval = await stranger.post(f"/api/servers/{vmid}/retrieval", {"minutes": 10})
        await stranger.follow(retrieval["operation"])
        await stranger.until(vmid, "stopped")
        fetched = await raw.get(**content)
        assert (fetched.status_code, fetched.content) == (200, b"kept")
        assert (await raw.put(**content, content=b"changed")).json()["code"] == "suspended"
        listed = await stranger.get(f"/api/game/{vmid}/files")
        assert "kept.txt" in {entry["name"] for entry in listed["entries"]}
        longer = await stranger.post(f"/api/servers/{vmid}/retrieval", {"minutes": 20})
        assert longer["operation"] is None
        assert longer["retrievalUntil"] > retrieval["retrievalUntil"]

        await operator.post(f"{overseen}/unsuspend")
        server = await stranger.until(vmid, "running")
        assert (server["suspended"], server["retrievalUntil"]) == (False, None)
        assert (await raw.put(**content, content=b"changed")).status_code == 204
    await stranger.delete(f"/api/containers/{vmid}?force=true")
