"""Moves a file of nothing once, down or up, as fast as it goes or at a pace.

    python -m tests.bench.mover

reads {"address", "port", "method", "path", "token", "bytes", "rate"} from standard input; `rate` in bytes a second,
0 for no limit. Writes {"seconds"}.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from typing import Any

PIECE = bytes(1 << 20)


def move(order: dict[str, Any]) -> float:
    """Seconds, from the request to the last byte of the answer. Raises ConnectionError."""
    up, left = order["method"] == "PUT", order["bytes"]
    head = (
        f"{order['method']} {order['path']} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {order['token']}\r\n"
        + (f"Content-Length: {left}\r\n" if up else "")
        + "\r\n"
    )
    with socket.create_connection((order["address"], order["port"])) as sock:
        began = time.perf_counter()
        sock.sendall(head.encode())
        if up:
            while left:
                size = min(left, len(PIECE))
                sock.sendall(memoryview(PIECE)[:size])
                left -= size
                keep_pace(order, left, began)
            answer_of(sock, b"204")
        else:
            left -= len(answer_of(sock, b"200"))
            space = memoryview(bytearray(1 << 20))
            while left:
                got = sock.recv_into(space, min(left, len(space)))
                if not got:
                    raise ConnectionError("closed in the middle of the file")
                left -= got
                keep_pace(order, left, began)
        return time.perf_counter() - began


def keep_pace(order: dict[str, Any], left: int, began: float) -> None:
    if order["rate"]:
        due = began + (order["bytes"] - left) / order["rate"]
        time.sleep(max(0.0, due - time.perf_counter()))


def answer_of(sock: socket.socket, status: bytes) -> bytes:
    """What came behind the answer's head."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = sock.recv(65536)
        if not data:
            raise ConnectionError("closed without an answer")
        answer += data
    head, _, rest = answer.partition(b"\r\n\r\n")
    if head.split(b" ")[1] != status:
        raise ConnectionError(f"the answer was {answer[:300]!r}")
    return rest


if __name__ == "__main__":
    print(json.dumps({"seconds": move(json.loads(sys.stdin.read()))}))
