"""fakepve as a cluster of ours: nodes of a size, shared storage, durations, faults, and word of every change.

Seconds are Proxmox's; `time_scale` turns them into real ones.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import random
import re
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from fakepve import FakePve
from fakepve.model import TaskError
from fakepve.server import FakeCt

from zlh.simulators.proxmox.faults import Fault, Faults, parse

STORAGE = "shared"
GAME_TEMPLATE = 9000
DEV_TEMPLATE = 9001
NODE_CORES = 16
_API = re.compile(r"^/api2/(json|extjs)")
_DURATIONS = {"create": 5, "clone": 6, "destroy": 2, "resize": 1, "template": 1, "migrate": 10}
_START, _SHUTDOWN, _STOP = 2, 3, 1
_MIB = 1024**2

# The fault of the task that the current coroutine belongs to.
_fault: contextvars.ContextVar[Fault | None] = contextvars.ContextVar("fault", default=None)


@dataclass(frozen=True)
class NodeSize:
    """A node of the cluster; `memory` in bytes."""

    name: str
    memory: int


class Host(FakePve):  # type: ignore[misc]  # fakepve ships no types
    """A cluster. `changed` is called, often and cheaply, whenever something may have changed."""

    def __init__(
        self, nodes: list[NodeSize], host: str, port: int, *, time_scale: float, password: str, tokens: dict[str, str]
    ) -> None:
        super().__init__(user="root@pam", password=password, host=host, port=port)
        self.port: int = port
        self.faults = Faults()
        self.changed: Callable[[], None] = lambda: None
        self.sizes = {node.name: node for node in nodes}
        self.nodes = {node.name: {"online": True} for node in nodes}
        self.time_scale = time_scale
        self.apitokens = dict(tokens)
        self.ct_secs.update(_DURATIONS)
        # Clones may go to any node, as they do in a cluster with Ceph or a file server.
        self.add_ceph_storage(STORAGE)
        self._context: ssl.SSLContext | None = None
        self._frozen: dict[int | None, str] = {}

    async def start(self, certfile: str, keyfile: str) -> None:
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certfile, keyfile)
        self.runner = web.AppRunner(self._build_app(), access_log=None, shutdown_timeout=0.5)
        await self.runner.setup()
        await self.listen()

    async def listen(self) -> None:
        await web.TCPSite(self.runner, self.host, self.port, ssl_context=self._context).start()
        self.port = self.port or self.runner.addresses[0][1]

    async def refuse(self) -> None:
        """Stops listening and cuts every connection, so that the next one is refused."""
        for site in list(self.runner.sites):
            await site.stop()
        assert self.runner.server is not None
        for connection in list(self.runner.server.connections):
            if connection.transport is not None:
                connection.transport.abort()

    def _build_app(self) -> web.Application:
        app: web.Application = super()._build_app()
        app.middlewares.insert(0, self._with_faults)
        return app

    @web.middleware
    async def _with_faults(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        path, method = _API.sub("", request.path), request.method
        for slow in self.faults.all("slow"):
            if slow.get("method", method) == method and re.search(slow.get("path", ""), path):
                await asyncio.sleep(slow["seconds"])
        instead = self._instead(method, path)
        if instead is not None:
            return instead
        after = self.faults.request({"fail-after", "lost-answer"}, method, path)
        try:
            response = await handler(request)
        finally:
            if method != "GET":
                self.changed()
        if after is None:
            return response
        if after.name == "lost-answer" and request.transport is not None:
            request.transport.abort()
        return _error(after)

    def _instead(self, method: str, path: str) -> web.Response | None:
        for down in self.faults.all("down"):
            if down.get("how", "refuse") != "refuse":
                return web.Response(status=int(down["how"]), reason="Service Unavailable", text="")
        fault = self.faults.request({"fail-before", "garbage", "lock-timeouts"}, method, path)
        if fault is None:
            return None
        if fault.name == "garbage":
            body = fault.get("body", "<html>")
            return web.Response(status=fault.get("status", 200), text=body, content_type="application/json")
        if fault.name == "lock-timeouts":
            vmid = path.split("/lxc/")[1].split("/")[0]
            text = f"can't lock file '/run/lock/lxc/pve-config-{vmid}.lock' - got timeout"
            return _json_error(500, text)
        return _error(fault)

    async def _resources(self, request: web.Request) -> web.Response:
        response = await super()._resources(request)
        hidden = {fault["vmid"] for fault in self.faults.all("hidden")}
        data = [item for item in json.loads(response.text)["data"] if item.get("vmid") not in hidden]
        for _frozen in self.faults.all("powers-frozen"):
            for item in data:
                item["status"] = self._frozen.get(item.get("vmid"), item.get("status"))
        return web.json_response({"data": self._sized(data)})

    async def _nodes(self, request: web.Request) -> web.Response:
        response = await super()._nodes(request)
        return web.json_response({"data": self._sized(json.loads(response.text)["data"])})

    def _sized(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The list with our nodes' memory in place of fakepve's fixed figures; a running container uses its limit."""
        used = dict.fromkeys(self.sizes, 0)
        for ct in self.cts:
            if ct.status == "running" and ct.node in used:
                used[ct.node] += self._maxmem(ct)
        for item in items:
            size = self.sizes.get(item.get("node", "")) if item.get("type") == "node" else None
            if size is not None and item["status"] == "online":
                item.update(maxmem=size.memory, mem=used[size.name], maxcpu=NODE_CORES)
        return items

    async def task(
        self,
        node: str,
        ttype: str,
        tid: object,
        user: str,
        body: Callable[[], Awaitable[Any]],
        vm: Any = None,
        lock: bool = True,
        log: object = (),
    ) -> str:
        if isinstance(vm, FakeCt):
            vm.start_secs, vm.shutdown_secs, vm.stop_secs = _START, _SHUTDOWN, _STOP
        fault = self.faults.task(ttype, getattr(vm, "vmid", None))

        async def observed() -> Any:
            _fault.set(fault)
            self.changed()
            try:
                note = await body()
                if fault is not None and fault.name == "task-fails":
                    raise TaskError(fault["exit_status"])
                return note
            except TaskError:
                # fakepve leaves the mark of a destruction that failed, and with it the container for ever.
                if vm is not None and vm.lock == "destroyed":
                    vm.lock = None
                raise
            finally:
                self.changed()

        upid: str = await super().task(node, ttype, tid, user, observed, vm=vm, lock=lock, log=log)
        return upid

    async def pause(self, secs: float) -> None:
        """Every task pauses in its middle, inside fakepve's own clean-up: the place for its fault."""
        fault = _fault.get()
        await super().pause(secs)
        if fault is not None and fault.name == "task-hangs":
            await fault.cleared.wait()
        if fault is not None and fault.name == "task-fails" and not fault.get("after", False):
            raise TaskError(fault["exit_status"])
        self.changed()

    def add_template(self, vmid: int, hostname: str) -> None:
        """A stopped template on the first node, in shared storage."""
        self.add_ct(
            vmid,
            hostname,
            node=next(iter(self.sizes)),
            template=True,
            config={
                "rootfs": f"{STORAGE}:base-{vmid}-disk-0,size=4G",
                "memory": 512,
                "cores": 1,
                "net0": "name=eth0,bridge=vmbr0,ip=dhcp,type=veth",
            },
        )

    def add_running(self, wanted: dict[str, Any]) -> None:
        """A container as if it had always been there. Keys: vmid, hostname, address, node, memory (MiB), cores, disk
        (GiB), description, tags, running. Raises ValueError for a taken vmid or an unknown node.
        """
        vmid, node = wanted["vmid"], wanted.get("node", next(iter(self.sizes)))
        if node not in self.sizes:
            raise ValueError(f"no node {node!r}")
        if self.guest(vmid) is not None:
            raise ValueError(f"CT {vmid} already exists")
        mac = "BC:24:11:" + ":".join(f"{random.randrange(256):02X}" for _ in range(3))
        network = f"ip={wanted['address']}/8" if wanted.get("address") else "ip=dhcp"
        config = {
            "rootfs": f"{STORAGE}:vm-{vmid}-disk-0,size={wanted.get('disk', 8)}G",
            "memory": wanted.get("memory", 1024),
            "cores": wanted.get("cores", 1),
            "net0": f"name=eth0,bridge=vmbr0,hwaddr={mac},{network},type=veth",
        } | {key: wanted[key] for key in ("description", "tags") if key in wanted}
        status = "running" if wanted.get("running", True) else "stopped"
        ct = FakeCt(vmid, wanted.get("hostname"), node=node, status=status, config=config)
        self.cts.append(ct)
        ct.pid = next(self._ct_pids) if status == "running" else None
        self.changed()

    def remove(self, vmid: int) -> None:
        """Someone deletes it by hand, at once. Raises KeyError."""
        self._drop(self._known(vmid))
        self.changed()

    def set_power(self, vmid: int, running: bool) -> None:
        """Someone starts or stops it by hand, at once. Raises KeyError."""
        ct = self._known(vmid)
        ct.status = "running" if running else "stopped"
        ct.started_at = time.time() if running else None
        ct.pid = next(self._ct_pids) if running else None
        self.changed()

    def _known(self, vmid: int) -> Any:
        ct = self.ct(vmid)
        if ct is None:
            raise KeyError(vmid)
        return ct

    async def cause(self, document: object) -> None:
        """Turns one fault on. Raises ValueError for what `faults` does not document, KeyError for an unknown vmid or
        node.
        """
        fault = parse(document)
        if fault.name == "node-offline":
            self.set_node_offline(self.sizes[fault["node"]].name)
        elif fault.name == "quorum-lost":
            self.lose_quorum()
        elif fault.name == "locked":
            self._known(fault["vmid"]).lock = fault.get("lock", "backup")
        elif fault.name == "lock-held":
            await self._hold(self._known(fault["vmid"]))
        elif fault.name == "down" and fault.get("how", "refuse") == "refuse":
            await self.refuse()
        elif fault.name == "signed-out":
            self.revoke_tickets()
        elif fault.name == "ticket-lifetime":
            self.ticket_ttl = fault["seconds"]
        elif fault.name == "powers-frozen":
            self._frozen = {ct.vmid: ct.status for ct in self.cts}
        self.faults.add(fault)
        self.changed()

    async def _hold(self, ct: Any) -> None:
        if ct.lock_holder is None:
            await self.hold_config_lock(ct.vmid, None)

    async def calm(self) -> None:
        """Turns every fault off: nodes are back, locks released, connections accepted."""
        for fault in self.faults.clear():
            ct = self.ct(fault.get("vmid", 0))
            if fault.name == "node-offline":
                self.set_node_offline(fault["node"], offline=False)
            elif fault.name == "quorum-lost":
                self.regain_quorum()
            elif fault.name == "locked" and ct is not None:
                ct.lock = None
            elif fault.name == "lock-held" and ct is not None:
                self.release_config_lock(ct.vmid)
            elif fault.name == "down" and not self.runner.sites:
                await self.listen()
            elif fault.name == "ticket-lifetime":
                self.ticket_ttl = 7200
        self.changed()


def _error(fault: Fault) -> web.Response:
    return _json_error(fault.get("status", 500), fault.get("message", "got an error"))


def _json_error(status: int, text: str) -> web.Response:
    return web.json_response({"data": None, "message": text + "\n"}, status=status, reason=text.splitlines()[0][:200])
