"""`./dev bench`: runs the benchmarks and prints what they found; no number fails anything.

Every part is a process of its own. The API has the first core for itself, everything else shares the others.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import trio
from rich.console import Console

from tests.bench import (
    console,
    edge,
    ide,
    mailbox,
    memory,
    polling,
    provisioning,
    publish,
    servers,
    signins,
    startup,
    transfers,
)
from tests.bench.figures import Figure
from tests.bench.machine import machine, share_out_cores
from tests.bench.report import table
from tests.bench.scale import QUICK, Scale
from zlh.simulators.agents import allow_many_files

WIDTH = 140
"""Where the output is no terminal."""

Benchmark = Callable[[Scale], Awaitable[list[Figure]]]

BENCHMARKS: dict[str, tuple[Benchmark, str]] = {
    "servers": (servers.list_servers, "GET /api/servers: answers a second, latency, with and without polling"),
    "polling": (polling.poll_rounds, "processor time of polling 1,000 and 3,000 agents"),
    "mailbox": (mailbox.mailboxes, "asks a second through a mailbox; memory of 10,000 idle actors"),
    "memory": (memory.containers, "memory of the API per container, and its growth while it polls"),
    "startup": (startup.start, "from the start of the API to 1,000 observed containers"),
    "provisioning": (provisioning.provision, "50 containers asked for at once"),
    "publish": (publish.publish, "from a game that runs to one that can be played, through DNS and Traefik"),
    "edge": (edge.edge, "keeping 5,000 containers published at a name server: reconcile, 500 at once, one, none"),
    "signins": (signins.sign_ins, "sign-ins a second, what others feel meanwhile, the cost of a token"),
    "console": (console.consoles, "console lines a second to 1 and 100 viewers, and how late they come"),
    "ide": (ide.against_nginx, "processor time of the IDE proxy against nginx's (needs nginx-light and wrk)"),
    "transfers": (transfers.transfers, "files up and down beside nginx, the API's memory, and what others feel"),
}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    listed = "\n".join(f"  {name:13}{about}" for name, (_, about) in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="dev bench",
        description="Measures what the control plane costs, on real processes.",
        epilog=f"benchmarks:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", choices=BENCHMARKS, metavar="NAME", help="may be given repeatedly")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes the figures there too")
    parser.add_argument("--quick", action="store_true", help="small numbers: shows that it works, measures nothing")
    return parser.parse_args(arguments)


async def run(names: Sequence[str], scale: Scale, screen: Console) -> dict[str, list[Figure]]:
    found = {}
    for name in names:
        screen.print(f"{name}: {BENCHMARKS[name][1]} ...", style="dim")
        began = trio.current_time()
        found[name] = await BENCHMARKS[name][0](scale)
        screen.print(table(name, found[name], trio.current_time() - began))
    return found


def main() -> int:
    options = parse_arguments()
    allow_many_files()
    scale = dataclasses.replace(QUICK if options.quick else Scale(), api_core=share_out_cores())
    screen = Console(width=None if sys.stdout.isatty() else WIDTH)
    described = machine()
    screen.print(", ".join(f"{key} {value}" for key, value in described.items()))
    found = trio.run(run, options.only or list(BENCHMARKS), scale, screen)
    if options.json:
        document = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": described,
            "scale": dataclasses.asdict(scale),
            "figures": {name: [figure.as_dict() for figure in figures] for name, figures in found.items()},
        }
        options.json.write_text(json.dumps(document, indent=2) + os.linesep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
