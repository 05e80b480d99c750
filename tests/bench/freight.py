"""An agent that moves bytes as fast as sockets do, from and to nowhere: nothing of it is Python's work but the heads.

    python -m tests.bench.freight

reads one JSON object {"address", "port"} from standard input, says that it is ready and serves until it is ended.
`GET /files/content?path=<n>` gives n bytes, `PUT /files/content` takes whatever comes; the polls find a running game.
"""

from __future__ import annotations

import json
import socket
import sys
import threading

PIECE = bytes(1 << 20)
POLLS = {
    b"/health": {"ok": True},
    b"/ready": {"ready": True},
    b"/status": {"state": "running", "crashCount": 0, "diskMb": 0},
    b"/version": {"version": "1.0.0"},
    b"/players": {"online": 0, "max": 20, "names": []},
}


def serve(sock: socket.socket) -> None:
    with sock:
        buffer = bytearray()
        space = memoryview(bytearray(1 << 20))
        while True:
            while (end := buffer.find(b"\r\n\r\n")) < 0:
                data = sock.recv(65536)
                if not data:
                    return
                buffer += data
            head, buffer = bytes(buffer[:end]), buffer[end + 4 :]
            method, target, _ = head.split(b"\r\n")[0].split(b" ")
            if target.startswith(b"/files/content"):
                if method == b"GET":
                    send(sock, int(target.rpartition(b"=")[2]))
                else:
                    receive(sock, length_of(head) - len(buffer), space)
                    buffer.clear()
                    sock.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            else:
                body = json.dumps(POLLS.get(target.partition(b"?")[0], {"error": "none"})).encode()
                status = b"200 OK" if target in POLLS else b"404 Not Found"
                sock.sendall(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))


def send(sock: socket.socket, size: int) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    while size:
        sent = min(size, len(PIECE))
        sock.sendall(memoryview(PIECE)[:sent])
        size -= sent


def receive(sock: socket.socket, left: int, space: memoryview) -> None:
    while left:
        got = sock.recv_into(space, min(left, len(space)))
        if not got:
            raise ConnectionError
        left -= got


def length_of(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


def quietly(sock: socket.socket) -> None:
    try:
        serve(sock)
    except OSError:
        pass


def main() -> None:
    order = json.loads(sys.stdin.readline())
    listener = socket.create_server((order["address"], order["port"]), backlog=256)
    print("{}", flush=True)
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=quietly, args=(sock,), daemon=True).start()


if __name__ == "__main__":
    main()
