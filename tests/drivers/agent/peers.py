"""Peers that say whatever a test wants."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio


class Peer:
    """A TCP server that handles each connection with `talk`; `connections` counts them."""

    def __init__(self, talk: Callable[[trio.SocketStream], Awaitable[None]]) -> None:
        self._talk = talk
        self.connections = 0
        self.port = 0

    async def run(self, *, task_status: trio.TaskStatus[Peer]) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started(self)
        await trio.serve_listeners(self._serve, listeners)

    async def _serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        async with stream:
            try:
                await self._talk(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return


def answering(*answers: bytes) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """Gives these answers, one to a request, then closes."""

    async def talk(stream: trio.SocketStream) -> None:
        for answer in answers:
            if not await stream.receive_some():
                return
            await stream.send_all(answer)

    return talk


def ok(body: bytes = b'{"ok": true}', *, head: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"%b\r\nContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
