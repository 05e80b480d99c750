"""Simulated agents for every running container of a simulated Proxmox, in one process.

    python -m zlh.simulators.agents --control-url http://127.0.0.1:P --data-dir D --bootstrap-token T

follows `GET <control-url>/containers?after=<version>`, prints one JSON line when its agents may be asked
(`{"control": "http://127.0.0.1:Q"}`), and ends with all its child processes on SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
from collections.abc import Sequence
from pathlib import Path

import httpx
import trio

from zlh.simulators.agent.control import Control
from zlh.simulators.agent.fleet import Fleet
from zlh.simulators.agent.http import listen, serve
from zlh.simulators.agent.machine import Durations

DEFAULTS = Durations()
LONG_POLL_SECONDS = 40.0
RETRY_SECONDS = 0.5


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="zlh.simulators.agents", description="Simulated agents")
    parser.add_argument("--control-url", required=True, help="the simulated Proxmox's control endpoint")
    parser.add_argument("--data-dir", required=True, type=Path, help="one directory per container")
    parser.add_argument("--bootstrap-token", required=True)
    parser.add_argument("--port", type=int, default=18888, help="where every agent listens on its own address")
    parser.add_argument("--control-port", type=int, default=0, help="of our own control endpoint; 0: a free one")
    parser.add_argument("--light", action="store_true", help="no child process for any container")
    parser.add_argument("--light-from", type=int, help="no child process for containers from this vmid on")
    parser.add_argument("--install-seconds", type=float, default=DEFAULTS.install)
    parser.add_argument("--start-seconds", type=float, default=DEFAULTS.start)
    parser.add_argument("--chatter-seconds", type=float, default=DEFAULTS.chatter)
    return parser.parse_args(arguments)


def allow_many_files() -> None:
    """Each agent has a listening socket and a connection or two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def follow(fleet: Fleet, control_url: str, *, task_status: trio.TaskStatus[None]) -> None:
    """Keeps the fleet in line; reports after the first list. A Proxmox that is away for a while changes nothing."""
    version = -1
    begun = False
    async with httpx.AsyncClient(base_url=control_url, timeout=LONG_POLL_SECONDS, trust_env=False) as client:
        while True:
            try:
                answer = await client.get("/containers", params={"after": version})
                answer.raise_for_status()
            except httpx.HTTPError:
                await trio.sleep(RETRY_SECONDS)
                continue
            news = answer.json()
            version = news["version"]
            await fleet.follow(news["containers"])
            if not begun:
                await fleet.settle()
                begun = True
                task_status.started()


async def run(options: argparse.Namespace) -> None:
    durations = Durations(
        install=options.install_seconds, start=options.start_seconds, chatter=options.chatter_seconds
    )
    listener = listen("127.0.0.1", options.control_port)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_on_signal, nursery.cancel_scope)
        fleet = Fleet(
            nursery,
            options.data_dir,
            options.bootstrap_token,
            port=options.port,
            durations=durations,
            light_from=0 if options.light else options.light_from,
        )
        nursery.start_soon(serve, listener, Control(fleet).answer)
        await nursery.start(follow, fleet, options.control_url)
        print(json.dumps({"control": f"http://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)


async def _end_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()
            return


def main() -> None:
    options = parse_arguments()
    allow_many_files()
    trio.run(run, options)


if __name__ == "__main__":
    main()
