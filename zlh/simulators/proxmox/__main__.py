"""Runs the cluster until SIGTERM, SIGINT, or with --follow-stdin until the other end of stdin is closed.

Once it listens it prints one line of JSON: {"url", "control", "certificate"}, where `certificate` is the path of a
PEM file that is at once the node's certificate and its own authority. It is kept beside the state.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web
from cryptography import x509
from fakepve.certs import make_cert

from zlh.simulators.proxmox import state
from zlh.simulators.proxmox.control import Control, Register
from zlh.simulators.proxmox.host import DEV_TEMPLATE, GAME_TEMPLATE, Host, NodeSize

# Changes come in bursts: a look and a write for each burst.
_GATHER_SECONDS = 0.02
_WRITE_SECONDS = 0.1


def main() -> None:
    options = _options()
    asyncio.run(_run(options))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m zlh.simulators.proxmox", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="JSON file with everything that is remembered")
    parser.add_argument("--host", default="127.0.0.2", help="loopback address of the API and the control port")
    parser.add_argument("--port", type=int, default=8006, help="of the API; 0 takes a free one")
    parser.add_argument("--control-port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--node", action="append", type=_node, help="NAME or NAME:GIB, 64 GiB by default; repeatable")
    parser.add_argument("--time-scale", type=float, default=0.05, help="real seconds per Proxmox second")
    parser.add_argument("--password", default="secret", help="of root@pam")
    parser.add_argument("--token", action="append", default=[], type=_token, help="USER@REALM!NAME=UUID; repeatable")
    parser.add_argument("--certificate-out", type=Path, help="where to write the node's certificate (PEM)")
    parser.add_argument("--no-templates", action="store_true", help="start without templates 9000 and 9001")
    parser.add_argument("--follow-stdin", action="store_true", help="end when stdin is closed")
    return parser.parse_args()


def _node(text: str) -> NodeSize:
    name, _, gib = text.partition(":")
    return NodeSize(name, int(gib or 64) * 1024**3)


def _token(text: str) -> tuple[str, str]:
    token_id, separator, secret = text.rpartition("=")
    if not separator:
        raise argparse.ArgumentTypeError("expected USER@REALM!NAME=UUID")
    return token_id, secret


async def _run(options: argparse.Namespace) -> None:
    ended = asyncio.Event()
    _end_on_signals(ended, follow_stdin=options.follow_stdin)
    host = Host(
        options.node or [_node("pve1")],
        options.host,
        options.port,
        time_scale=options.time_scale,
        password=options.password,
        tokens=dict(options.token),
    )
    register = Register(host, _remembered(host, options))
    options.state.parent.mkdir(parents=True, exist_ok=True)
    certificate, key = _certificate(options.state.parent / "proxmox-certificate", options.host)
    if options.certificate_out is not None:
        shutil.copyfile(certificate, options.certificate_out)
    await host.start(str(certificate), str(key))
    await register.look()
    runner = web.AppRunner(Control(host, register).application(), access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, options.host, options.control_port)
    await site.start()
    control = f"http://{options.host}:{runner.addresses[0][1]}"
    keeping = asyncio.create_task(_keep(host, register, options.state))
    # A state that cannot be written ends the process, loudly, instead of being forgotten.
    keeping.add_done_callback(lambda _: ended.set())
    shown = str(options.certificate_out or certificate)
    print(json.dumps({"url": host.url, "control": control, "certificate": shown}), flush=True)
    await ended.wait()
    await runner.cleanup()
    await host.stop()
    if keeping.done():
        keeping.result()
    keeping.cancel()
    state.write(options.state, state.dump(host, register.version))


def _remembered(host: Host, options: argparse.Namespace) -> int:
    """Fills the host from the state, or with the templates; returns the version to go on from."""
    document = state.read(options.state)
    if document is not None:
        return state.load(host, document) + 1
    if not options.no_templates:
        host.add_template(GAME_TEMPLATE, "zlh-game-template")
        host.add_template(DEV_TEMPLATE, "zlh-dev-template")
    return 0


async def _keep(host: Host, register: Register, path: Path) -> None:
    """Looks after every burst of changes, and writes the state when it is different."""
    dirty = asyncio.Event()
    host.changed = dirty.set
    while True:
        await dirty.wait()
        dirty.clear()
        await asyncio.sleep(_GATHER_SECONDS)
        await register.look()
        state.write(path, state.dump(host, register.version))
        await asyncio.sleep(_WRITE_SECONDS - _GATHER_SECONDS if dirty.is_set() else 0)


def _end_on_signals(ended: asyncio.Event, *, follow_stdin: bool) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    if follow_stdin:
        loop.add_reader(sys.stdin.fileno(), _end_at_eof, ended)


def _end_at_eof(ended: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        ended.set()


def _certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """The kept certificate and key, or new ones where they are missing, for another address, or near their end."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = folder / f"{host}.crt", folder / f"{host}.key"
    if certificate.exists() and key.exists():
        until = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
        if until > datetime.now(UTC) + timedelta(days=7):
            return certificate, key
    make_cert(str(folder), name=host, hosts=(host,))
    return certificate, key


if __name__ == "__main__":
    main()
