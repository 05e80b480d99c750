"""Benchmarks of the gateway: `python -m tests.gateway.bench [seconds]` prints a table and JSON.

The gateway runs in a process of its own before an upstream that does nothing, so its own cost is seen: what counts is
the number per second of *its* CPU time, for on a shared machine the number per second depends on the neighbours.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import select
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import trio
import trio.lowlevel

from tests.gateway.behind import FakeConsoles, FakeDoorkeeper
from zlh.gateway import Limits, serve
from zlh.wire.frames import Opcode, client_frame, new_key, server_frame
from zlh.wire.walker import UNLIMITED

SMALL = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n" + b"x" * 1000
LARGE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 1_000_000
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    b"3e8\r\n" + b"x" * 1000 + b"\r\n0\r\n\r\n"
)
REQUEST = (
    b"GET %b HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
    b"Accept: application/json\r\nAccept-Encoding: gzip, deflate, br\r\nAuthorization: Bearer "
    + b"t" * 300
    + b"\r\n\r\n"
)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def upstream_process(path: str) -> None:
    """Answers every request at once; echoes whatever comes after an upgrade."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1024)
    poll = select.epoll()
    poll.register(listener.fileno(), select.EPOLLIN)
    open_sockets: dict[int, socket.socket] = {}
    upgraded: set[int] = set()
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                sock, _ = listener.accept()
                open_sockets[sock.fileno()] = sock
                poll.register(sock.fileno(), select.EPOLLIN)
                continue
            sock = open_sockets[fd]
            try:
                answer(sock, upgraded)
            except OSError:
                poll.unregister(fd)
                upgraded.discard(fd)
                open_sockets.pop(fd).close()


def answer(sock: socket.socket, upgraded: set[int]) -> None:
    data = sock.recv(65536)
    if not data:
        raise ConnectionError
    if sock.fileno() in upgraded:
        sock.sendall(server_frame(Opcode.TEXT, b"x" * 100))
    elif b"upgrade: websocket" in data:
        upgraded.add(sock.fileno())
        sock.sendall(SWITCH)
    else:
        sock.sendall(LARGE if b" /large" in data else CHUNKED if b" /chunked" in data else SMALL)


class _ChattyConsoles(FakeConsoles):
    """Publishes batches of 20 lines as fast as its viewers' sockets take them, once the first has come."""

    async def run(self, published: Any) -> None:
        while True:
            if self.viewers:
                self.publish(*["[12:00:00] [Server thread/INFO]: somebody walked " + "x" * 40] * 20)
                published.value += 20
            await trio.lowlevel.checkpoint()


def gateway_process(path: str, port: Any, published: Any) -> None:
    async def main() -> None:
        consoles = _ChattyConsoles()
        async with trio.open_nursery() as nursery:
            gateway = await nursery.start(
                partial(
                    serve,
                    "127.0.0.1",
                    0,
                    upstream_socket=path,
                    doorkeeper=FakeDoorkeeper(),
                    consoles=consoles,
                    limits=Limits(websocket=UNLIMITED),
                )
            )
            nursery.start_soon(consoles.run, published)
            port.value = gateway.address.port

    trio.run(main)


def handshake(target: bytes) -> bytes:
    return (
        b"GET %b HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: %b\r\n\r\n" % (target, new_key())
    )


def closed_loop(port: int, connections: int, seconds: float, message: bytes, answer_size: int, first: bytes) -> int:
    """How many answers of that size (0: of the first one's) came while every connection asks again at once."""
    poll = select.epoll()
    socks: dict[int, socket.socket] = {}
    missing: dict[int, int] = {}
    for _ in range(connections):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if first:
            sock.sendall(first)
            assert b"101" in sock.recv(4096)
        socks[sock.fileno()] = sock
        poll.register(sock.fileno(), select.EPOLLIN)
    if not answer_size:
        sock = next(iter(socks.values()))
        sock.sendall(message)
        time.sleep(0.5)
        answer_size = len(sock.recv(1 << 22))
        sock.setblocking(False)
        try:
            while more := len(sock.recv(1 << 22)):
                answer_size += more
                time.sleep(0.05)
        except BlockingIOError:
            sock.setblocking(True)
    done = 0
    for fd, sock in socks.items():
        sock.sendall(message)
        missing[fd] = answer_size
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for fd, _ in poll.poll(1):
            missing[fd] -= len(socks[fd].recv(1 << 20))
            if missing[fd] <= 0:
                done += 1
                missing[fd] += answer_size
                socks[fd].sendall(message)
    for sock in socks.values():
        sock.close()
    return done


def watch_consoles(port: int, viewers: int, seconds: float, published: Any) -> int:
    """How many lines were published while so many viewers read all that they get, times the viewers."""
    poll = select.epoll()
    socks = {}
    for _ in range(viewers):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(handshake(b"/api/servers/1/console/stream?access_token=good"))
        socks[sock.fileno()] = sock
        poll.register(sock.fileno(), select.EPOLLIN)
    received = 0
    end = time.monotonic() + seconds
    before = published.value
    while time.monotonic() < end:
        for fd, _ in poll.poll(1):
            received += len(socks[fd].recv(1 << 20))
    for sock in socks.values():
        sock.close()
    line_bytes = (len(server_frame(Opcode.TEXT, b"x" * (20 * 89 - 1)))) / 20
    return min(round(received / line_bytes), (published.value - before) * viewers)


def measure(seconds: float) -> dict[str, dict[str, float]]:
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory:
        path = os.fspath(Path(directory) / "up.sock")
        port, published = spawn.Value("i", 0), spawn.Value("q", 0)
        upstream = spawn.Process(target=upstream_process, args=(path,), daemon=True)
        gateway = spawn.Process(target=gateway_process, args=(path, port, published), daemon=True)
        upstream.start()
        gateway.start()
        while not port.value or not os.path.exists(path):
            time.sleep(0.05)
        process = psutil.Process(gateway.pid)
        results: dict[str, dict[str, float]] = {}

        def run(name: str, job: Callable[[], int]) -> None:
            times = process.cpu_times()
            cpu, began = times.user + times.system, time.monotonic()
            count = job()
            times = process.cpu_times()
            cpu, wall = times.user + times.system - cpu, time.monotonic() - began
            results[name] = {
                "per_second": round(count / wall),
                "per_cpu_second": round(count / cpu),
                "us_each": round(cpu / max(count, 1) * 1e6, 1),
                "rss_mib": round(process.memory_info().rss / (1 << 20), 1),
            }

        loop = partial(closed_loop, port.value)
        echo = client_frame(Opcode.TEXT, b"x" * 100)
        try:
            for name, target in (
                ("1 KB answer", b"/small"),
                ("1 KB chunked", b"/chunked"),
                ("1 MB answer", b"/large"),
            ):
                run(name, partial(loop, 50, seconds, REQUEST % target, 0, b""))
            run("websocket echo, 50 connections", partial(loop, 50, seconds, echo, 102, handshake(b"/ws")))
            for viewers in (1, 100):
                run(
                    f"console lines, {viewers} viewers",
                    partial(watch_consoles, port.value, viewers, seconds, published),
                )
        finally:
            gateway.kill()
            upstream.kill()
        return results


def main() -> None:
    results = measure(float(sys.argv[1]) if len(sys.argv) > 1 else 4.0)
    for name, row in results.items():
        print(f"{name:34}" + "  ".join(f"{key} {value:>10}" for key, value in row.items()))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
