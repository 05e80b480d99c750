"""A whole gateway on a loopback port, with the real Hypercorn behind it; in this process or in one of its own."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

from tests.gateway.behind import FakeConsoles, FakeDoorkeeper, Seen, make_app
from zlh.gateway import Gateway, Limits, serve, serve_app


@dataclass
class Running:
    gateway: Gateway
    seen: Seen
    doorkeeper: FakeDoorkeeper
    consoles: FakeConsoles
    upstream_socket: str

    @property
    def port(self) -> int:
        return self.gateway.address.port


def good_origin(origin: str) -> bool:
    return origin == "https://portal.example"


@asynccontextmanager
async def running(limits: Limits | None = None, **options: Any) -> AsyncIterator[Running]:
    with tempfile.TemporaryDirectory(prefix="zlh-gw-") as directory:
        path = f"{directory}/api.sock"
        seen, doorkeeper, consoles = Seen(), FakeDoorkeeper(), FakeConsoles()
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_app, make_app(seen), path, stop.wait)
            gateway = await nursery.start(
                partial(
                    serve,
                    "127.0.0.1",
                    0,
                    upstream_socket=path,
                    doorkeeper=doorkeeper,
                    consoles=consoles,
                    origin_allowed=good_origin,
                    limits=limits,
                    **options,
                )
            )
            yield Running(gateway, seen, doorkeeper, consoles, path)
            await gateway.drain(0.5)
            stop.set()


@asynccontextmanager
async def upstream_of(handler: Callable[[trio.SocketStream], Any]) -> AsyncIterator[str]:
    """A unix socket whose connections `handler` serves as it likes; its path."""
    with tempfile.TemporaryDirectory(prefix="zlh-gw-") as directory:
        path = f"{directory}/up.sock"
        sock = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
        await sock.bind(path)
        sock.listen(1024)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, handler, [trio.SocketListener(sock)])
            yield path
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def gateway_to(path: str, limits: Limits | None = None) -> AsyncIterator[int]:
    """A gateway alone, in front of that unix socket; its port."""
    async with trio.open_nursery() as nursery:
        gateway = await nursery.start(
            partial(
                serve,
                "127.0.0.1",
                0,
                upstream_socket=path,
                doorkeeper=FakeDoorkeeper(),
                consoles=FakeConsoles(),
                origin_allowed=good_origin,
                limits=limits,
            )
        )
        yield gateway.address.port
        nursery.cancel_scope.cancel()


async def main() -> None:
    """Serves until stdin ends; prints the address as JSON. For tests that measure a process of its own."""
    limits = Limits(**json.loads(sys.argv[1]))
    async with running(limits) as server:
        print(json.dumps({"port": server.port}), flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            if line == "stats\n":
                stats = server.gateway.stats()
                print(json.dumps({name: getattr(stats, name) for name in stats.__dataclass_fields__}), flush=True)
            elif line == "publish\n":
                server.consoles.publish("a line")


if __name__ == "__main__":
    trio.run(main)
