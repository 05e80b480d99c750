"""Websocket messages through a relay and back: the program behind the relay and its clients in one process.

    python -m tests.bench.echoes

reads {"listen": [address, port]} from standard input, listens there and says so with a line. Each further line of
input {"port", "path", "cookie", "connections", "seconds"} makes it open so many websockets at 127.0.0.1; each of them
sends its next message when the last one came back, and answer with {"messages", "seconds", "cpu"}. Both ends in one
loop wake up once for many messages, so they keep a relay busy that has a core for itself.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from typing import Any

from zlh.wire.frames import Opcode, accept_key, client_frame, new_key, server_frame

MESSAGE = b"x" * 100
SENT = client_frame(Opcode.TEXT, MESSAGE)
ECHOED = server_frame(Opcode.TEXT, MESSAGE)


class Ends:
    """`clients` and `servers` hold, by file number, the open sockets and how much of a frame is still to come."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._poll = select.epoll()
        self._poll.register(listener, select.EPOLLIN)
        self._socks: dict[int, socket.socket] = {}
        self._clients: dict[int, int] = {}
        self._servers: dict[int, int] = {}
        self._messages = 0

    def run(self, order: dict[str, Any]) -> dict[str, float]:
        for _ in range(order["connections"]):
            self._open(order)
        began, cpu = time.monotonic(), time.process_time()
        self._messages = 0
        for fd in self._clients:
            self._socks[fd].sendall(SENT)
        while time.monotonic() < began + order["seconds"]:
            self._turn()
        found = {
            "messages": self._messages,
            "seconds": time.monotonic() - began,
            "cpu": time.process_time() - cpu,
        }
        self._close()
        return found

    def _turn(self) -> None:
        for fd, _ in self._poll.poll(1):
            if fd in self._clients:
                self._clients[fd] -= len(self._received(fd))
                if not self._clients[fd]:
                    self._clients[fd] = len(ECHOED)
                    self._messages += 1
                    self._socks[fd].sendall(SENT)
            elif fd in self._servers:
                self._servers[fd] -= len(self._received(fd))
                if not self._servers[fd]:
                    self._servers[fd] = len(SENT)
                    self._socks[fd].sendall(ECHOED)
            else:
                self._accept()

    def _received(self, fd: int) -> bytes:
        data = self._socks[fd].recv(65536)
        if not data:
            raise ConnectionError("a websocket was closed")
        return data

    def _open(self, order: dict[str, Any]) -> None:
        sock = socket.create_connection(("127.0.0.1", order["port"]))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(
            b"GET %b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nCookie: %b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
            % (order["path"].encode(), order["port"], order["cookie"].encode(), new_key())
        )
        self._accept()
        head = sock.recv(65536)
        if not head.startswith(b"HTTP/1.1 101 "):
            raise ConnectionError(f"no websocket: {head[:200]!r}")
        self._add(sock, self._clients, len(ECHOED))

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = sock.recv(65536)
        fields = (line.partition(b":") for line in head.split(b"\r\n"))
        keys = [value.strip() for name, _, value in fields if name.lower() == b"sec-websocket-key"]
        sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept_key(keys[0])
        )
        self._add(sock, self._servers, len(SENT))

    def _add(self, sock: socket.socket, ends: dict[int, int], size: int) -> None:
        self._socks[sock.fileno()] = sock
        ends[sock.fileno()] = size
        self._poll.register(sock, select.EPOLLIN)

    def _close(self) -> None:
        for sock in self._socks.values():
            self._poll.unregister(sock)
            sock.close()
        for each in (self._socks, self._clients, self._servers):
            each.clear()


def main() -> None:
    address, port = json.loads(sys.stdin.readline())["listen"]
    with socket.create_server((address, port), backlog=256) as listener:
        ends = Ends(listener)
        print("{}", flush=True)
        for line in sys.stdin:
            print(json.dumps(ends.run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
