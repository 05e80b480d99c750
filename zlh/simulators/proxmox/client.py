"""Starts the cluster's process and causes faults, from Trio.

async with running(tmp_path / "proxmox.json") as cluster:
    driver = ProxmoxDriver(cluster.url, TokenAuth(cluster.token_id, cluster.token_secret), ...)
    await cluster.cause("task-fails", type="vzstart", exit_status="startup failed", times=1)
"""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import trio

START_SECONDS = 30.0
STOP_SECONDS = 5.0
TOKEN_ID = "root@pam!zlh"
TOKEN_SECRET = "5b0c2f7e-6a1d-4a9e-9f6b-3f1f6f0c2d11"
PASSWORD = "secret"
# One for all: httpx makes a context for each client, in 2 ms, or 20 with the system's authorities.
_PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass
class Cluster:
    """A running cluster. `url` is the API's (without /api2), `certificate` a PEM file for `Tls.ca_file` or a pin."""

    url: str
    control: str
    certificate: Path
    pid: int
    token_id: str = TOKEN_ID
    token_secret: str = field(default=TOKEN_SECRET, repr=False)
    username: str = "root@pam"
    password: str = field(default=PASSWORD, repr=False)

    async def containers(self, *, templates: bool = False) -> dict[int, dict[str, Any]]:
        """The containers by vmid, as `control` describes them."""
        listed = (await self._call("GET", "/containers"))["containers"]
        return {item["vmid"]: item for item in listed if templates or not item["template"]}

    async def changes(self, after: int) -> tuple[int, list[dict[str, Any]]]:
        """Waits (up to 25 s) until the version is no longer `after`; returns version and containers."""
        answer = await self._call("GET", f"/containers?after={after}")
        return answer["version"], answer["containers"]

    async def create(self, containers: Iterable[dict[str, Any]]) -> None:
        """Running containers at once: {"vmid", "hostname", "address", "node", "memory" (MiB), ...}."""
        await self._call("POST", "/containers", {"containers": list(containers)})

    async def delete(self, vmid: int) -> None:
        """Deletes a container behind everyone's back."""
        await self._call("DELETE", f"/containers/{vmid}")

    async def empty(self) -> None:
        """Deletes every container but the templates."""
        await self._call("DELETE", "/containers")

    async def set_power(self, vmid: int, running: bool) -> None:
        """Starts or stops a container behind everyone's back."""
        await self._call("POST", f"/containers/{vmid}/power", {"running": running})

    async def cause(self, name: str, **parameters: Any) -> None:
        """Turns a fault on; `faults` lists them."""
        await self._call("POST", "/faults", {"name": name, **parameters})

    async def calm(self) -> None:
        """Turns every fault off."""
        await self._call("DELETE", "/faults")

    async def requests(self) -> list[tuple[str, str, str]]:
        """(method, path, body) of what the API was asked, oldest first."""
        return [tuple(item) for item in (await self._call("GET", "/requests"))["requests"]]

    async def _call(self, method: str, path: str, document: object = None) -> Any:
        # Plain http on loopback: no proxies, and long polls of 25 s.
        async with httpx.AsyncClient(base_url=self.control, timeout=40, trust_env=False, verify=_PLAIN) as client:
            response = await client.request(method, path, json=document)
        if response.is_error:
            raise ValueError(f"{method} {path}: {response.status_code} {response.text}")
        return response.json()


@asynccontextmanager
async def running(
    state: Path,
    *,
    host: str = "127.0.0.2",
    port: int = 0,
    nodes: Iterable[str] = ("pve1", "pve2"),
    time_scale: float = 0.02,
    options: Iterable[str] = (),
) -> AsyncIterator[Cluster]:
    """Runs a cluster as long as the block. Raises trio.TooSlowError when it does not start, RuntimeError when it ends
    at once; its stderr goes to ours.
    """
    process = await trio.lowlevel.open_process(
        command(state, host=host, port=port, nodes=nodes, time_scale=time_scale, options=options),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        with trio.fail_after(START_SECONDS):
            ready = await _first_line(process)
        yield Cluster(ready["url"], ready["control"], Path(ready["certificate"]), process.pid)
    finally:
        await _end(process)


def command(
    state: Path,
    *,
    host: str = "127.0.0.2",
    port: int = 8006,
    nodes: Iterable[str] = ("pve1", "pve2"),
    time_scale: float = 0.05,
    options: Iterable[str] = (),
) -> list[str]:
    """The command line of a cluster that ends when its stdin is closed."""
    words = [sys.executable, "-m", "zlh.simulators.proxmox", "--state", str(state), "--host", host]
    words += ["--port", str(port), "--time-scale", str(time_scale), "--follow-stdin"]
    words += ["--token", f"{TOKEN_ID}={TOKEN_SECRET}", "--password", PASSWORD]
    for node in nodes:
        words += ["--node", node]
    return [*words, *options]


async def _first_line(process: trio.Process) -> dict[str, str]:
    assert process.stdout is not None
    text = b""
    while not text.endswith(b"\n"):
        chunk = await process.stdout.receive_some()
        if not chunk:
            raise RuntimeError(f"the Proxmox simulator ended before it was ready (status {await process.wait()})")
        text += chunk
    ready: dict[str, str] = json.loads(text)
    return ready


async def _end(process: trio.Process) -> None:
    with trio.CancelScope(shield=True):
        if process.returncode is None:
            process.terminate()
        with trio.move_on_after(STOP_SECONDS):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with trio.CancelScope(shield=True):
                await stream.aclose()
