"""Console viewers on raw sockets: they read all that comes, count lines, and look how old they are.

    python -m tests.bench.viewers

reads {"address", "port", "path", "token", "viewers", "warm", "seconds"} from standard input; after `warm` seconds it
counts for `seconds`. Writes {"lines" (of all viewers), "dropped" (said to be missing), "seconds", "p50", "p99",
"cpu"}. The age is that of the oldest line of each read, in seconds, since the agent wrote it.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from typing import Any

from tests.bench.figures import quantile
from tests.bench.talker import MARK, STAMP_DIGITS
from zlh.wire.frames import new_key

STAMP = re.compile(MARK.encode() + b"([0-9]{%d})" % STAMP_DIGITS)
MISSING = re.compile(rb"\[([0-9]+) lines are missing here\]")


def watch(order: dict[str, Any]) -> socket.socket:
    """Upgraded to a websocket."""
    sock = socket.create_connection((order["address"], order["port"]))
    sock.sendall(
        b"GET %b HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
        % (order["path"].encode(), order["token"].encode(), new_key())
    )
    head = sock.recv(65536)
    if not head.startswith(b"HTTP/1.1 101 "):
        raise ConnectionError(f"no console: {head[:200]!r}")
    return sock


def run(order: dict[str, Any]) -> dict[str, float]:
    poll = select.epoll()
    socks = {}
    for _ in range(order["viewers"]):
        sock = watch(order)
        socks[sock.fileno()] = sock
        poll.register(sock.fileno(), select.EPOLLIN)
    _read_until(time.monotonic() + order["warm"], poll, socks)
    began, cpu = time.monotonic(), time.process_time()
    lines, dropped, ages = _read_until(began + order["seconds"], poll, socks)
    return {
        "lines": lines,
        "dropped": dropped,
        "seconds": time.monotonic() - began,
        "p50": quantile(ages, 0.5),
        "p99": quantile(ages, 0.99),
        "cpu": time.process_time() - cpu,
    }


def _read_until(end: float, poll: select.epoll, socks: dict[int, socket.socket]) -> tuple[int, int, list[float]]:
    lines = dropped = 0
    mark = MARK.encode()
    ages = []
    while time.monotonic() < end:
        for fd, _ in poll.poll(max(0.0, end - time.monotonic())):
            data = socks[fd].recv(1 << 18)
            if not data:
                raise ConnectionError("a console was closed")
            lines += data.count(mark)
            stamp = STAMP.search(data)
            if stamp is not None:
                ages.append((time.monotonic_ns() - int(stamp[1])) / 1e9)
            if b"missing" in data:
                dropped += sum(map(int, MISSING.findall(data)))
    return lines, dropped, ages


if __name__ == "__main__":
    print(json.dumps(run(json.loads(sys.stdin.read()))))
