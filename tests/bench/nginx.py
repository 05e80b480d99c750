"""nginx, as Debian ships it, on loopback: what a proxy of ours is compared with, and what both stand before."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

START_SECONDS = 10.0
# Where Debian puts it, which is not on everybody's PATH.
PROGRAM = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

FRAME = """\
daemon off;
master_process off;
pid {folder}/{name}.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    types {{ }}
    default_type text/html;
    client_body_temp_path {folder}/{name}-body;
    proxy_temp_path {folder}/{name}-proxy;
    fastcgi_temp_path {folder}/{name}-fastcgi;
    uwsgi_temp_path {folder}/{name}-uwsgi;
    scgi_temp_path {folder}/{name}-scgi;
{inside}
}}
"""

FILES = "    server {{ listen {address}:{port}; root {root}; }}\n"

# What is usual before an IDE: kept connections behind it, the fields that say who asks, websockets let through.
PROXY = """\
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    upstream behind {{ server {address}:{port}; keepalive 64; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{own_port};
        location / {{
            proxy_pass http://behind;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
        }}
    }}
"""


def files(address: str, port: int, root: Path) -> str:
    """The part of a configuration that serves the files below `root`."""
    return FILES.format(address=address, port=port, root=root)


def proxy(own_port: int, address: str, port: int) -> str:
    """The part of a configuration that passes on to `address`, with nginx's own defaults for buffers."""
    return PROXY.format(own_port=own_port, address=address, port=port)


@asynccontextmanager
async def nginx(
    folder: Path, name: str, inside: str, listening: tuple[str, int], core: int | None = None
) -> AsyncIterator[int]:
    """One process, confined to `core`, until the block ends; its pid once it listens. Raises RuntimeError."""
    if PROGRAM is None:
        raise RuntimeError("this benchmark needs nginx: apt-get install nginx-light")
    configuration = folder / f"{name}.conf"
    configuration.write_text(FRAME.format(folder=folder, name=name, inside=inside))
    log = folder / f"{name}.log"
    process = await trio.lowlevel.open_process(
        [PROGRAM, "-p", str(folder), "-e", str(log), "-c", str(configuration)], stdin=subprocess.DEVNULL
    )
    try:
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        await _listens(process, listening, name)
        yield process.pid
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()


async def _listens(process: trio.Process, address: tuple[str, int], name: str) -> None:
    with trio.move_on_after(START_SECONDS):
        while process.poll() is None:
            with socket.socket() as sock:
                if sock.connect_ex(address) == 0:
                    return
            await trio.sleep(0.02)
    raise RuntimeError(f"nginx does not listen at {address}; its log: {name}.log")
