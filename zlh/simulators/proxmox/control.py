"""The interface that is not Proxmox's: plain HTTP and JSON on loopback.

    GET    /containers?after=N      {"version", "containers"}; waits up to 25 s until the version is no longer N
    POST   /containers              {"containers": [...]} as `Host.add_running`: running at once, for load tests
    DELETE /containers              all but the templates are gone
    DELETE /containers/<vmid>       someone deletes it by hand
    POST   /containers/<vmid>/power {"running": bool}: someone starts or stops it by hand
    GET    /faults                  the faults that are on, with the uses `left`
    POST   /faults                  a fault or a list of them, as documented in `faults`
    DELETE /faults                  all is well again
    GET    /requests                [[method, path, body]] that Proxmox' side saw, oldest first; secrets are `***`

A container is {"vmid", "node", "hostname", "running", "address" (of net0, or null), "memory" (MiB), "uptime" (s),
"started" (Unix seconds or null), "lock", "template"}. The version rises with every change of these but the uptime; a
restarted container has another `started`. Errors are {"error": text} with 400, 404 or 409.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from zlh.simulators.proxmox.host import Host

LONGEST_WAIT_SECONDS = 25.0
_ADDRESS = re.compile(r"(?:^|,)ip=([0-9.]+)/")


def container(ct: Any) -> dict[str, Any]:
    """A fakepve container as the control port shows it, without the uptime."""
    address = _ADDRESS.search(str(ct.config.get("net0", "")))
    return {
        "vmid": ct.vmid,
        "node": ct.node,
        "hostname": ct.name,
        "running": ct.status == "running",
        "address": address[1] if address else None,
        "memory": int(ct.config.get("memory") or 512),
        "started": ct.started_at if ct.status == "running" else None,
        "lock": ct.lock or "",
        "template": bool(ct.template),
    }


class Register:
    """The containers as of the last look, and the version that rises when they change."""

    def __init__(self, host: Host, version: int) -> None:
        self._host = host
        self.version = version
        self.containers: list[dict[str, Any]] = []
        self._moved = asyncio.Condition()

    async def look(self) -> None:
        """Looks again; whoever waits is told when something is different."""
        now = [container(ct) for ct in self._host.cts]
        if now == self.containers:
            return
        self.containers = now
        self.version += 1
        async with self._moved:
            self._moved.notify_all()

    async def newer(self, than: int) -> None:
        """Waits until the version is another one, or the longest wait is over."""
        try:
            async with asyncio.timeout(LONGEST_WAIT_SECONDS), self._moved:
                await self._moved.wait_for(lambda: self.version != than)
        except TimeoutError:
            pass

    def document(self) -> dict[str, Any]:
        now = time.time()
        listed = [
            {**item, "uptime": int(now - item["started"]) if item["started"] else 0} for item in self.containers
        ]
        return {"version": self.version, "containers": listed}


class Control:
    """The control port of one host."""

    def __init__(self, host: Host, register: Register) -> None:
        self._host = host
        self._register = register

    def application(self) -> web.Application:
        app = web.Application(middlewares=[_errors], client_max_size=64 * 1024**2)
        app.router.add_get("/containers", self._list)
        app.router.add_post("/containers", self._create)
        app.router.add_delete("/containers", self._empty)
        app.router.add_delete(r"/containers/{vmid:\d+}", self._delete)
        app.router.add_post(r"/containers/{vmid:\d+}/power", self._power)
        app.router.add_get("/faults", self._faults)
        app.router.add_post("/faults", self._cause)
        app.router.add_delete("/faults", self._calm)
        app.router.add_get("/requests", self._requests)
        return app

    async def _list(self, request: web.Request) -> web.Response:
        await self._register.look()
        after = request.query.get("after")
        if after is not None:
            await self._register.newer(int(after))
        return web.json_response(self._register.document())

    async def _create(self, request: web.Request) -> web.Response:
        for wanted in (await request.json())["containers"]:
            self._host.add_running(wanted)
        return await self._told()

    async def _empty(self, request: web.Request) -> web.Response:
        for vmid in [ct.vmid for ct in self._host.cts if not ct.template]:
            self._host.remove(vmid)
        return await self._told()

    async def _delete(self, request: web.Request) -> web.Response:
        self._host.remove(int(request.match_info["vmid"]))
        return await self._told()

    async def _power(self, request: web.Request) -> web.Response:
        self._host.set_power(int(request.match_info["vmid"]), bool((await request.json())["running"]))
        return await self._told()

    async def _told(self) -> web.Response:
        await self._register.look()
        return web.json_response({"version": self._register.version})

    async def _faults(self, request: web.Request) -> web.Response:
        return web.json_response({"faults": self._host.faults.document()})

    async def _cause(self, request: web.Request) -> web.Response:
        document = await request.json()
        for fault in document if isinstance(document, list) else [document]:
            await self._host.cause(fault)
        return await self._faults(request)

    async def _calm(self, request: web.Request) -> web.Response:
        await self._host.calm()
        return await self._faults(request)

    async def _requests(self, request: web.Request) -> web.Response:
        seen = [[method, path, body.decode("utf-8", "replace")] for method, path, body in self._host.requests]
        return web.json_response({"requests": seen})


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except KeyError as error:
        return web.json_response({"error": f"not found or missing: {error}"}, status=404)
    except (ValueError, TypeError) as error:
        status = 409 if "already exists" in str(error) else 400
        return web.json_response({"error": str(error)}, status=status)
