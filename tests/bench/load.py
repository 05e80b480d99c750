"""Asks the API for one address as often as it can, or so many times a second, over connections that stay open.

    python -m tests.bench.load

reads {"port", "path", "token", "connections", "seconds", "rate"} from standard input, and "body" where that is to be
sent with POST; `rate` 0 means that each connection asks again as soon as it has its answer. Writes {"answers",
"seconds", "p50", "p99", "worst", "cpu"}: seconds, the latency of a paced request counted from the moment at
which it was due.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections import deque
from typing import Any

from tests.bench.figures import quantile


class Connection:
    """One request at a time. `due` is when the one in flight should have been sent."""

    def __init__(self, port: int, request: bytes) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self._request = request
        self._head = b""
        self._missing = 0

    def ask(self, due: float) -> None:
        self.due = due
        self._head = b""
        self.sock.sendall(self._request)

    def answered(self) -> bool:
        """Reads what came; whether the answer is complete."""
        data = self.sock.recv(1 << 18)
        if not data:
            raise ConnectionError("the API closed a connection")
        if not self._missing:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return False
            self._missing = _length(head)
        self._missing -= len(data)
        return self._missing == 0


def _length(head: bytes) -> int:
    if not head.startswith(b"HTTP/1.1 200 "):
        raise ConnectionError(f"the API answered {head[:200]!r}")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    raise ConnectionError("an answer without Content-Length")


def _request(order: dict[str, Any]) -> bytes:
    body = order.get("body", "").encode()
    head = (
        f"{'POST' if body else 'GET'} {order['path']} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\n"
        f"Accept: application/json\r\nAuthorization: Bearer {order['token']}\r\n"
    )
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def run(order: dict[str, Any]) -> dict[str, float]:
    request = _request(order)
    poll = select.epoll()
    connections = {}
    for _ in range(order["connections"]):
        connection = Connection(order["port"], request)
        connections[connection.sock.fileno()] = connection
        poll.register(connection.sock.fileno(), select.EPOLLIN)
    began, cpu = time.perf_counter(), time.process_time()
    loop = _paced if order["rate"] else _as_often_as_possible
    latencies = loop(poll, connections, began, order["seconds"], order["rate"])
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {
        "answers": len(latencies),
        "seconds": seconds,
        "p50": quantile(latencies, 0.5),
        "p99": quantile(latencies, 0.99),
        "worst": max(latencies, default=0.0),
        "cpu": cpu,
    }


def _as_often_as_possible(
    poll: select.epoll, connections: dict[int, Connection], began: float, seconds: float, _rate: float
) -> list[float]:
    latencies = []
    for connection in connections.values():
        connection.ask(time.perf_counter())
    # One answer at least, however long it takes: none would be no figure.
    while time.perf_counter() < began + seconds or not latencies:
        for fd, _ in poll.poll(1):
            connection = connections[fd]
            if connection.answered():
                now = time.perf_counter()
                latencies.append(now - connection.due)
                connection.ask(now)
    return latencies


def _paced(
    poll: select.epoll, connections: dict[int, Connection], began: float, seconds: float, rate: float
) -> list[float]:
    latencies: list[float] = []
    idle = deque(connections.values())
    asked, total = 0, int(seconds * rate)
    while len(latencies) < total:
        while idle and asked < total and began + asked / rate <= time.perf_counter():
            idle.popleft().ask(began + asked / rate)
            asked += 1
        wait = max(0.0, began + asked / rate - time.perf_counter()) if idle and asked < total else 1.0
        for fd, _ in poll.poll(wait):
            connection = connections[fd]
            if connection.answered():
                latencies.append(time.perf_counter() - connection.due)
                idle.append(connection)
    return latencies


if __name__ == "__main__":
    print(json.dumps(run(json.loads(sys.stdin.read()))))
