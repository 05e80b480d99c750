"""The command line of `zlh demo`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DATA_DIR = Path(".zlh/demo")
MOST_FLEET = 20_000

ABOUT = """\
Runs the whole product on this machine: a private PostgreSQL, a simulated Proxmox VE cluster of two nodes, an agent
inside every container, a simulated Stripe, and the API. It makes a customer and an operator, orders a Minecraft
server and a dev container, shows how they come to life, and then keeps running until Ctrl-C, which leaves no process
behind.

Everything is kept in the data directory: a second run finds the same containers, accounts and passwords.
"""

MORE = """\
examples:
  ./dev demo                         look around; the summary shows what to try
  ./dev demo --once                  walk the whole main journey in half a minute, exit 0 or 1
  ./dev demo --fleet 1000            with a thousand more running containers, for load tests
  ./dev demo --port 0 --ready-file up.json
                                     for scripts: addresses, passwords and process ids, written once all is up

It listens on loopback addresses only. Logs of the parts are in <data-dir>/logs.
"""


@dataclass(frozen=True)
class Options:
    """`data_dir` None means a temporary one; `port` None the usual one, 0 any free one."""

    data_dir: Path | None
    port: int | None
    once: bool
    reset: bool
    fleet: int
    quick: bool
    ready_file: Path | None


def parse(arguments: Sequence[str]) -> Options:
    """Ends the program with status 2 and a message for what it does not understand."""
    parser = argparse.ArgumentParser(
        prog="zlh demo", description=ABOUT, epilog=MORE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="walk the main journey from sign-in to teardown, check that nothing is left, and exit; in a temporary "
        "data directory unless --data-dir is given",
    )
    parser.add_argument("--reset", action="store_true", help="forget what earlier runs left and start over")
    parser.add_argument("--data-dir", type=Path, metavar="D", help=f"where everything is kept (default: {DATA_DIR})")
    parser.add_argument(
        "--port", type=_port, metavar="N", help="of the API; 0 takes a free one (default: 8080, or a free one)"
    )
    parser.add_argument(
        "--fleet", type=_fleet, default=0, metavar="N", help="add N running containers with light simulated agents"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="clones, boots and installations take as little time as with --once; otherwise they can be watched",
    )
    parser.add_argument(
        "--ready-file",
        type=Path,
        metavar="F",
        help="write a JSON file there once all is up: url, users, proxmoxUrl, proxmoxControl, agentsControl, "
        "stripeUrl, vmids, zone, pids; it is gone when the demo ends",
    )
    given = parser.parse_args(arguments)
    if given.once and given.ready_file:
        parser.error("--once ends by itself: there is nothing to be ready for")
    folder = given.data_dir or (None if given.once else DATA_DIR)
    return Options(
        data_dir=folder,
        port=0 if given.once and given.port is None else given.port,
        once=given.once,
        reset=given.reset,
        fleet=given.fleet,
        quick=given.quick or given.once,
        ready_file=given.ready_file,
    )


def _port(text: str) -> int:
    return _number(text, 65535)


def _fleet(text: str) -> int:
    return _number(text, MOST_FLEET)


def _number(text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= most):
        raise argparse.ArgumentTypeError(f"a number from 0 to {most} expected, not {text!r}")
    return int(text)
