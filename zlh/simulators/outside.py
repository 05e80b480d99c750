"""What a demo publishes to, in one process: a Technitium DNS server and a Velocity proxy with its bridge.

    python -m zlh.simulators.outside --zone zlh.example --technitium-port 5380 --technitium-token T \\
        --velocity-port 8081 --velocity-secret S --players 127.0.0.1:25565

Players who come to the proxy are passed on, byte by byte, to the first registered server that takes them: it asks for
no host name, unlike a real one with forced hosts.
"""

from __future__ import annotations

import argparse
import json
import signal
from functools import partial

import trio

from zlh.simulators.agent.http import listen
from zlh.simulators.technitium import Technitium
from zlh.simulators.velocity import SimulatedVelocity

CHUNK = 65536
CONNECT_SECONDS = 5.0


async def proxy(velocity: SimulatedVelocity, player: trio.SocketStream) -> None:
    """One player, for as long as both stay. Where nothing is registered, or it does not answer, it hangs up."""
    async with player:
        for _, (address, port) in sorted(velocity.registered.items()):
            try:
                with trio.fail_after(CONNECT_SECONDS):
                    server = await trio.open_tcp_stream(address, port)
            except (OSError, trio.TooSlowError):
                continue
            async with server, trio.open_nursery() as nursery:
                nursery.start_soon(_pass, player, server, nursery.cancel_scope)
                nursery.start_soon(_pass, server, player, nursery.cancel_scope)
            return


async def _pass(source: trio.SocketStream, target: trio.SocketStream, both: trio.CancelScope) -> None:
    """Until the source has nothing more to say; then neither has the other much to say to it."""
    try:
        while data := await source.receive_some(CHUNK):
            await target.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    both.cancel()


async def run(options: argparse.Namespace) -> None:
    technitium = Technitium(options.zone, options.technitium_token, options.technitium_port)
    velocity = SimulatedVelocity(options.velocity_secret, {"lobby": ("127.0.0.1", 1)})
    bridge = listen("127.0.0.1", options.velocity_port)
    host, _, port = options.players.rpartition(":")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(technitium.run)
        nursery.start_soon(velocity.run, bridge)
        await nursery.start(partial(trio.serve_tcp, partial(proxy, velocity), int(port), host=host))
        said = {"technitium": technitium.url, "velocity": f"http://127.0.0.1:{bridge.getsockname()[1]}"}
        print(json.dumps(said), flush=True)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            await anext(aiter(signals))
        nursery.cancel_scope.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m zlh.simulators.outside", description=__doc__)
    parser.add_argument("--zone", required=True)
    parser.add_argument("--technitium-port", type=int, default=0, help="0: a free one")
    parser.add_argument("--technitium-token", required=True)
    parser.add_argument("--velocity-port", type=int, default=0, help="0: a free one")
    parser.add_argument("--velocity-secret", required=True)
    parser.add_argument("--players", default="127.0.0.1:25565", help="where the proxy takes players")
    trio.run(run, parser.parse_args())


if __name__ == "__main__":
    main()
