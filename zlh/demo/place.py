"""The demo's folder: what a second run must find again, and the lock that keeps two demos apart."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import socket
import string
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from zlh.store.embedded import EmbeddedPostgres

PROXMOX_PORT, CONTROL_PORT, AGENT_PORT = 8006, 8007, 18888
USUAL_PORT = 8080
# Second octets of 127.x.0.0/16 that a demo may take; tests and other programs live in the first few.
FIRST_BLOCK, BLOCKS = 32, 192
OURS = (
    *("postgres", "postgres.new", "postgres.lock", "proxmox.json", "proxmox.json.new", "proxmox-certificate"),
    *("proxmox.pem", "agents", "logs", "master.key", "catalog.json", "demo-mail", "demo.json", "traefik.json"),
    *("stripe.json", "stripe.new"),
)


class PlaceError(Exception):
    """The folder or a port cannot be used; the message is for people."""


def _password() -> str:
    """Letters and digits, so that a shell and a double click take it as one word."""
    alphabet = string.ascii_lowercase + string.digits
    return "-".join("".join(secrets.choice(alphabet) for _ in range(5)) for _ in range(2))


def _token() -> str:
    """Hexadecimal: on a command line, a token that begins with a hyphen would be an option."""
    return secrets.token_hex(24)


@dataclass(frozen=True)
class Secrets:
    """What stays the same from run to run. `block` is the second octet of every address but the API's. What has a
    default was not there from the beginning: a folder of before gets it in its next run."""

    block: int
    port: int
    customer_password: str
    operator_password: str
    friend_password: str
    fleet_password: str
    bootstrap_token: str
    proxmox_secret: str
    newcomer_password: str = field(default_factory=_password)
    stripe_key: str = field(default_factory=_token)
    stripe_webhook_secret: str = field(default_factory=_token)
    stripe_port: int = 0


@dataclass(frozen=True)
class Place:
    """Where everything of one demo is. Addresses: .0.2 is Proxmox, .0.3 Velocity, .0.4 Traefik, .1.0 to .127.255 are
    containers that are asked for, from .128.0 on those of the fleet."""

    folder: Path
    secrets: Secrets
    found: bool

    @property
    def network(self) -> str:
        return f"127.{self.secrets.block}"

    @property
    def proxmox_host(self) -> str:
        return f"{self.network}.0.2"

    @property
    def players_host(self) -> str:
        return f"{self.network}.0.3"

    @property
    def routes_host(self) -> str:
        return f"{self.network}.0.4"

    @property
    def proxmox_url(self) -> str:
        return f"https://{self.proxmox_host}:{PROXMOX_PORT}"

    @property
    def proxmox_control(self) -> str:
        return f"http://{self.proxmox_host}:{CONTROL_PORT}"

    @property
    def certificate(self) -> Path:
        return self.folder / "proxmox.pem"

    @property
    def mail(self) -> Path:
        """Where the demo's e-mail goes, a file for each message."""
        return self.folder / "demo-mail"

    @property
    def address_pool(self) -> str:
        return f"{self.network}.1.1-{self.network}.32.254"

    def fleet_address(self, index: int) -> str:
        return f"{self.network}.{128 + index // 254}.{1 + index % 254}"

    def log(self, key: str) -> Path:
        return self.folder / "logs" / f"{key}.log"


@contextmanager
def open_place(folder: Path, *, reset: bool, port: int | None) -> Iterator[Place]:
    """Holds the folder for as long as the block lasts. `port` None means: the one of the last run, the usual one, or
    a free one; 0: a free one. Raises PlaceError."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "demo.lock", "a+") as lock:
        _take(lock.fileno(), folder)
        if reset:
            _clear(folder)
        kept = _read(folder / "demo.json")
        chosen = kept or _fresh(folder)
        chosen = replace(chosen, port=_port(port, chosen.port), stripe_port=_same_port(chosen.stripe_port))
        _write(folder / "demo.json", chosen)
        shutil.rmtree(folder / "logs", ignore_errors=True)
        yield Place(folder, chosen, kept is not None)
        os.ftruncate(lock.fileno(), 0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _take(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        raise PlaceError(
            f"a demo is running on {folder} already (process {holder}); end it, or take another --data-dir"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def _clear(folder: Path) -> None:
    """Only what is the demo's own: the folder is whatever somebody typed."""
    if (folder / "postgres" / "postmaster.pid").exists():
        # A server that survived its demo must not find its files gone.
        server = EmbeddedPostgres(folder)
        server.start()
        server.stop()
    for name in OURS:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _fresh(folder: Path) -> Secrets:
    return Secrets(
        block=_free_block(folder),
        port=USUAL_PORT,
        customer_password=_password(),
        operator_password=_password(),
        friend_password=_password(),
        fleet_password=_password(),
        bootstrap_token=_token(),
        proxmox_secret=str(uuid.uuid4()),
    )


def _free_block(folder: Path) -> int:
    begin = zlib.crc32(os.fsencode(folder.resolve()))
    for offset in range(BLOCKS):
        block = FIRST_BLOCK + (begin + offset) % BLOCKS
        if _free(f"127.{block}.0.2", PROXMOX_PORT) and _free(f"127.{block}.0.2", CONTROL_PORT):
            return block
    raise PlaceError("no loopback addresses are free for Proxmox and the containers")


def _same_port(last: int) -> int:
    """Of pages that may still be open in a browser."""
    return last if last and _free("127.0.0.1", last) else free_port()


def _port(wanted: int | None, last: int) -> int:
    if wanted:
        if not _free("127.0.0.1", wanted):
            raise PlaceError(f"port {wanted} is in use; name another with --port, or 0 for a free one")
        return wanted
    if wanted is None:
        for port in (last, USUAL_PORT):
            if _free("127.0.0.1", port):
                return port
    return free_port()


def _free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _read(path: Path) -> Secrets | None:
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return None
    try:
        return Secrets(**json.loads(text))
    except (ValueError, TypeError):
        raise PlaceError(f"{path} was not written by this version of the demo; start over with --reset") from None


def _write(path: Path, chosen: Secrets) -> None:
    write_json(path, asdict(chosen))


def write_json(path: Path, document: object) -> None:
    """As a whole, readable by its owner alone: it holds passwords."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    os.replace(draft, path)
